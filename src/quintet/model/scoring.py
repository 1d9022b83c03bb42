"""The likelihood of encoded items, in batches, and what is to be said of it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from quintet.core.checked import count_of
from quintet.core.codec import Codec, Encoded
from quintet.core.family import Family
from quintet.core.likelihood import LikelihoodKind, LogProb
from quintet.core.random import seed_of
from quintet.core.spaces import Continuous
from quintet.model.calls import Call, Engine, asked


def scored(
    engine: Engine, family: Family, codec: Codec, found: Encoded, cond: Tensor | None, seed: int, batch_size: int
) -> LogProb:
    """The log-likelihood of encoded items, given a condition a row; without notes."""
    space = codec.measure
    assert family.likelihood != "none"
    seed, batch_size = count_of(seed, "seed", 0), count_of(batch_size, "batch_size")
    family.space.check(found.x)
    kind: LikelihoodKind = family.likelihood
    quantised = isinstance(family.space, Continuous) and family.space.quantised and not family.masses
    given, n = {"x": found.x, "cond": cond}, len(found.x)
    if found.overlapping:
        assert found.counted is not None
        (each,), stderr = asked(engine, Call("log_prob_each", n, given), batch_size), None
        assert each is not None
        value: Tensor | None = each.double().masked_fill(~found.counted, 0.0).sum(1)
    else:
        seeds = seed_of("dequantise", seed), seed_of("score", seed)
        value, stderr = asked(engine, Call("log_prob", n, given, seeds), batch_size)
    assert value is not None
    nats = value.double() + found.log_det
    if quantised and space == "mass":
        space = "dequantised"
    elif quantised and space == "encoded" and kind == "exact":
        kind = "bound"  # a density over the cells of what the codec keeps, as "dequantised" is of raw items
    if not found.overlapping and found.share is not None:
        nats, kind = nats * found.share, "estimate" if bool((found.share < 1).any()) else kind
        stderr = None if stderr is None else stderr.double() * found.share
    if stderr is not None and found.rows is not None:
        stderr = found.total(stderr.square()).sqrt()
    return LogProb(found.total(nats), kind, space, codec.dims, stderr, found.lengths, identity=found.identity)


def in_pieces(found: Encoded) -> list[str] | None:
    """What is to be said of each item that is scored, also that it is scored in pieces."""
    if found.notes is None or found.counted is None or found.rows is None:
        return None if found.notes is None else list(found.notes)
    size, out = found.counted.shape[1], []
    ends = found.rows.cumsum(0) - 1
    for note, rows, end in zip(found.notes, found.rows.tolist(), ends.tolist(), strict=True):
        told = [note] if note else []
        if rows > 1:
            told.append(f"longer than {size} symbols, scored in {'overlapping ' if found.overlapping else ''}pieces")
            if not found.overlapping and (last := int(found.counted[end].sum())) < size:
                told.append(f"its last {last} symbols count by their share of a window")
        out.append("; ".join(told))
    return out


def by_symbol(found: LogProb) -> np.ndarray:
    """(B,) nats a symbol."""
    lengths = found.dims if found.lengths is None else found.lengths.double()
    return (found.values / lengths).numpy()
