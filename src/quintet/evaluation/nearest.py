"""The training item that is nearest to each of some samples: what a copy would be a copy of."""

from __future__ import annotations

from typing import Any

import torch
from scipy.spatial.distance import cdist

from quintet.evaluation.bench import Bench
from quintet.model.model import Model
from quintet.sources.load import take

SHOWN = 10


def nearest(model: Model, bench: Bench, n: int = SHOWN) -> dict[str, Any]:
    """The first samples of seed 0, each with its nearest training item in the bench's features, as a report shows
    them: a picture whose second row holds the training items, or rows.
    """
    drawn, train = bench.drawn(model, n), bench.items["train"]
    made = bench.measure(drawn)[:n]
    distances = cdist(bench.features(made), bench.seen)
    places = distances.argmin(1)
    if bench.codec.stream:  # a text is many windows
        samples, near = (bench.codec.decode(torch.from_numpy(items)) for items in (made, train[places]))
    else:
        samples, near = drawn, take(bench.rows("train"), places)
    return bench.modality.pairs(samples, near, distances.min(1).tolist(), bench.codec)
