"""Time to draw 4,096 samples of 43 dimensions from an autoregressive spline flow: quintet, zuko and nflows in one run.

    python benchmarks/flow_sampling.py [--threads N] [--repeats N]

Five layers, two hidden layers of 256, eight bins, random weights. The peers invert with one full pass a dimension;
quintet computes each hidden unit once. Runs are interleaved, several of ours to one of theirs, and medians compared, so
that a change in the machine's load meets all alike. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from quintet.core.spaces import Continuous
from quintet.families.flow import Flow

N, DIMS, LAYERS, WIDTH, DEPTH, BINS = 4096, 43, 5, 256, 2, 8
OURS_PER_THEIRS = 5

Draw = Callable[[], torch.Tensor]


def ours() -> Draw:
    settings = Flow.Settings(
        kind="autoregressive", transform="spline", layers=LAYERS, width=WIDTH, depth=DEPTH, bins=BINS, dropout=0
    )
    flow = Flow(Continuous((DIMS,)), None, settings).eval()
    shake(flow)
    return lambda: flow.sample(N)


def zukos() -> Draw:
    import zuko

    flow = zuko.flows.NSF(DIMS, transforms=LAYERS, bins=BINS, hidden_features=[WIDTH] * DEPTH).eval()
    return lambda: flow().sample((N,))


def nflows() -> Draw:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow as Peer
    from nflows.transforms import (
        CompositeTransform,
        MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
        ReversePermutation,
    )

    steps: list[nn.Module] = []
    for _ in range(LAYERS):
        steps.append(ReversePermutation(features=DIMS))
        steps.append(
            MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                features=DIMS,
                hidden_features=WIDTH,
                num_blocks=DEPTH,
                use_residual_blocks=False,
                num_bins=BINS,
                tails="linear",
                tail_bound=5.0,
            )
        )
    flow = Peer(CompositeTransform(steps), StandardNormal([DIMS])).eval()
    return lambda: flow.sample(N)


def shake(module: nn.Module) -> None:
    """Move the weights off zero, so that no shortcut of zeros is timed."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.02 * torch.randn_like(p))


@torch.no_grad()
def seconds(draw: Draw) -> float:
    start = time.perf_counter()
    x = draw()
    elapsed = time.perf_counter() - start
    if tuple(x.shape) != (N, DIMS) or not bool(torch.isfinite(x).all()):
        raise RuntimeError(f"bad samples of shape {tuple(x.shape)}")
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3, help="of each peer")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    mine, peers = ours(), {}
    for name, build in {"zuko": zukos, "nflows": nflows}.items():
        try:
            peers[name] = build()
        except ImportError:
            continue
    times: dict[str, list[float]] = {"quintet": [], **{name: [] for name in peers}}
    seconds(mine)  # warm-up
    for _ in range(args.repeats):
        for name, draw in peers.items():
            times["quintet"] += [seconds(mine) for _ in range(OURS_PER_THEIRS)]
            times[name].append(seconds(draw))
    median = {name: statistics.median(values) for name, values in times.items()}
    print(
        json.dumps(
            {
                "benchmark": f"sample {N} x {DIMS}, {LAYERS} masked spline layers {WIDTH}x{DEPTH}, {BINS} bins",
                "seconds": {name: round(value, 3) for name, value in median.items()},
                "runs": {name: len(values) for name, values in times.items()},
                "ratio": {name: round(median[name] / median["quintet"], 1) for name in peers},
                "threads": args.threads,
                "load": round(os.getloadavg()[0], 1),
                "machine": f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores",
                "versions": {name: importlib.metadata.version(name) for name in ("torch", *peers)},
                "date": datetime.date.today().isoformat(),
            }
        )
    )


if __name__ == "__main__":
    main()
