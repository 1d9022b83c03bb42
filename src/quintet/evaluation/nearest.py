"""The training item that is nearest to each of some samples: what a copy would be a copy of."""

from __future__ import annotations

from typing import Any

import torch
from scipy.spatial.distance import cdist

from quintet.evaluation.bench import Bench
from quintet.model.fitted import Fitted

NEIGHBOURS_SHOWN = 10


def nearest_shown(model: Fitted, bench: Bench, n: int = NEIGHBOURS_SHOWN) -> dict[str, Any]:
    """The first samples of seed 0, each with its nearest training item in the bench's features, as a report shows
    them: a picture whose second row holds the training items, or rows.
    """
    drawn = bench.drawn(model, n)
    made = bench.measure(drawn)[:n]
    distances = cdist(bench.features(made), bench.seen)
    places = distances.argmin(1)
    samples = bench.codec.decode(torch.from_numpy(made)) if bench.codec.stream else drawn  # a text is many windows
    near = bench.raw("train", places)
    return bench.modality.pairs(samples, near, distances.min(1).tolist(), bench.codec)
