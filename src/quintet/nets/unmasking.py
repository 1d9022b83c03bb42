"""Which symbols each step of masked diffusion writes, and which it masks again."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Remask = Literal["none", "cap", "rescale", "loop"]


def apart(order: Tensor, masked: Tensor, steps: Tensor, shared: Tensor | None) -> Tensor:
    """(B, L) the step of each masked symbol, as many a step as another; -1 for the others.

    Symbols are taken by `order` (B, L) in [0, 1). Where `shared` (L, L) says how many nats two of them share, each goes
    to the step with room whose symbols it shares least with: one step's are drawn as if they were independent. The last
    few have little choice, so that this is tried from either end, and the better try kept.
    """
    unknown = masked.sum(1, keepdim=True)
    if shared is None:
        ranked = order.masked_fill(~masked, 2).argsort(1)
        return (ranked.argsort(1) * steps // unknown.clamp_min(1)).masked_fill(~masked, -1)
    ends = torch.arange(int(steps.max()) + 1, device=order.device) * unknown // steps.clamp_min(1)
    rooms = ends.minimum(unknown).diff(dim=1)

    def attempt(order: Tensor) -> tuple[Tensor, Tensor]:
        """The step of each symbol, and the nats (B, 1) that symbols of one step share."""
        ranked, room = order.masked_fill(~masked, 2).argsort(1), rooms
        when, total = torch.full_like(ranked, -1), torch.zeros(len(room), 1).to(shared)
        for i in range(int(unknown.max())):
            at, there = ranked[:, i : i + 1], i < unknown
            nats = (
                torch.zeros(len(room), room.shape[1] + 1).to(shared).scatter_add(1, when + 1, shared[at[:, 0]])[:, 1:]
            )
            nats = nats.masked_fill(room < 1, torch.inf)
            least, step = nats.min(1, keepdim=True)
            total = total + torch.where(there, least, 0)
            when = when.scatter(1, at, torch.where(there, step, when.gather(1, at)))
            room = room.scatter_add(1, step, -there.long())
        return when, total

    (first, nats), (second, fewer) = attempt(order), attempt(1 - order)
    return torch.where(fewer < nats - 1e-6, second, first)


def first_of(wanted: Tensor) -> Tensor:
    """(B, L) bool -> (B, most) the positions of each row that are wanted, before others up to the most of any row."""
    return (~wanted).long().argsort(dim=1, stable=True)[:, : int(wanted.sum(1).max())]


def lowest(score: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """(B, L) bool: in each row the `count` (B, 1) of `among` (B, L) with the lowest score."""
    return (score.masked_fill(~among, torch.inf).argsort(1).argsort(1) < count) & among


class Schedule:
    """How many symbols each step writes, and how many of those written before it masks again: ReMDM (Wang et al. 2025,
    arXiv:2503.00307), of whose reverse process from t to s,

        q(z_s | z_t, x) = Cat((1 - sigma) x + sigma m)                                                z_t = x
                          Cat((a_s - (1 - sigma) a_t) / (1 - a_t) x + (1 - a_s - sigma a_t) / (1 - a_t) m)    z_t = m,

    these are the expectations: sigma a_t of the symbols go, and a_s - (1 - sigma) a_t come, so that a_s are there, as
    without remasking. That bounds sigma by (1 - a_s) / a_t. a is the share of the unknown symbols that are written; a
    row of `unknown` (B, 1) symbols has floor(a * unknown), and masks one again when sigma a_t adds up to a whole one.
    """

    ON, OFF, HELD = 0.55, 0.05, 0.9  # of `loop`: the times between which a is held, and where (section 4.2)

    def __init__(self, steps: Tensor, remask: Remask, eta: float, unknown: Tensor) -> None:
        self.remask, self.eta, self.unknown = remask, eta, unknown
        self.steps = steps * (unknown > 0) if remask != "none" else unknown.minimum(steps)  # (B, 1): a row's own
        self.owed = torch.zeros_like(unknown, dtype=torch.float64)

    def times(self, step: int) -> Tensor:
        """(B, 2) the share of its steps that a row has behind it before and after this one."""
        ends = torch.tensor([step, step + 1], dtype=torch.float64, device=self.unknown.device)
        return (ends / self.steps.clamp_min(1)).clamp_max(1)

    def share(self, at: Tensor) -> Tensor:
        """a, after a share `at` of the steps."""
        if self.remask != "loop":
            return at
        up, down = at / (1 - self.ON) * self.HELD, 1 - (1 - at) / self.OFF * (1 - self.HELD)
        return torch.maximum(up.clamp_max(self.HELD), down)

    def sigma(self, step: int, a: Tensor, after: Tensor) -> Tensor:
        """The share of the written symbols, of which `a` of all become `after`, that is masked again."""
        most = ((1 - after) / a.clamp_min(1e-9)).clamp(0, 1)
        if self.remask == "rescale":
            return self.eta * most
        eta = self.eta * (a == after) if self.remask == "loop" else torch.full_like(a, self.eta)
        return torch.minimum(eta, most)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, 1) symbols that this step writes, and (B, 1) that it masks again."""
        a, after = self.share(self.times(step)).split(1, 1)
        here, there = ((share * self.unknown + 1e-6).long() for share in (a, after))
        if self.remask == "none":
            return there - here, torch.zeros_like(here)
        self.owed = self.owed + self.sigma(step, a, after) * here
        hidden = torch.minimum(self.owed.long(), torch.minimum(here, self.unknown - there))
        self.owed = self.owed - hidden
        return there - here + hidden, hidden
