"""Masked diffusion over symbols: hide some, predict them from the rest (MDLM, Sahoo et al. 2024, arXiv:2406.07524)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, spread, uniform
from quintet.core.spaces import Discrete, Space
from quintet.nets.conditioning import conditioner, tell, widths
from quintet.nets.given import Given, How
from quintet.nets.symbols import Backbone, Choice, Ranks, choose, guide


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
        draws: int = Field(16, ge=2, multiple_of=2, description="random masks that a score averages over")

    class Sampling(Choice):
        steps: int = Field(
            64,
            ge=1,
            description="steps from all masked to item; as many as unknown symbols: one at a time, exactly",
        )

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
        """x, masked (B, dims) -> (M, V) logits of the `asked` positions (by default the masked ones), row by row."""
        asked = masked if asked is None else asked
        logits = upcast(self.head(self.read(x.masked_fill(masked, self.space.vocab_size), given)[asked]))
        return logits if self.prior is None else logits + self.prior[asked.nonzero()[:, 1]]

    def read(self, x: Tensor, given: Given) -> Tensor:
        """x (B, dims), where the symbol `vocab_size` is the mask -> (B, dims, width)."""
        h = self.tokens(x)
        if self.ranks is not None:
            h = h + self.ranks(x, torch.arange(x.shape[1], device=x.device)[None])
        if self.positions is not None:
            h = h + self.positions
        h = h if given.emb is None else h + given.emb[:, None]
        return self.net(h, context=given.context, seen=given.seen)

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
        return {"mask": self.space.vocab_size, "unseen": self.space.unseen} | sampling.model_dump(mode="json")

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
        """Symbols known are never masked; the unknown are revealed in a random order, as many a step as another.

        The number a step reveals is fixed where the reverse process draws it: the same process at the times when
        something happens (Zheng et al. 2024, arXiv:2409.02908). What one step reveals is drawn independently.
        """
        s, shape = sampling or self.Sampling(), x.shape
        x, masked = x.flatten(1), ~known.flatten(1)
        x = x.masked_fill(masked, 0)
        u = uniform(*x.shape, 2, generator=generator, like=self.head.weight, dtype=torch.float64)
        unknown = masked.sum(1, keepdim=True)
        steps = unknown.clamp_max(s.steps)  # a row's own, whatever the others of the batch
        rank = u[..., 0].masked_fill(~masked, 2).argsort(1).argsort(1)
        when = (rank * steps // unknown.clamp_min(1)).masked_fill(~masked, -1)
        givens = [tell(self.conditioner, c, len(x)) for c in s.conditions(cond)]
        total = int(steps.max()) if len(x) else 0
        for step in range(total):
            now = when == step
            logits = guide([self.logits(x, masked, given, now) for given in givens], s)
            if self.space.unseen is not None:
                logits[..., self.space.unseen] = -torch.inf
            x = x.masked_scatter(now, choose(logits, s, u[..., 1][now]))
            masked = masked & ~now
            if on_step:
                on_step(step + 1, total, x.view(shape))
        return x.view(shape)
