"""A training step of a spline coupling flow: quintet, nflows, zuko and normflows in one run.

    python benchmarks/spline_step.py [--threads N] [--rounds N] [--dims 6,43,63] [--batches 512,4096]

Five couplings, each with two hidden layers of 256 and eight bins, random weights, no dropout. A step is the loss, its
gradient and an update by Adam.
"""

from __future__ import annotations

import torch
from race import OURS, Work, arguments, keep, present, race, shake
from torch import nn

LAYERS, WIDTH, DEPTH, BINS, BOX = 5, 256, 2, 8, 5.0


def stepping(module: nn.Module, loss: Work) -> Work:
    """A step of Adam on what `loss` gives."""
    optimiser = torch.optim.Adam(shake(module).parameters(), 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[attr-defined]
        optimiser.step()

    return step


def quintets(x: torch.Tensor) -> Work:
    from quintet.core.family import Batch
    from quintet.core.spaces import Continuous
    from quintet.families.flow import Flow

    settings = Flow.Settings(kind="coupling", transform="spline", layers=LAYERS, width=WIDTH, depth=DEPTH, bins=BINS,
                             box=BOX, dropout=0)  # fmt: skip
    flow = Flow(Continuous((x.shape[1],)), None, settings)
    flow.initialise(Batch(x, None, None))
    return stepping(flow, lambda: flow.loss(Batch(x, None, None)).value)


def zukos(x: torch.Tensor) -> Work:
    import zuko

    dims = x.shape[1]
    flow = zuko.flows.NSF(dims, transforms=LAYERS, bins=BINS, hidden_features=[WIDTH] * DEPTH, passes=2)
    return stepping(flow, lambda: -flow().log_prob(x).mean())


def nflows(x: torch.Tensor) -> Work:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow as Peer
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import (
        CompositeTransform,
        PiecewiseRationalQuadraticCouplingTransform,
        RandomPermutation,
    )
    from nflows.utils.torchutils import create_alternating_binary_mask

    dims = x.shape[1]
    steps: list[nn.Module] = []
    for i in range(LAYERS):
        steps.append(RandomPermutation(dims))
        steps.append(
            PiecewiseRationalQuadraticCouplingTransform(
                mask=create_alternating_binary_mask(dims, even=i % 2 == 0),
                transform_net_create_fn=lambda a, b: ResidualNet(a, b, hidden_features=WIDTH, num_blocks=1),
                num_bins=BINS, tails="linear", tail_bound=BOX,
            )
        )  # fmt: skip
    flow = Peer(CompositeTransform(steps), StandardNormal([dims]))
    return stepping(flow, lambda: -flow.log_prob(x).mean())


def normflows(x: torch.Tensor) -> Work:
    import normflows as nf

    dims = x.shape[1]
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers.append(nf.flows.CoupledRationalQuadraticSpline(dims, DEPTH - 1, WIDTH, num_bins=BINS, tail_bound=BOX))
        layers.append(nf.flows.LULinearPermute(dims))
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dims, trainable=False), layers)
    return stepping(flow, lambda: flow.forward_kld(x))


def main() -> None:
    parser = arguments(__doc__, rounds=15)
    parser.add_argument("--dims", default="6,43,63")
    parser.add_argument("--batches", default="512,4096")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for batch in map(int, args.batches.split(",")):
        for dims in map(int, args.dims.split(",")):
            torch.manual_seed(0)
            x = torch.randn(batch, dims)
            makers = {OURS: quintets, "nflows": nflows, "zuko": zukos, "normflows": normflows}
            works = present({name: (lambda make=make, x=x: make(x)) for name, make in makers.items()})
            rows.append({"case": f"{dims} numbers, batch {batch}", **race(works, args.rounds)})
    title = f"Training step of a spline coupling flow, {LAYERS} layers, {WIDTH} x {DEPTH}, {BINS} bins"
    keep("spline_step", title, rows, ["nflows", "zuko", "normflows"], threads=args.threads)


if __name__ == "__main__":
    main()
