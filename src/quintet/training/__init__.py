"""The trainer, optimisers, budgets and checkpoints."""
