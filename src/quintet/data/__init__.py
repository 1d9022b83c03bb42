"""Raw items, splits, the cache and the loader, whatever kind the items are of."""
