"""Texts side by side, each at its own place: continuous batching of a model of the next symbol (Yu et al. 2022, Orca).

A step adds one symbol to each text that is being written, by one pass through the model for all of them. A text that
is new is read at once and takes part from then on; one that is at its end, or that nobody wants any more, makes room.
Each depends on what it was given and on its own random numbers, not on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from quintet.core.random import Generator, uniform
from quintet.core.spaces import Discrete
from quintet.nets.given import Given
from quintet.nets.stepping import Stepper
from quintet.nets.symbols import choose, guide, penalise
from quintet.nets.transformer import Cache, Transformer

DRAWN_AT_ONCE = 64
"""Random numbers of a row that are drawn at once."""

Constraint = Callable[[Tensor, Tensor], Tensor]
"""(x (B, t) the symbols so far, start (B,) how many of them were given) -> (B, V) True for what may come next.

A row of False ends there. Asked of rows that go on only."""


class Likely(NamedTuple):
    """The log-probability of a symbol in nats as the model has it, before temperature, penalties and constraints, and
    the likeliest symbols with theirs.
    """

    log_prob: float
    best: tuple[tuple[int, float], ...] = ()


OnSymbol = Callable[[int, Likely | None], bool]
"""Told each new symbol; True: the text is at its end."""


@dataclass(eq=False)
class Continuation:
    """A text on its way: `symbols` so far, of which `start` were given, `until` at most; then `ended` says why.

    What was given is read at once, but for `forced` behind it: one by one, so that `on_symbol` hears how likely it is.
    `u` (until or more): its random numbers, one a symbol. `choice` says how symbols are chosen, given `cond` (1, ...).
    `likely`: how many of the likeliest symbols `on_symbol` is told of at each step; None: no log-probability either.
    What a constraint or `on_symbol` raises ends this text alone, as its `error`.
    """

    symbols: list[int]
    until: int
    u: Tensor
    choice: Any
    cond: Tensor | None = None
    constraint: Constraint | None = None
    on_symbol: OnSymbol | None = None
    likely: int | None = None
    forced: Sequence[int] = ()
    ended: Literal["", "stop", "length", "cancelled", "error"] = ""
    error: Exception | None = None
    start: int = field(init=False)
    begin: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.start = len(self.symbols) + len(self.forced)
        if len(self.symbols) >= self.until:
            self.ended = "length"

    @property
    def conditions(self) -> list[Tensor | None]:
        """One for each pass that a symbol takes: see `Choice.conditions`."""
        return self.choice.conditions(self.cond)

    @property
    def read(self) -> list[int]:
        """What its window holds."""
        return self.symbols[self.begin :]

    def allowed(self, size: int) -> Tensor:
        """(size,) True for what may come next; where nothing may, the text is at its end."""
        every = torch.ones(size, dtype=torch.bool)
        if self.constraint is None or len(self.symbols) < self.start:
            return every
        try:
            may = self.constraint(torch.tensor([self.symbols], dtype=torch.long), torch.tensor([self.start]))[0].cpu()
        except Exception as error:
            self.fail(error)
            return every
        if not may.any():
            self.ended = "stop"
            return every
        return may

    def next(self, chosen: int) -> int:
        """The next symbol: the one that was chosen, unless one is forced."""
        left = self.start - len(self.symbols)
        return self.forced[-left] if left > 0 else chosen

    def add(self, symbol: int, likely: Likely | None, end: int | None) -> None:
        """The next symbol, unless it is the end."""
        if symbol == end:
            self.ended = "stop"
            return
        self.symbols.append(symbol)
        try:
            if self.on_symbol is not None and self.on_symbol(symbol, likely):
                self.ended = "stop"
        except Exception as error:
            self.fail(error)
        if not self.ended and len(self.symbols) >= self.until:
            self.ended = "length"

    def fail(self, error: Exception) -> None:
        self.ended, self.error = "error", error


Pass = tuple[Continuation, int]
"""A text, and which of its conditions."""


class NextSymbol(Protocol):
    """What is asked of a family that knows each symbol given those before it."""

    space: Discrete
    end: int | None
    net: Transformer
    start: nn.Parameter

    def given(self, cond: Tensor | None, n: int) -> Given: ...

    def logits(self, x: Tensor, given: Given, cache: Cache | None = None, order: Tensor | None = None, *,
               ends: Tensor | None = None) -> Tensor: ...  # fmt: skip


class Slots:
    """Tensors of a row for each pass, by name and layer: rows 0 ... count - 1 are in use."""

    def __init__(self) -> None:
        self.tensors: dict[tuple[str, int], Tensor] = {}
        self.count = 0

    def put(self, name: tuple[str, int], value: Tensor, room: Sequence[int] = ()) -> None:
        """Rows (n, ...) behind those in use; there is `room` (...) for what they will hold."""
        need = [self.count + len(value), *(room or value.shape[1:])]
        held = self.tensors.get(name)
        if held is None or any(has < wants for has, wants in zip(held.shape, need, strict=True)):
            self.tensors[name] = held = grown(held, need, value)
        rows = held[self.count : need[0]]
        if value.dtype == torch.bool:
            rows.zero_()
        rows[(slice(None), *(slice(size) for size in value.shape[1:]))] = value

    def drop(self, row: int) -> None:
        """Without this row: the last takes its place."""
        self.count -= 1
        if row != self.count:
            for tensor in self.tensors.values():
                tensor[row] = tensor[self.count]

    def get(self, name: str, layer: int = 0) -> Tensor | None:
        """Of the rows in use."""
        held = self.tensors.get((name, layer))
        return None if held is None else held[: self.count]


def grown(held: Tensor | None, need: Sequence[int], like: Tensor) -> Tensor:
    """What is held, with zeros behind it along every axis up to `need`; and twice as many rows, if any are lacking."""
    if held is None:
        return like.new_zeros(tuple(need))
    size = [max(has, wants) for has, wants in zip(held.shape, need, strict=True)]
    size[0] = len(held) if need[0] <= len(held) else max(need[0], 2 * len(held))
    out = held.new_zeros(size)
    out[tuple(slice(has) for has in held.shape)] = held
    return out


class Continuations:
    """The texts that one model writes at present: `step` as long as there are any. Its weights must not change."""

    def __init__(self, family: NextSymbol) -> None:
        self.family, self.dims = family, family.space.dims
        self.joining: list[Continuation] = []
        self.rows: list[Pass] = []
        self.slots = Slots()
        self.stepper: Stepper | None = None

    def join(self, text: Continuation) -> None:
        """Take it in from the next step on."""
        if not text.ended:
            self.joining.append(text)

    @property
    def texts(self) -> list[Continuation]:
        """All that are not at their end."""
        return [text for text in [*(text for text, i in self.rows if i == 0), *self.joining] if not text.ended]

    @property
    def passes(self) -> int:
        """Rows that the next step takes."""
        return sum(len(text.conditions) for text in self.texts)

    @torch.inference_mode()
    def step(self) -> None:
        """One symbol more for each. Those that are at their end, or have been ended from outside, leave before."""
        self._leave([text for text, _ in self.rows if text.ended])
        rolled = [text for text, i in self.rows if i == 0 and window(len(text.symbols), self.dims) != text.begin]
        self._leave(rolled)
        parts = [self._next()] if self.rows else []
        fresh = [text for text in [*rolled, *self.joining] if not text.ended]
        self.joining = []
        for text in fresh:
            text.begin = window(len(text.symbols), self.dims)
        for passes in similar([(text, i) for text in fresh for i in range(len(text.conditions))]):
            parts.append(self._read(passes))
        if parts:
            self._draw(torch.cat(parts))

    def _leave(self, gone: Sequence[Continuation]) -> None:
        texts = set(gone)
        for row in reversed(range(len(self.rows))):
            if self.rows[row][0] in texts:
                self.slots.drop(row)
                self.rows[row] = self.rows[-1]
                self.rows.pop()

    def _next(self) -> Tensor:
        """(rows, V) logits behind the last symbol of each, which is read."""
        if self.stepper is None:
            self.stepper = Stepper(self.family.net, self.dims, len(self.rows))
        device, get = self.family.start.device, self.slots.get
        last = torch.tensor([[text.symbols[-1]] for text, _ in self.rows], device=device)
        at = torch.tensor([len(text.read) for text, _ in self.rows], device=device)  # the start is a token too
        cache = Cache(self.dims, length=1, step=self.stepper, at=at, last=get("last"))
        for i in range(len(self.stepper.layers)):
            for kind, pairs in (("", cache.layers), ("context ", cache.context)):
                keys, values = get(f"{kind}keys", i), get(f"{kind}values", i)
                if keys is not None and values is not None:
                    pairs[i] = keys, values
        seen = get("seen")
        logits = self.family.logits(last, Given(get("emb"), seen, seen), cache)[:, 0]  # the context is in the cache
        if (before := get("last")) is not None and cache.last is not None:
            before.copy_(cache.last)
        return logits

    def _read(self, passes: Sequence[Pass]) -> Tensor:
        """(rows, V) logits behind windows that are read by one pass, equal ones once; from now on they have slots."""
        device, slots, kinds = self.family.start.device, self.slots, dict[Any, int]()
        told = [(tuple(text.read), text.conditions[i]) for text, i in passes]
        keys = [(read, None if cond is None else cond.numpy(force=True).tobytes()) for read, cond in told]
        back = torch.tensor([kinds.setdefault(key, len(kinds)) for key in keys], device=device)
        first = [told[keys.index(key)] for key in kinds]
        read = [torch.tensor(symbols, dtype=torch.long) for symbols, _ in first]
        ends = torch.tensor([len(symbols) for symbols in read], device=device)
        conds = [cond.to(device) for _, cond in first if cond is not None]
        given, cache = self.family.given(torch.cat(conds) if conds else None, len(read)), Cache(self.dims)
        logits = self.family.logits(pad_sequence(read, True).to(device), given, cache, ends=ends)[:, 0]
        for i, pair in cache.layers.items():
            for name, part in zip(("keys", "values"), pair, strict=True):
                slots.put((name, i), part[back, :, : cache.length], part.shape[1:])
        for i, pair in cache.context.items():
            for name, part in zip(("context keys", "context values"), pair, strict=True):
                slots.put((name, i), part[back])
        seen = given.seen
        if given.context is not None and seen is None:
            seen = torch.ones(given.context.shape[:2], dtype=torch.bool, device=device)
        for name, value in (("emb", given.emb), ("seen", seen), ("last", cache.last)):
            if value is not None:
                slots.put((name, 0), value[back])
        slots.count += len(passes)
        self.rows += passes
        return logits[back]

    def _draw(self, logits: Tensor) -> None:
        """A symbol for each text from the logits (rows, V) of its passes; texts of equal settings together."""
        places: dict[Continuation, list[int]] = {}
        for row, (text, i) in sorted(enumerate(self.rows), key=lambda one: one[1][1]):
            assert i == len(places.setdefault(text, []))
            places[text].append(row)
        groups: list[list[Continuation]] = []
        for text in places:
            for group in groups:
                if group[0].choice == text.choice and len(places[group[0]]) == len(places[text]):
                    group.append(text)
                    break
            else:
                groups.append([text])
        for texts in groups:
            each = zip(*(places[text] for text in texts), strict=True)
            self._choose(guide([logits[list(rows)] for rows in each], texts[0].choice), texts)

    def _choose(self, logits: Tensor, texts: Sequence[Continuation]) -> None:
        """The next symbols of texts of equal settings from their logits (B, V)."""
        choice, device = texts[0].choice, logits.device
        likely = likelihoods(logits, texts)
        if choice.repetition_penalty != 1:
            before = pad_sequence([torch.tensor(text.symbols, dtype=torch.long) for text in texts], True, -1)
            logits = penalise(logits, before.to(device), choice.repetition_penalty)
        if self.family.space.unseen is not None:
            logits = logits.index_fill(1, torch.tensor([self.family.space.unseen], device=device), -torch.inf)
        if any(text.constraint is not None for text in texts):
            may = torch.stack([text.allowed(logits.shape[1]) for text in texts])
            logits = logits.masked_fill(~may.to(device), -torch.inf)
        u = torch.stack([text.u[len(text.symbols)] for text in texts]).to(device)
        for text, chosen, one in zip(texts, choose(logits, choice, u).tolist(), likely, strict=True):
            if not text.ended:
                symbol = text.next(chosen)
                text.add(symbol, one(symbol) if one else None, self.family.end)


def numbers(n: int, length: int, *, generator: Generator, like: Tensor) -> Tensor:
    """(n, length) random numbers on [0, 1), of which a longer row begins with those of a shorter one."""
    parts = [uniform(n, DRAWN_AT_ONCE, generator=generator, like=like, dtype=torch.float64)
             for _ in range(0, length, DRAWN_AT_ONCE)]  # fmt: skip
    return torch.cat(parts, 1)[:, :length]


def window(t: int, dims: int) -> int:
    """Where the window begins that the symbol at t is drawn from: beyond `dims` symbols the last part of it is read
    again as the beginning of a new one. That depends on the position alone, not on the others of a batch.
    """
    hop = max(1, dims // 2)
    return -(-max(0, t - dims + 1) // hop) * hop


def similar(passes: Sequence[Pass]) -> Iterator[list[Pass]]:
    """Passes that are read at once: all given something, or none; of lengths that do not waste half of the work."""
    kind = lambda one: (one[0].conditions[one[1]] is None, len(one[0].read))  # noqa: E731
    group: list[Pass] = []
    for one in sorted(passes, key=kind):
        if group and (kind(one)[0] != kind(group[0])[0] or kind(one)[1] > 2 * kind(group[0])[1] + 8):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def likelihoods(logits: Tensor, texts: Sequence[Continuation]) -> list[Callable[[int], Likely] | None]:
    """For each text that wants to know: symbol -> how likely it is under logits (B, V)."""
    most = max((text.likely for text in texts if text.likely is not None), default=None)
    if most is None:
        return [None] * len(texts)
    p = logits.log_softmax(-1).cpu()
    values, symbols = (part.tolist() for part in p.topk(min(most, p.shape[1])))

    def of(i: int, text: Continuation) -> Callable[[int], Likely] | None:
        best = tuple(zip(symbols[i], values[i], strict=True))[: text.likely]
        return None if text.likely is None else lambda symbol: Likely(float(p[i, symbol]), best)

    return [of(i, text) for i, text in enumerate(texts)]
