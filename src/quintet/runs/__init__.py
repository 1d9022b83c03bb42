"""The run folder: configuration, task, weights, card and advice."""
