"""Autoregressive Transformer: p(x) = prod_t p(x_t | x_<t) (Vaswani et al. 2017; Radford et al. 2018), in any order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from quintet.core.errors import ConfigError
from quintet.core.family import Batch, Family, Loss, OnStep, Part, given_as
from quintet.core.likelihood import upcast
from quintet.core.random import Generator, uniform
from quintet.core.spaces import Discrete, Space
from quintet.nets.conditioning import Conditioner, Reading, Style, hidden, widths
from quintet.nets.continuing import Constraint
from quintet.nets.decoding import Best, Reader, Rules, Steps, alike, beam_search, draws, finish, told
from quintet.nets.given import UNCONDITIONAL, Given, Reads
from quintet.nets.hourglass import Hourglass, shortening
from quintet.nets.packing import document_mask, pack, present
from quintet.nets.parts import Stepwise
from quintet.nets.symbols import Backbone, Choice, Grams, Neighbours, Ranks, cross_entropy
from quintet.nets.transformer import Cache, Transformer

CACHED = 2**26
"""Numbers that the caches of a completion may hold at once (256 MiB in float32); more rows wait their turn."""

READ, AROUND = 16, 8
"""Most symbols that a step reads where their number is not said; and the fewest levels."""


def same_alphabet(space: Space, condition: Space) -> bool:
    """Whether symbols of both may be embedded by one table."""
    both = isinstance(space, Discrete) and isinstance(condition, Discrete)
    return both and space.vocab_size == condition.vocab_size  # type: ignore[union-attr]


class Autoregressive(Family):
    """A decoder-only Transformer over the flattened symbols of a Discrete space; an encoder-decoder given a sequence.

    loss = -log p(x) / dims. The first input is a learnt start token; the head of step t gives the logits of the t-th
    symbol. Symbols that a position does not allow have probability 0, and behind the first end symbol (`space.pad`)
    comes nothing but end symbols: that is certain, so it is neither learnt nor computed. Short texts are packed several
    to a row, and see only their own.

    A condition that is a sequence (text, image, recording) goes through an encoder, and every layer reads it (Vaswani
    et al. 2017). Any other is a vector that is added at every position. A single symbol given a sequence is a label: an
    encoder-only model, p(x | c) = softmax(W pool(encoder(c))).

    `order` "random" trains on a new permutation for every item (Uria et al. 2014, arXiv:1310.1757): the input of step t
    is the symbol read last, with its own position and the one asked for, as in XLNet (Yang et al. 2019,
    arXiv:1906.08237). One net is then the model of every order, so that any mask can be completed. `log_prob` and
    `sample` use the natural order: exact for the model of that order, which is one of the dims! that it has learnt.
    """

    class Settings(Backbone, Reading):
        order: Literal["fixed", "random"] = Field(
            "fixed", description="fixed: from first to last; random: in any order, which completes any hole exactly"
        )
        condition: Literal["auto", Reads] = Field(
            "auto",
            description="vector: a condition is read as one vector; sequence: every layer reads its positions; auto: "
            "sequence for texts, pictures and recordings, unless a single symbol is asked for",
        )
        reach: int | None = Field(
            1,
            ge=1,
            le=64,
            description="symbols that a step reads: the last, and runs ending there; of pictures and recordings also "
            "the levels a row before; none: as many as are one position, at most 16, and of levels at least 8",
        )
        reach_dropout: float = Field(
            0.0,
            ge=0,
            lt=1,
            description="share of positions at which training hides the runs of symbols that end there, or the levels "
            "around",
        )
        reach_warmup: float = Field(
            0.0,
            ge=0,
            le=1,
            description="share of the neighbouring levels that training hides at first, less from step to step and "
            "none at its end: a picture is learnt as a whole before its details",
        )
        shorten: int | None = Field(
            1,
            ge=1,
            le=2**12,
            description="symbols in a row that are one position of the Transformer, which is faster for items of many "
            "symbols; none: by their number",
        )
        tied: Literal["none", "output", "all"] = Field(
            "none",
            description="one table for input and output symbols; all: also for those of a condition",
        )
        label_smoothing: float = Field(
            0.0, ge=0, lt=1, description="share of the target that training spreads over all symbols"
        )

        @model_validator(mode="after")
        def asks_for_a_position(self) -> Self:
            if self.order == "random" and self.positions == "rotary":
                raise ValueError("order random needs to say which position it asks for: positions learnt or sinusoidal")
            if self.order == "random" and ((self.reach or 1) > 1 or (self.shorten or 1) > 1):
                raise ValueError("in a random order the symbols before the last are no neighbours: reach 1, shorten 1")
            return self

    class Sampling(Choice):
        particles: int = Field(
            16,
            ge=1,
            le=4096,
            description="how many attempts are made at once if known symbols stand behind unknown ones",
        )
        beams: int = Field(
            1,
            ge=1,
            le=1024,
            description="more than 1: look for the likeliest item by beam search with this many candidates",
        )
        length_penalty: float = Field(
            0.6, ge=0, description="beam search: score = log p / ((5 + length) / 6)^length_penalty (Wu et al. 2016)"
        )
        repetition_penalty: float = Field(
            1.0, ge=1, description="above 1 repeats less: logits of symbols used before are divided by it"
        )

    name = "autoregressive"
    about = (
        "Exact likelihoods, and the first choice for tables and texts; fills holes. "
        "It samples slowly, symbol by symbol."
    )
    accepts = (Discrete,)
    likelihood = "exact"
    missing: Mapping[str, str] = {
        "encode": "an autoregressive model has no latent: a prefix is its only state",
        "decode": "an autoregressive model has no latent to decode",
    }
    space: Discrete
    positions: Tensor | None
    prior: Tensor | None

    def __init__(self, space: Space, condition: Space | None = None, settings: Settings | None = None) -> None:
        super().__init__(space, condition)
        self.settings = s = settings or self.Settings()
        self.start = nn.Parameter(torch.randn(s.width) * 0.02)
        self.tokens = nn.Embedding(self.space.vocab_size, s.width)
        short = 1 if s.order == "random" else shortening(space.dims, s.shorten)
        sizes, row = self.space.sizes, self.space.row
        least = 1 if s.order == "random" or row is None else AROUND
        self.reach = max(least, min(short, READ)) if s.reach is None else s.reach
        self.recent: Grams | Neighbours | None = None
        if self.reach > 1 and row is None:
            self.recent = Grams(self.space.vocab_size, s.width, self.reach)
        elif self.reach > 1 and row is not None:
            self.recent = Neighbours(self.space.vocab_size, s.width, self.reach, row, space.dims)
        self.ranks = Ranks(sizes, self.space.vocab_size, s.width) if sizes is not None else None
        sequence = condition is not None and condition.sequence
        usual: Reads = "sequence" if sequence and space.dims > 1 else "vector"
        reads = usual if s.condition == "auto" else s.condition
        self.conditioner: Conditioner | None = None
        if condition is not None:
            style = Style(s, s, shared=s.tied == "all" and same_alphabet(space, condition))
            self.conditioner = Conditioner(condition, s.width, reads, dropout=s.guidance_dropout, style=style)
        s.place(self, space.dims)
        # of the symbols read, the start first; a fixed order needs none
        self.sources = nn.Embedding(space.dims + 1, s.width) if s.order == "random" else None
        # a single symbol that is given the vector of a sequence needs no layer of its own
        depth = 0 if sequence and reads == "vector" and space.dims == 1 else None
        context = widths(condition, s.width, reads).context
        self.net: Transformer | Hourglass
        if short == 1:
            self.net = s.transformer(causal=True, cross=bool(context), depth=depth)
        elif self.space.pad is not None:
            why = "short items stand in one row, and a position of several symbols would be in two of them"
            raise ConfigError("items of different lengths are not shortened", where="model.shorten", why=why,
                              fix="--model.shorten 1")  # fmt: skip
        else:
            self.net = Hourglass(s, short, context)
        self.head = nn.Linear(s.width, self.space.vocab_size) if s.tied == "none" else None
        for table in (self.tokens, self.sources):
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.02)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
        self.end = self.space.pad if s.order == "fixed" else None
        self.in_order = s.order == "fixed" and short == 1
        self.ragged = sequence and getattr(condition, "pad", None) is not None
        self.register_buffer("prior", self.space.start(), persistent=False)

    def given(self, cond: Tensor | None, n: int, generator: Generator | None = None) -> Given:
        """What the net is told of n conditions."""
        if self.conditioner is None:
            return UNCONDITIONAL
        return self.conditioner(cond, n, table=self.tokens, generator=generator)

    def embed_condition(self, cond: Tensor) -> Tensor:
        """What is added at every step."""
        pooled = self.given(cond, len(cond)).emb
        if pooled is None:
            self.refuse("vector of a condition that it reads step by step")
        return pooled

    def inputs(self, x: Tensor, given: Given, order: Tensor, past: int = 0, last: Tensor | None = None,
               hide: Tensor | None = None) -> Tensor:  # fmt: skip
        """x (B, L) the symbols so far -> (B, L + 1, width) what the net reads at steps 0 ... L; behind `past` steps
        only x, (B, L, width), where `last` (B, few), those that are read again, stand before it. `hide` (B, L):
        the levels that are not among the neighbours of others.
        """
        h = self.tokens(x)
        if self.recent is not None:
            recent = self.recent(x, last) if hide is None else self.recent(x, last, hide)
            h = h + hidden(recent, self.settings.reach_dropout, self.training)
        if self.ranks is not None:
            before = max(past - 1, 0)  # the start is a step too
            h = h + self.ranks(x, order[:, before : before + x.shape[1]])
        if past == 0:
            h = torch.cat([self.start.to(h.dtype).expand(len(x), 1, -1), h], 1)
        end = past + h.shape[1]
        if self.positions is not None:
            h = h + F.embedding(order[:, past:end], self.positions)
        if self.sources is not None:
            h = h + self.sources(F.pad(order + 1, (1, 0))[:, past:end])
        return h if given.emb is None else h + given.emb[:, None]

    def read_off(self, h: Tensor, asked: Tensor) -> Tensor:
        """(..., width) of the net and the positions (...) asked for -> logits (..., V)."""
        logits = upcast(F.linear(h, self.tokens.weight) if self.head is None else self.head(h))
        return logits if self.prior is None else logits + self.prior[asked]

    def natural(self) -> Tensor:
        """(1, dims): the order in which the symbols stand; a place more where exporters would take 3 for a constant."""
        places = self.space.dims + torch.compiler.is_exporting()
        return torch.arange(places, device=self.start.device)[None]

    def logits(self, x: Tensor, given: Given, cache: Cache | None = None, order: Tensor | None = None, *,
               ends: Tensor | None = None) -> Tensor:  # fmt: skip
        """x (B, L) the symbols so far -> (B, L + 1, V) logits of steps 0 ... L; with a cache, of those behind it.

        `order` (B, dims) or (1, dims): the position of each step, None for the natural order. An empty cache takes the
        start token and x; a filled one only x, whose logits are those of the next symbols. Symbols behind the end are
        for the caller to know. `ends` (B,): only the logits behind so many symbols of each row, (B, 1, V).
        """
        past = cache.length if cache else 0
        order = self.natural() if order is None else order
        if cache is not None and cache.at is not None:  # each row is at its own step, which is all of the order here
            order, past = cache.at[:, None] + torch.tensor([-1, 0], device=x.device), 1
        h = self.inputs(x, given, order, past, cache.last if cache else None)
        if cache is not None and self.recent is not None:
            cache.remember(x, self.recent.most - 1, self.recent.nothing, ends)
        asked, h = order[:, past : past + h.shape[1]], self.net(h, cache, context=given.context, seen=given.seen)
        if ends is not None:
            asked, h = asked.expand(len(h), -1).gather(1, ends[:, None]), h[torch.arange(len(h)), ends][:, None]
        return self.read_off(h, asked)

    def nats(self, x: Tensor, given: Given, order: Tensor | None = None, *, smoothing: float = 0.0,
             hide: Tensor | None = None) -> Tensor:  # fmt: skip
        """-log p of the symbol at each step given those before it, (B, dims); `order` (B, dims) as in `logits`, `hide`
        (B, dims) as in `inputs`.

        `smoothing` e: (1 - e) times that, plus e times the mean over all allowed symbols (Szegedy et al. 2016).
        """
        x = x.flatten(1) if order is None else x.flatten(1).gather(1, order)
        counted = torch.ones_like(x, dtype=torch.bool)
        out = torch.zeros(x.shape, device=x.device, dtype=self.start.dtype)
        if self.end is not None:
            counted = F.pad((x != self.end).cumprod(1).bool(), (1, 0), value=True)[:, :-1]  # up to the first end
            out = out.masked_fill(~counted & (x != self.end), torch.inf)
        longest = int(counted.sum(1).max())
        order = self.natural() if order is None else order
        hide = None if hide is None else hide[:, : longest - 1]
        h, wanted = self.inputs(x[:, : longest - 1], given, order, hide=hide), counted[:, :longest]
        if self.end is None:
            h = self.net(h, context=given.context, seen=given.seen).flatten(0, 1)
        elif given.context is None:
            rows = pack(wanted.sum(1), longest)
            h = self.net(h.flatten(0, 1)[rows.index], mask=document_mask(rows.documents)).flatten(0, 1)[rows.back]
        else:
            there = present(wanted)
            h = self.net(h, context=given.context, seen=given.seen, only=there)
            h = h[wanted] if there is None else h
        asked = order[:, :longest].expand(len(x), -1)[wanted]
        each = cross_entropy(self.read_off(h, asked), x[:, :longest][wanted], smoothing)
        out[:, :longest] = out[:, :longest].to(each.dtype).masked_scatter(wanted, each)
        return out

    def loss(self, batch: Batch) -> Loss:
        given, order = self.given(batch.cond, len(batch.x), batch.generator), None
        if self.sources is not None:
            size = (len(batch.x), self.space.dims)
            order = uniform(*size, generator=batch.generator, like=self.start, dtype=torch.float64).argsort(1)
        share, hide = self.settings.reach_warmup * (1 - batch.progress), None
        if share and isinstance(self.recent, Neighbours):
            size = (len(batch.x), self.space.dims)
            hide = uniform(*size, generator=batch.generator, like=self.start) < share
        return Loss(self.nats(batch.x, given, order, smoothing=self.settings.label_smoothing, hide=hide).mean())

    @torch.no_grad()
    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, generator: Generator | None = None) -> Tensor:
        return -self.nats(x, self.given(cond, len(x))).sum(1)

    @torch.no_grad()
    def log_prob_each(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        return -self.nats(x, self.given(cond, len(x)))

    @torch.no_grad()
    def log_probs(self, n: int, cond: Tensor | None = None) -> Tensor:
        nothing = torch.empty(n, 0, dtype=torch.long, device=self.start.device)
        return self.logits(nothing, self.given(cond, n))[:, 0].log_softmax(-1)

    # -- without quintet ----------------------------------------------------------------------------------------------

    def parts(self, x: Tensor, cond: Tensor | None, sampling: Any) -> dict[str, Part]:
        """Without `begin` and `step` where a position of the net is several symbols: it works at some steps only."""
        if isinstance(self.net, Hourglass):
            return {"logits": Part(self.each_logits, {"x": x.flatten(1)} | given_as("cond", cond), ("logits",))}
        return Stepwise(self).parts(x, cond)

    def each_logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, dims) -> (B, dims, V) of each symbol given those before it."""
        return self.logits(x[:, :-1], self.given(cond, len(x)))

    def constants(self, sampling: Sampling) -> dict[str, Any]:
        """How many symbols an item has, which one ends it, and how symbols are chosen from logits."""
        facts = {"length": self.space.dims, "end": self.end, "unseen": self.space.unseen}
        return facts | sampling.model_dump(mode="json")

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
        """With `beams` the likeliest item that beam search finds, and no randomness."""
        s = sampling or self.Sampling()
        x = torch.zeros(n, self.space.dims, dtype=torch.long, device=self.start.device)
        known = torch.zeros_like(x, dtype=torch.bool)
        if s.beams > 1:
            return self.n_best(x, known, cond, k=1, sampling=s).x[:, 0].view(n, *self.space.shape)
        u = uniform(*x.shape, 1, generator=generator, like=self.start, dtype=torch.float64)
        return finish(self.draw(x, known, cond, s, u), on_step).view(n, *self.space.shape)

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
        """Exact where no known symbol stands behind an unknown one; else by sequential Monte Carlo, exact as
        `particles` grow. With `beams` the likeliest completion found.

        In a random order none does: each row reads its known symbols first. In a fixed order a prefix is read at once,
        and a later known symbol weights the particles (Gordon et al. 1993).
        """
        s, shape, order = sampling or self.Sampling(), x.shape, None
        x, known = x.flatten(1), known.flatten(1)
        if self.sources is not None:
            order = (~known).long().argsort(dim=1, stable=True)
            x, known = x.gather(1, order), known.gather(1, order)
        if s.beams > 1:
            out = self.n_best(x, known, cond, k=1, sampling=s, order=order).x[:, 0]
            return (out if order is None else torch.empty_like(out).scatter(1, order, out)).view(shape)
        u = uniform(*x.shape, s.particles + 1, generator=generator, like=self.start, dtype=torch.float64)
        late = (known & ((~known).cumsum(1) > 0)).any(1)
        parts = [
            (rows, particles)
            for kind, particles in ((~late, 1), (late, s.particles))
            for rows in kind.nonzero()[:, 0].split(self.at_once(s, cond, particles))
            if len(rows)
        ]
        out = x.clone()
        for i, (rows, particles) in enumerate(parts):
            some, at = (None if a is None else a[rows] for a in (cond, order))
            tell = partial(told, on_step, i, len(parts)) if on_step else None
            drawn = self.draw(x[rows], known[rows], some, s, u[rows], order=at, particles=particles)
            out[rows] = finish(drawn, tell)
        return (out if order is None else torch.empty_like(out).scatter(1, order, out)).view(shape)

    @torch.no_grad()
    def n_best(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None = None,
        *,
        k: int = 1,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
        order: Tensor | None = None,
    ) -> Best:
        """The k likeliest completions of each row of x (n, T) that a search with max(k, `beams`) beams finds.

        log_prob is that of the unknown symbols given those before them, and of known ones that stand behind them;
        temperature and truncation do not matter to it. T may be less than `dims` or, in a space without
        end symbol, more: see `Reader`. `order` as in `logits`.
        """
        s = sampling or self.Sampling()
        beams, parts = max(k, s.beams), []
        for rows in torch.arange(len(x), device=x.device).split(self.at_once(s, cond, beams)):
            some, at = (None if a is None else a[rows] for a in (cond, order))
            first = self.first(known[rows])
            read, logits = self.reader(x[rows], first, some, s, at, beams)
            rules = Rules(known[rows], self.end, self.space.unseen, s.repetition_penalty)
            best = beam_search(read, rules, x[rows], logits, first=first, beams=beams, alpha=s.length_penalty,
                               constraint=constraint)  # fmt: skip
            parts.append(Best(*(part[:, :k] for part in best)))
        return Best(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def at_once(self, s: Sampling, cond: Tensor | None, copies: int = 1) -> int:
        """How many rows, of which there are several `copies`, may be worked on together."""
        each = 2 * self.space.dims * self.settings.width * self.settings.depth * (1 + s.guided(cond))
        return max(1, CACHED // (each * copies))

    def first(self, known: Tensor) -> int:
        """The first step at which any row lacks its symbol."""
        return min(int(known.long().cumprod(1).sum(1).min()), known.shape[1] - 1)

    def reader(
        self, x: Tensor, first: int, cond: Tensor | None, s: Sampling, order: Tensor | None = None, copies: int = 1
    ) -> tuple[Reader, Tensor]:
        """What has read x[:, :first] of n rows, `copies` times each, and the logits of `first`, (n * copies, V).

        Rows that begin alike are read once.
        """
        rows, back = alike(x[:, :first], cond, order)
        at = None if order is None else order[rows]
        some = None if cond is None else cond[rows]
        read = Reader(
            self.logits,
            [self.given(c, len(rows)) for c in s.conditions(some)],
            s,
            self.space.dims,
            at,
            self.net if isinstance(self.net, Transformer) else None,
            self.space.sizes,
        )
        logits, back = read(x[rows], first), back.repeat_interleave(copies)
        read.select(back)
        return read, logits[back]

    def draw(
        self,
        x: Tensor,
        known: Tensor,
        cond: Tensor | None,
        s: Sampling,
        u: Tensor,
        *,
        order: Tensor | None = None,
        particles: int = 1,
    ) -> Steps:
        """x and known (n, T), both in `order`, with the unknown symbols drawn one after another: see `draws`."""
        if bool(known.all()):
            return x
        first = self.first(known)
        read, logits = self.reader(x, first, cond, s, order, particles)
        rules = Rules(known.repeat_interleave(particles, 0), self.end, self.space.unseen, s.repetition_penalty)
        return (yield from draws(read, rules, x, logits, s, u, first=first, particles=particles))
