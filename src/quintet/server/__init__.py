"""The operations over HTTP: guards, one queue a model, answers in the format that a client accepts."""
