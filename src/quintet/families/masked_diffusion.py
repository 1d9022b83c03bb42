"""Masked diffusion over symbols: hide some, predict them from the rest (MDLM, Sahoo et al. 2024, arXiv:2406.07524)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, quantile, spread, uniform
from quintet.core.spaces import Discrete, Space
from quintet.nets.conditioning import conditioner, tell, widths
from quintet.nets.given import Given, How
from quintet.nets.symbols import Backbone, Choice, Ranks, choose, guide
from quintet.nets.unmasking import Remask, Schedule, apart, first_of, lowest

STEPS, FEW = 64, 256
"""Steps of sampling; and columns of which it is found out, before, how much they depend on each other."""


class MaskedDiffusion(Family):
    """A Transformer that sees all positions, over the flattened symbols of a Discrete space and one more, the mask.

    Forward, each symbol is masked by time t with probability t (log-linear schedule); a masked one stays so. The bound

        -log p(x) <= int_0^1 1/t E sum_masked -log p(x_i | the symbols not masked) dt
                   = E_{k ~ U{1 ... D}} D/k E_{k of D masked} sum_masked -log p(x_i | the symbols not masked)

    (the integral over t of Binomial(D, t) masks is done: what is left is the any-order bound of Uria et al. 2014 and of
    Ou et al. 2024, arXiv:2406.03736). loss is that over D: the mean cross-entropy of k masked symbols, k spread evenly
    over the batch. The net is not told t: the best prediction does not depend on it. Symbols that a position does not
    allow have probability 0; symbols that are not masked are kept.
    """

    class Settings(Backbone):
        condition: How = "vector"
        attends: Literal["all", "known"] = Field(
            "all",
            description="what a position reads: all others, or those that are known; then masks that a step of "
            "sampling does not write cost nothing",
        )
        draws: int = Field(16, ge=2, le=2**16, multiple_of=2, description="random masks that a score averages over")

    class Sampling(Choice):
        steps: int | None = Field(
            None,
            ge=1,
            le=2**20,
            description="steps from all masked to item; as many as unknown symbols: one at a time, exactly; none: 64, "
            "or half as many as unknown columns",
        )
        order: Literal["random", "confident"] = Field(
            "random", description="which symbols are written next: any, or those that the model is surest of"
        )
        order_noise: float = Field(
            1.0, ge=0, description="how far an order by confidence is left to chance, at first; less from step to step"
        )
        remask: Remask = Field(
            "none",
            description="written symbols are masked again, and so corrected: a share `eta` a step (cap), `eta` of what "
            "is possible (rescale), or `eta` a step while nine tenths are written (loop)",
        )
        eta: float = Field(0.1, ge=0, le=1, description="how much `remask` masks again")

    name = "masked_diffusion"
    about = (
        "Diffusion of symbols: fills any holes of texts and tables, in any order. "
        "It samples in many steps, and has no latents."
    )
    accepts = (Discrete,)
    likelihood = "bound"
    missing: Mapping[str, str] = {
        "encode": "the noise of masked diffusion is the same for all items: every symbol masked",
        "decode": "masked diffusion starts from masks alone, and they hold no latent to decode",
    }
    space: Discrete
    positions: Tensor | None
    prior: Tensor | None
    known_to_share: Tensor | None = None

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.tokens = nn.Embedding(self.space.vocab_size + 1, s.width)  # the last is the mask
        sizes = self.space.sizes
        self.ranks = Ranks(sizes, self.space.vocab_size + 1, s.width) if sizes is not None else None
        self.conditioner = conditioner(condition, s.width, s.condition, dropout=s.guidance_dropout)
        s.place(self, space.dims)
        self.net = s.transformer(causal=False, cross=bool(widths(condition, s.width, s.condition).context))
        self.head = nn.Linear(s.width, self.space.vocab_size)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("prior", self.space.start(), persistent=False)

    def logits(self, x: Tensor, masked: Tensor, given: Given, asked: Tensor | None = None) -> Tensor:
        """x, masked (B, dims) -> (M, V) logits of the `asked` positions (by default the masked ones), row by row.

        Where masks are not looked at, those that nobody asks for are left out: none of the others can tell.
        """
        hidden = self.space.vocab_size
        x, at, begin = x.masked_fill(masked, hidden), None, 0
        if asked is not None and self.settings.attends == "known":
            before, behind = first_of(~masked), first_of(asked)
            asked, begin = F.pad(asked.gather(1, behind), (before.shape[1], 0)), before.shape[1]
            at = torch.cat([before, behind], 1)
            x = F.pad(x.gather(1, before), (0, behind.shape[1]), value=hidden)
        asked = masked if asked is None else asked
        logits = upcast(self.head(self.read(x, given, at, asked, begin)))
        if self.prior is None:
            return logits
        return logits + self.prior[asked.nonzero()[:, 1] if at is None else at[asked]]

    def read(
        self, x: Tensor, given: Given, at: Tensor | None = None, asked: Tensor | None = None, begin: int = 0
    ) -> Tensor:
        """x (B, L), where the symbol `vocab_size` is the mask -> (B, L, width), or (M, width) of those `asked`, which
        all stand from `begin` on.

        `at` (B, L): the positions of x, None for all of them in a row.
        """
        h = self.tokens(x)
        if self.ranks is not None:
            h = h + self.ranks(x, torch.arange(x.shape[1], device=x.device)[None] if at is None else at)
        if self.positions is not None:
            h = h + (self.positions if at is None else F.embedding(at, self.positions))
        h = h if given.emb is None else h + given.emb[:, None]
        look = self.look(x, alike=at is not None) if self.settings.attends == "known" else None
        return self.net(h, mask=look, context=given.context, seen=given.seen, at=at, asked=asked, begin=begin)

    def look(self, x: Tensor, *, alike: bool) -> Tensor:
        """(B, 1, L, L) where each position may look: at the known ones, and at itself; (1, 1, L, L) where rows may be,
        and are, masked alike.
        """
        known = x != self.space.vocab_size
        known = known[:1] if alike and bool((known == known[:1]).all()) else known
        return known[:, None, None] | torch.eye(x.shape[1], dtype=torch.bool, device=x.device)

    def everywhere(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, dims), where the symbol `vocab_size` is the mask -> (B, dims, V) logits."""
        logits = upcast(self.head(self.read(x, tell(self.conditioner, cond, len(x)))))
        return logits if self.prior is None else logits + self.prior

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        parts = {"logits": Part(self.everywhere, {"x": x.flatten(1)} | given_as("cond", cond), ("logits",))}
        if cond is not None:
            parts["logits_null"] = Part(self.everywhere, {"x": x.flatten(1)}, ("logits",))
        return parts

    def constants(self, sampling: Sampling) -> dict[str, Any]:
        """The mask's symbol, and how the logits of symbols are chosen from."""
        facts = {"mask": self.space.vocab_size, "unseen": self.space.unseen}
        return facts | sampling.model_dump(mode="json") | {"steps": sampling.steps or STEPS}

    def nats(self, x: Tensor, masked: Tensor, given: Given) -> Tensor:
        """sum over the masked symbols of -log p(x_i | the others), (B,)."""
        each = F.cross_entropy(self.logits(x, masked, given), x[masked], reduction="none")
        return each.new_zeros(x.shape).masked_scatter(masked, each).sum(1)

    def bound(self, x: Tensor, u: Tensor, given: Given, generator: Generator | None) -> Tensor:
        """An unbiased draw of the bound on -log p(x), (B,) nats; u (B,) on [0, 1) picks how many symbols are masked."""
        dims = self.space.dims
        count = (u * dims).long().clamp_max(dims - 1) + 1
        noise = uniform(*x.shape, generator=generator, like=u, dtype=torch.float64)
        masked = noise <= noise.sort(1).values.gather(1, count[:, None] - 1)
        return self.nats(x, masked, given) * (dims / count)

    def loss(self, batch: Batch) -> Loss:
        n = len(batch.x)
        given = tell(self.conditioner, batch.cond, n, batch.generator)
        u = spread(n, generator=batch.generator, like=self.head.weight)
        return Loss(self.bound(batch.x.flatten(1), u, given, batch.generator).mean() / self.space.dims)

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        return self.log_prob_error(x, cond, generator=generator)[0]

    @torch.no_grad()
    def log_prob_error(
        self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """An unbiased estimate of the bound, and its standard error.

        Draw j of J has its number of masked symbols in the j-th part of 1 ... dims. The error is that of neighbouring
        draws taken as pairs, sqrt(sum (y_2i - y_2i+1)^2) / J (collapsed strata, Cochran 1977: a little too large).
        """
        x, given = x.flatten(1), tell(self.conditioner, cond, len(x))
        draws = min(self.settings.draws, 2 * self.space.dims)
        u = uniform(len(x), draws, generator=generator, like=self.head.weight, dtype=torch.float64)
        u = (u + torch.arange(draws, device=u.device)) / draws
        y = torch.stack([-self.bound(x, u[:, j], given, generator) for j in range(draws)], 1)
        return y.mean(1), (y[:, ::2] - y[:, 1::2]).square().sum(1).sqrt() / draws

    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        x = torch.zeros(n, *self.space.shape, dtype=torch.long, device=self.head.weight.device)
        known = torch.zeros_like(x, dtype=torch.bool)
        return self.complete(x, known, cond, sampling=sampling, generator=generator, on_step=on_step)

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Symbols known are never masked; the unknown are written in a random order or the model's, step by step.

        The number that a step writes is fixed where the reverse process draws it: the same process at the times when
        something happens (Zheng et al. 2024, arXiv:2409.02908). What one step writes is drawn independently, given all
        that was known before it; what it masks again, see `Schedule`, is drawn from the same, whatever it says.
        """
        s, shape = sampling or self.Sampling(), x.shape
        x, free = x.flatten(1), ~known.flatten(1)
        x, masked = x.masked_fill(free, 0), free
        givens = [tell(self.conditioner, c, len(x)) for c in s.conditions(cond)]
        unknown = free.sum(1, keepdim=True)
        steps = self.usual(unknown) if s.steps is None else torch.full_like(unknown, s.steps)
        schedule = Schedule(steps, s.remask, s.eta, unknown)
        total = int(schedule.steps.max()) if len(x) else 0
        draw = partial(uniform, *x.shape, generator=generator, like=self.head.weight, dtype=torch.float64)
        planned = s.order == "random" and s.remask == "none"
        if planned:
            u = draw(2)
            columns = self.columns and bool((schedule.steps < unknown).any())
            when = apart(u[..., 0], free, schedule.steps, self.shared() if columns else None)
        for step in range(total):
            if planned:
                now, again = when == step, None
                x = self.drawn(x, masked, now, givens, s, u[..., 1])[0]
            else:
                u, (count, hidden) = draw(3), schedule(step)
                again = lowest(u[..., 2], free & ~masked, hidden)
                now = masked & (count > 0) if s.order == "confident" else lowest(u[..., 0], masked, count)
                drawn, log_p = self.drawn(x, masked, now, givens, s, u[..., 1])
                if s.order == "confident":
                    noise = (s.order_noise * (1 - schedule.times(step)[:, 1:])).expand_as(u[..., 0])[now]
                    gumbel = -(-u[..., 0][now].clamp_min(1e-300).log()).log()
                    now = lowest(u[..., 0].masked_scatter(now, -log_p - noise * gumbel), now, count)
                x = torch.where(now, drawn, x)
            masked = masked & ~now if again is None else (masked & ~now) | again
            if on_step:
                on_step(step + 1, total, x.view(shape))
        return x.view(shape)

    @property
    def columns(self) -> bool:
        """Whether its symbols are of columns, few enough to find out which of them depend on each other."""
        return self.space.sizes is not None and self.space.dims <= FEW

    def usual(self, unknown: Tensor) -> Tensor:
        """(B, 1) steps for so many unknown symbols."""
        return (
            torch.maximum((unknown + 1) // 2, unknown.clamp_max(4)).clamp_max(STEPS)
            if self.columns
            else torch.full_like(unknown, STEPS)
        )

    @torch.no_grad()
    def shared(self) -> Tensor:
        """(dims, dims) nats that two symbols share, to the model that sees no others and no condition: the mutual
        information, sum_v p(x_i = v) KL(p(x_j | x_i = v) || p(x_j)), in both directions. v is at even quantiles.
        """
        if self.known_to_share is None:
            dims, device = self.space.dims, self.head.weight.device
            count = max(2, min(16, 1024 // dims))  # of a wide table, a second before its first row
            masks = torch.full((1, dims), self.space.vocab_size, device=device)
            alone = self.everywhere(masks).log_softmax(-1)
            u = (torch.arange(count, dtype=torch.float64, device=device) + 0.5) / count
            values = quantile(alone[0, :, None].expand(-1, count, -1), u.expand(dims, -1)).view(-1, 1)
            x = masks.expand(len(values), -1)
            x = x.scatter(1, torch.arange(dims, device=device).repeat_interleave(count)[:, None], values)
            nats = [
                F.kl_div(alone.clamp_min(-1e3), log_p.clamp_min(-1e3), log_target=True, reduction="none").sum(-1)
                for log_p in (self.everywhere(rows).log_softmax(-1) for rows in x.split(256))
            ]
            found = torch.cat(nats).view(dims, count, dims).mean(1)
            self.known_to_share = found + found.T
        return self.known_to_share

    def train(self, mode: bool = True) -> Self:
        self.known_to_share = None
        return super().train(mode)

    def drawn(
        self, x: Tensor, masked: Tensor, now: Tensor, givens: list[Given], s: Sampling, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x (B, dims) with the masked symbols `now` (B, dims) drawn by u (B, dims), and log p of each, (M,)."""
        rows = now.any(1)
        if not bool(rows.all()):  # the others are not computed
            some = rows.nonzero()[:, 0]
            if not len(some):
                return x, u[now]
            parts = x[some], masked[some], now[some], [given.select(some) for given in givens], s, u[some]
            new, log_p = self.drawn(*parts)
            return x.index_copy(0, some, new), log_p
        logits = guide([self.logits(x, masked, given, now) for given in givens], s)
        if self.space.unseen is not None:
            logits[..., self.space.unseen] = -torch.inf
        new = choose(logits, s, u[now])
        log_p = logits.double().log_softmax(-1).gather(1, new[:, None])[:, 0] if s.order == "confident" else u[now]
        return x.masked_scatter(now, new), log_p
