"""Planted anomalies: items whose halves are real and do not belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from quintet.data.recordings import Recordings


def splice(items: Any) -> Any:
    """Each item's first half with the second half of the item half the list further on.

    Images are cut across the middle, tables between columns, texts and recordings in the middle of each. Marginal
    distributions of the halves stay what they are, so that only a model that knows how they belong together can tell.
    """
    n = len(items)
    other = (np.arange(n) + max(1, n // 2)) % n
    if isinstance(items, pa.Table):
        half = items.num_columns // 2
        first, second = items.select(range(half)), items.select(range(half, items.num_columns)).take(pa.array(other))
        return pa.Table.from_arrays([*first.columns, *second.columns], schema=items.schema)
    if isinstance(items, Recordings):
        return Recordings([halves(items[i], items[int(j)], np.concatenate) for i, j in enumerate(other)], items.rate)
    if isinstance(items, np.ndarray):
        half = items.shape[1] // 2
        return np.concatenate([items[:, :half], items[other][:, half:]], 1)
    return [halves(items[i], items[j], "".join) for i, j in enumerate(other.tolist())]


def halves(a: Any, b: Any, join: Any) -> Any:
    """The first half of a, then the second half of b."""
    return join([a[: len(a) // 2], b[len(b) // 2 :]])
