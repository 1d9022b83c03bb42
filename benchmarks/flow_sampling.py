"""Time to draw 4,096 samples of 43 dimensions from an autoregressive spline flow: quintet, zuko and nflows in one run.

    python benchmarks/flow_sampling.py [--threads N] [--rounds N]

Five layers, two hidden layers of 256, eight bins, random weights. The peers invert with one full pass a dimension;
quintet computes each hidden unit once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from race import OURS, Work, arguments, keep, present, race, shake
from torch import nn

from quintet.core.spaces import Continuous
from quintet.families.flow import Flow

N, DIMS, LAYERS, WIDTH, DEPTH, BINS = 4096, 43, 5, 256, 2, 8


def drawing(module: nn.Module, draw: Callable[[], torch.Tensor]) -> Work:
    """Samples of a flow, which must be finite."""
    shake(module.eval())

    def work() -> None:
        with torch.no_grad():
            x = draw()
        if tuple(x.shape) != (N, DIMS) or not bool(torch.isfinite(x).all()):
            raise RuntimeError(f"bad samples of shape {tuple(x.shape)}")

    return work


def ours() -> Work:
    settings = Flow.Settings(
        kind="autoregressive", transform="spline", layers=LAYERS, width=WIDTH, depth=DEPTH, bins=BINS, dropout=0
    )
    flow = Flow(Continuous((DIMS,)), None, settings)
    return drawing(flow, lambda: flow.sample(N))


def zukos() -> Work:
    import zuko

    flow = zuko.flows.NSF(DIMS, transforms=LAYERS, bins=BINS, hidden_features=[WIDTH] * DEPTH)
    return drawing(flow, lambda: flow().sample((N,)))


def nflows() -> Work:
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
    flow = Peer(CompositeTransform(steps), StandardNormal([DIMS]))
    return drawing(flow, lambda: flow.sample(N))


def main() -> None:
    args = arguments(__doc__, rounds=3).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    works = present({OURS: ours, "zuko": zukos, "nflows": nflows})
    row = {"case": f"{N:,} x {DIMS}", **race(works, args.rounds)}
    title = f"Sampling an autoregressive spline flow, {LAYERS} layers, {WIDTH} x {DEPTH}, {BINS} bins"
    keep("flow_sampling", title, [row], ["zuko", "nflows"], threads=args.threads)


if __name__ == "__main__":
    main()
