"""Autoregressive Transformer: p(x) = prod_t p(x_t | x_<t) (Vaswani et al. 2017; Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.family import Batch, Family, Loss, OnStep
from quintet.core.random import Generator, categorical
from quintet.core.spaces import Discrete, Space
from quintet.nets.build import upcast
from quintet.nets.conditioning import conditioner, embed
from quintet.nets.transformer import Cache, Transformer, sinusoids


class Autoregressive(Family):
    """A decoder-only Transformer over the flattened symbols of a Discrete space.

    loss = -log p(x) / dims. The first input is a learnt start token (plus the condition's embedding, which is added at
    every position); the head of position t gives the logits of x_t. Symbols that a position does not allow have
    probability 0.
    """

    class Settings(settings.Settings):
        width: int = Field(128, ge=8)
        depth: int = Field(4, ge=1)
        heads: int = Field(4, ge=1)
        positions: Literal["rotary", "learnt", "sinusoidal"] = "learnt"
        activation: Literal["swiglu", "relu2", "relu"] = "swiglu"
        dropout: float = Field(0.0, ge=0, lt=1)
        guidance_dropout: float = Field(0.1, ge=0, lt=1, description="how often training hides the condition")

        @model_validator(mode="after")
        def heads_fit(self) -> Self:
            if self.width % self.heads or self.width // self.heads % 2:
                raise ValueError(f"width {self.width} is not {self.heads} heads of an even size")
            return self

    class Sampling(settings.Settings):
        temperature: float = Field(1.0, ge=0, description="0 takes the likeliest symbol")
        top_k: int | None = Field(None, ge=1, description="only the k likeliest symbols")
        top_p: float = Field(1.0, gt=0, le=1, description="the smallest set of this mass (Holtzman et al. 2020)")
        min_p: float = Field(0.0, ge=0, lt=1, description="at least this share of the likeliest (Nguyen et al. 2024)")
        guidance: float = Field(1.0, ge=0, description="logits = null + guidance * (conditional - null)")

    name = "autoregressive"
    accepts = (Discrete,)
    likelihood = "exact"
    missing: ClassVar[Mapping[str, str]] = {
        "encode": "an autoregressive model has no latent: a prefix is its only state",
        "decode": "an autoregressive model has no latent to decode",
    }
    space: Discrete
    positions: Tensor | None
    allowed: Tensor | None

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.start = nn.Parameter(torch.randn(s.width) * 0.02)
        self.tokens = nn.Embedding(self.space.vocab_size, s.width)
        self.conditioner = conditioner(condition, s.width, dropout=s.guidance_dropout)
        if s.positions == "learnt":
            self.positions = nn.Parameter(torch.randn(space.dims, s.width) * 0.02)
        else:
            fixed = sinusoids(space.dims, s.width) if s.positions == "sinusoidal" else None
            self.register_buffer("positions", fixed, persistent=False)
        self.net = Transformer(
            s.width, s.depth, s.heads, rotary=s.positions == "rotary", activation=s.activation, dropout=s.dropout
        )
        self.head = nn.Linear(s.width, self.space.vocab_size)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("allowed", self.space.allowed(), persistent=False)

    def logits(self, x: Tensor, emb: Tensor | None, cache: Cache | None = None) -> Tensor:
        """x (B, L) the symbols so far -> (B, L + 1, V) logits of x_0 ... x_L; with a cache, those behind its length.

        An empty cache takes the start token and x; a filled one only x, whose logits are those of the next symbols.
        """
        past = cache.length if cache else 0
        h = self.tokens(x)
        if past == 0:
            h = torch.cat([self.start.to(h.dtype).expand(len(x), 1, -1), h], 1)
        end = past + h.shape[1]
        if self.positions is not None:
            h = h + self.positions[past:end]
        if emb is not None:
            h = h + emb[:, None]
        logits = upcast(self.head(self.net(h, cache)))
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed[past:end], -torch.inf)
        return logits

    def nats(self, x: Tensor, emb: Tensor | None) -> Tensor:
        """-log p(x_t | x_<t), (B, dims)."""
        x = x.flatten(1)
        return F.cross_entropy(self.logits(x[:, :-1], emb).transpose(1, 2), x, reduction="none")

    def loss(self, batch: Batch) -> Loss:
        emb = embed(self.conditioner, batch.cond, len(batch.x), batch.generator)
        return Loss(self.nats(batch.x, emb).mean())

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        return -self.nats(x, embed(self.conditioner, cond, len(x))).sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        sampling: Sampling | None = None,
        generator: Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        s = sampling or self.Sampling()
        guided = s.guidance != 1 and cond is not None
        emb = embed(self.conditioner, cond, n)
        cache = Cache(self.space.dims)
        null, null_cache = (embed(self.conditioner, None, n), Cache(self.space.dims)) if guided else (None, None)
        device = self.start.device
        new, x = torch.empty(n, 0, dtype=torch.long, device=device), []
        for step in range(self.space.dims):
            logits = self.logits(new, emb, cache)[:, -1]
            if guided:
                base = self.logits(new, null, null_cache)[:, -1]
                logits = torch.where(logits.isinf(), logits, base + s.guidance * (logits - base))
            new = choose(logits, s, generator)[:, None]
            x.append(new)
            if on_step:
                on_step(step + 1, self.space.dims, new)
        return torch.cat(x, 1).view(n, *self.space.shape)


def choose(logits: Tensor, s: Autoregressive.Sampling, generator: Generator | None) -> Tensor:
    """One symbol a row from logits (B, V), after temperature, top-k, top-p and min-p."""
    if s.temperature == 0:
        return logits.argmax(-1)
    return categorical(truncate(logits / s.temperature, s), generator)


def truncate(logits: Tensor, s: Autoregressive.Sampling) -> Tensor:
    """Logits (B, V) with -inf for what top-k, top-p and min-p cut away; the likeliest always stays."""
    if s.top_k is not None and s.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(s.top_k).values[:, -1:], -torch.inf)
    if s.top_p < 1:
        ordered, index = logits.sort(-1, descending=True)
        p = ordered.softmax(-1)
        cut = p.cumsum(-1) - p >= s.top_p  # the mass before a symbol already suffices
        logits = logits.masked_fill(cut.scatter(-1, index, cut), -torch.inf)
    if s.min_p > 0:
        p = logits.softmax(-1)
        logits = logits.masked_fill(p < s.min_p * p.max(-1, keepdim=True).values, -torch.inf)
    return logits
