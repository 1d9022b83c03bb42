"""A fitted family on raw items."""
