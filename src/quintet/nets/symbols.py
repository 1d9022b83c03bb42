"""What models of symbols share: the Transformer's settings and positions, and the way from logits to a symbol."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from quintet.core import settings
from quintet.core.random import quantile
from quintet.nets.given import zero
from quintet.nets.transformer import Activation, Norm, Transformer, sinusoids, squared


class Backbone(settings.Settings):
    """A Transformer over symbols."""

    width: int = Field(
        128,
        ge=8,
        le=2**16,
        description="how many numbers describe each position: more can learn more, and is slower",
    )
    depth: int = Field(4, ge=1, le=1000, description="layers of the Transformer")
    heads: int = Field(4, ge=1, le=1024, description="attention heads of a layer; width is divided among them")
    positions: Literal["rotary", "learnt", "sinusoidal"] = Field(
        "learnt", description="how the net learns at which position a symbol stands"
    )
    activation: Activation = Field("swiglu", description="the nonlinearity of a layer")
    norm: Norm = Field("rms", description="how numbers are kept in range between layers")
    qk_norm: bool = Field(True, description="normalised queries and keys, which keeps training steady")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of hidden numbers that training sets to zero, against overfitting"
    )
    guidance_dropout: float = Field(
        0.1, ge=0, lt=1, description="how often training hides the condition, which guidance needs"
    )

    @model_validator(mode="after")
    def heads_fit(self) -> Self:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} is not {self.heads} heads of an even size")
        return self

    def transformer(self, *, causal: bool, depth: int | None = None, cross: bool = False) -> Transformer:
        """(B, L, width) -> (B, L, width); `cross`: reading a context."""
        rotary = self.positions == "rotary"
        return Transformer(self.width, self.depth if depth is None else depth, self.heads, rotary=rotary,
                           activation=self.activation, norm=self.norm, qk_norm=self.qk_norm, dropout=self.dropout,
                           causal=causal, cross=cross)  # fmt: skip

    def place(self, module: nn.Module, dims: int, std: float = 0.02) -> None:
        """`module.positions` (dims, width): learnt or fixed vectors to be added; None where rotations do it."""
        if self.positions == "learnt":
            module.positions = nn.Parameter(torch.randn(dims, self.width) * std)
        else:
            fixed = sinusoids(dims, self.width) if self.positions == "sinusoidal" else None
            module.register_buffer("positions", fixed, persistent=False)


COLDEST = 1e-6
"""A temperature below which the likeliest symbol is taken: logits divided by it may be more than float32 has."""


class Choice(settings.Settings):
    """How a symbol is chosen from logits."""

    temperature: float = Field(
        1.0, ge=0, description="below 1 is safer, above 1 more varied; 0 takes the likeliest symbol"
    )
    top_k: int | None = Field(None, ge=1, le=2**20, description="draw from the k likeliest symbols alone")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="draw from the smallest set of symbols that has this probability (Holtzman et al. 2020)",
    )
    min_p: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="draw from symbols with this share of the likeliest one's probability (Nguyen et al. 2024)",
    )
    guidance: float = Field(
        1.0, ge=0, description="above 1 keeps closer to the condition: logits null + guidance * (conditional - null)"
    )

    def guided(self, cond: Tensor | None) -> bool:
        """Whether sampling given `cond` needs the unconditional model too."""
        return self.guidance != 1 and cond is not None

    def conditions(self, cond: Tensor | None) -> list[Tensor | None]:
        """The conditions whose logits `guide` takes: the given one and, where it is guided, none."""
        return [cond, None] if self.guided(cond) else [cond]


class Grams(nn.Module):
    """x (B, L) -> (B, L, width): W sum_n e_n, with e_n the vector of the last n = 2 ... `most` symbols at each place.

    What statistics of short runs can say is looked up rather than computed. A run's row is a polynomial in its symbols
    modulo a prime, modulo `rows`; runs that share a row are told apart by the others (hash n-gram embeddings, Pagnoni
    et al. 2024, arXiv:2412.09871). Many rows matter more than wide ones: they are `narrow`, and a map W that all share
    widens them (factorised embeddings, Lan et al. 2020, arXiv:1909.11942, section 3.1). As wide as `width`: W = 1.
    """

    ROWS, NARROW = 12_000, 32
    PRIME, BASE = 2**31 - 1, 1_664_525_071  # below 2^31, so that no product overflows

    def __init__(self, symbols: int, width: int, most: int, rows: int = ROWS, narrow: int = NARROW) -> None:
        super().__init__()
        self.nothing, self.most, self.width, narrow = symbols, most, width, min(narrow, width)
        self.table = nn.EmbeddingBag(rows, narrow, mode="sum")
        nn.init.normal_(self.table.weight, std=0.02)
        self.widen: nn.Module = nn.Identity()
        if narrow < width:
            self.widen = nn.Linear(narrow, width, bias=False)
            nn.init.normal_(self.widen.weight, std=width**0.5 / narrow)  # a step of a row does as much as of a wide one

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """`last` (B, up to most - 1): the symbols before x."""
        known = x if last is None else torch.cat([last, x], 1)
        code, codes = known, []
        for back in range(1, self.most):
            before = F.pad(known, (back, 0), value=self.nothing)[:, : known.shape[1]]
            code = (code * self.BASE + before) % self.PRIME
            codes.append(code % self.table.num_embeddings)
        rows = torch.stack(codes, -1)[:, known.shape[1] - x.shape[1] :]
        return self.widen(self.table(rows.flatten(0, 1))).view(*x.shape, self.width)


class Neighbours(nn.Module):
    """x (B, L) -> (B, L, width): what levels of one value tell of the next, x_{t+1}, if `row` of them stand in a row:

        c_t = [cos(pi k (x_t + 1/2) / levels)]_k,   k = 1 ... TERMS,   e_t = A c_t,
        y_t = B c_t + W_2 max(0, W_1 [e_{t+1-d}]_d + b)^2.

    The distances d from the next level are those to the last `most` ones, and to the one that stands a row before it,
    with `SIDE` to either side: a masked convolution (PixelCNN, van den Oord et al. 2016, arXiv:1601.06759). Cosines say
    that levels near each other are alike, which a table has to learn of each pair. Before the first symbol e is 0.
    """

    TERMS, NARROW, SIDE = 16, 16, 3
    cosines: Tensor

    def __init__(self, levels: int, width: int, most: int, row: int, dims: int) -> None:
        super().__init__()
        beside = {d for d in range(row - self.SIDE, row + self.SIDE + 1) if most < d <= dims}
        self.distances = (*range(1, most + 1), *sorted(beside))
        self.most, self.nothing = self.distances[-1], levels
        self.register_buffer("cosines", cosines(levels, levels + 1, self.TERMS), persistent=False)
        self.vectors = nn.Parameter(torch.randn(self.TERMS, width) * 0.02)
        self.narrow = nn.Parameter(torch.randn(self.TERMS, self.NARROW) / self.TERMS**0.5)
        self.hidden_matrices = {"up.weight": 1, "down.weight": 1}
        self.up = nn.Linear(len(self.distances) * self.NARROW, 2 * width)
        self.down = zero(nn.Linear(2 * width, width, bias=False))

    def forward(self, x: Tensor, last: Tensor | None = None, hide: Tensor | None = None) -> Tensor:
        """`last` (B, up to most - 1): the symbols before x; `hide` (B, L): of x, those that are no neighbours."""
        shown = x if hide is None else x.masked_fill(hide, self.nothing)
        known = shown if last is None else torch.cat([last, shown], 1)
        known = F.pad(known, (self.most - 1 - known.shape[1] + x.shape[1], 0), value=self.nothing)
        e = F.embedding(known, self.cosines @ self.narrow)
        near = torch.cat([e[:, self.most - d :][:, : x.shape[1]] for d in self.distances], 2)
        out: Tensor = self.down(squared(self.up(near)))
        return out + F.embedding(x, self.cosines @ self.vectors)


def cosines(sizes: int | Tensor, symbols: int, terms: int) -> Tensor:
    """(..., symbols, terms): cos(pi k (x + 1/2) / size), k = 1 ... terms, of each symbol x below the size, else 0."""
    size = torch.as_tensor(sizes)[..., None, None]
    rank = torch.arange(symbols)[:, None]
    return torch.cos(math.pi * torch.arange(1, terms + 1) * (rank + 0.5) / size).masked_fill(rank >= size, 0)


class Ranks(nn.Module):
    """x (B, L) at the positions `at` (1 or B, L) -> (B, L, width): a smooth function of a symbol's rank,

        sum_k cos(pi k (x + 1/2) / size) a_k,      k = 1 ... TERMS,

    with the size and the vectors a_k of the position. Bins of a number that lie near each other are told apart by the
    table of symbols alone; this says that they are near, and what a symbol means in this column. Symbols at or above
    the size (a mask) have none.
    """

    TERMS = 8
    cosines: Tensor

    def __init__(self, sizes: tuple[int, ...], symbols: int, width: int) -> None:
        super().__init__()
        self.register_buffer("cosines", cosines(torch.tensor(sizes), symbols, self.TERMS), persistent=False)
        self.vectors = nn.Parameter(torch.randn(len(sizes), self.TERMS, width) * 0.02)

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        if len(at) == 1:  # without the symbols of all columns, of which a step of sampling asks for one
            return torch.einsum("blk,lkw->blw", self.cosines[at, x], self.vectors[at[0]])
        table = torch.bmm(self.cosines, self.vectors)
        return F.embedding(at * table.shape[1] + x, table.flatten(0, 1))


def cross_entropy(logits: Tensor, x: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log p(x), (N,) from logits (N, V). `smoothing` e: (1 - e) times that, plus e times the mean of -log p over the
    symbols that are allowed (label smoothing, Szegedy et al. 2016, arXiv:1512.00567).
    """
    if not smoothing or bool(logits.detach().amin() > -torch.inf):  # torch's own would take the mean over all symbols
        return F.cross_entropy(logits, x, reduction="none", label_smoothing=smoothing)
    log_p = logits.log_softmax(-1)
    allowed = log_p > -torch.inf
    mean = log_p.masked_fill(~allowed, 0).sum(-1) / allowed.sum(-1)
    return -(1 - smoothing) * log_p.gather(-1, x[..., None])[..., 0] - smoothing * mean


def guide(logits: list[Tensor], s: Choice) -> Tensor:
    """The conditional logits, pushed away from the unconditional ones where those are given too; -inf stays."""
    given, null = logits[0], logits[-1]
    return given if len(logits) == 1 else torch.where(given.isinf(), given, null + s.guidance * (given - null))


def penalise(logits: Tensor, x: Tensor, penalty: float) -> Tensor:
    """Logits (B, V) where the symbols of x (B, t) are less likely: divided by `penalty`, or multiplied where they are
    negative (Keskar et al. 2019, arXiv:1909.05858). Negative x is no symbol.
    """
    index = x.clamp_min(0)
    seen = torch.zeros_like(logits, dtype=torch.int).scatter_add(1, index, (x >= 0).int()) > 0
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(logits: Tensor, s: Choice, u: Tensor) -> Tensor:
    """One symbol a row from logits (B, V) and u (B,) in [0, 1), after temperature, top-k, top-p and min-p."""
    if s.temperature < COLDEST:
        return logits.argmax(-1)
    return quantile(truncate(logits / s.temperature, s), u)


def truncate(logits: Tensor, s: Choice) -> Tensor:
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
