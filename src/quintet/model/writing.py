"""Texts by a model of the next symbol: prompts, lengths beyond the window, stop texts, patterns, streams, n-best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from quintet.core.checked import count_of
from quintet.core.codec import Vocabulary
from quintet.core.errors import DataError, Unsupported, UsageError, warn
from quintet.core.family import OnStep
from quintet.core.random import Rows, seed_of
from quintet.model.calls import Call
from quintet.model.fitted import Fitted
from quintet.model.spelling import Begin, Regex, Speller, StopTexts, together
from quintet.nets.continuing import Constraint, Continuation, Likely, numbers
from quintet.nets.decoding import InOrder


class Hypothesis(NamedTuple):
    """A raw item, its log-likelihood given the condition and the prompt in nats, and the score that ranks it."""

    item: Any
    log_prob: float
    score: float


@dataclass(frozen=True)
class Wanted:
    """Texts that are asked for: each begins with its prompt and has `length` symbols at most behind it (by default the
    rest of the window, or a window where the prompt fills one), up to one of the texts `stop`, matching `regex`, as
    `constraint` allows. `condition`: one value for all or one a prompt.
    """

    prompts: Sequence[str]
    condition: Any = None
    length: int | None = None
    stop: Sequence[str] = ()
    regex: str | None = None
    constraint: Constraint | None = None
    seed: int = 0
    sampling: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        count_of(self.seed, "seed", 0)
        if not isinstance(self.stop, list | tuple) or any(not isinstance(stop, str) or not stop for stop in self.stop):
            raise UsageError("stop texts must be given as a list of texts that are not empty", where=str(self.stop))
        if self.regex is not None and self.stop:
            why = "a text that ends at a stop text might not match the regular expression"
            fix = "write the end of the text into the regular expression"
            raise UsageError("stop texts and a regular expression cannot be used together", why=why, fix=fix)
        if self.length is not None:
            count_of(self.length, "length")


class Token(NamedTuple):
    """A symbol: its text, its log-probability in nats, and the likeliest symbols in its place with theirs."""

    text: str
    log_prob: float
    best: tuple[tuple[str, float], ...]


class Text:
    """A text as it is being written: `text`, its prompt included, as far as it is certain; `tokens`, where their
    likelihood is wanted, and those of the prompt if they were forced; why it `ended`: "stop" (a stop text, its own end,
    the end of a pattern) or "length"; and whether it is `finished`: nothing of it waits.
    """

    def __init__(
        self, continuation: Continuation, prompt: str, speller: Speller, pieces: Sequence[bytes], blank: bool
    ) -> None:
        self.continuation, self.prompt, self.text, self.speller = continuation, prompt, prompt, speller
        self.pieces, self.waits = pieces, blank  # the prompt ends in the blank that the first piece begins with
        self.tokens: list[Token] = []
        self.finished = False
        self._fresh: list[str] = []
        continuation.on_symbol = self._add

    @property
    def ended(self) -> str:
        return self.continuation.ended

    @property
    def progress(self) -> tuple[int, int]:
        """How many symbols are written, of how many at most."""
        one = self.continuation
        return len(one.symbols) - one.start, (len(one.symbols) if one.ended else one.until) - one.start

    def fresh(self) -> list[str]:
        """The pieces that are new since the last time."""
        out, self._fresh = self._fresh, []
        return out

    def finish(self) -> None:
        """Nothing more comes, so that what waited is certain."""
        self._say(self.speller([], final=True))
        self.finished = True

    def _add(self, symbol: int, likely: Likely | None) -> bool:
        if likely is not None:
            best = tuple((self._spelt(i), log_p) for i, log_p in likely.best)
            self.tokens.append(Token(self._spelt(symbol), likely.log_prob, best))
        if len(self.continuation.symbols) <= self.continuation.start:  # of the prompt
            return False
        self._say(self.speller([symbol]))
        return self.speller.done

    def _say(self, piece: str) -> None:
        if piece:
            piece, self.waits = piece.removeprefix(" ") if self.waits else piece, False
            self.text += piece
            self._fresh.append(piece)

    def _spelt(self, symbol: int) -> str:
        return self.pieces[symbol].decode("utf-8", "replace") if symbol < len(self.pieces) else ""


class Writer:
    """One model at work on the texts that are wanted of it. `first`: which texts of their seed these are, from this."""

    def __init__(self, model: Fitted, wanted: Wanted, first: int = 0) -> None:
        self.model, self.prompts, self.wanted, self.first = model, list(wanted.prompts), wanted, first
        self.family, self.vocabulary = parts_of(model)
        self.space, self.long = self.family.space, model.codecs["x"].stream
        self.settings = model.sampling(wanted.sampling)
        self.pieces, self.size = self.vocabulary.pieces(), self.space.vocab_size
        self.rows = [self.vocabulary.encode(prompt) for prompt in self.prompts]
        if count := sum(int((row == self.space.unseen).sum()) for row in self.rows if self.space.unseen is not None):
            warn(f"{count:,} characters of the prompts did not occur in training: each counts as an unknown character")
        self.blank = [self.vocabulary.joins_blanks and self.ends_in_blank(row) for row in self.rows]
        self.regex = {blank: self.pattern(blank) for blank in set(self.blank)} if wanted.regex is not None else {}
        self.x, self.known, self.begins, self.until = self.laid_out()

    def ends_in_blank(self, row: np.ndarray) -> bool:
        """Whether a prompt's last symbol is a lone blank. Byte pairs begin words with their blank: behind a lone one, a
        model that goes on with a word would write two. So that blank is left to the first new symbol.
        """
        return bool(len(row)) and self.pieces[int(row[-1])] == b" "

    def pattern(self, blank: bool) -> Regex:
        """What is new matches the pattern, behind the blank that it begins with where the prompt ends in one."""
        pieces = [b"" if i == self.space.unseen else piece for i, piece in enumerate(self.pieces)]
        pattern = f" (?:{self.wanted.regex})" if blank else str(self.wanted.regex)
        return Regex(pattern, pieces, self.size, self.space.pad, self.room)

    def at_once(self, batch_size: int, cond: Tensor | None, copies: int) -> int:
        """How many prompts are worked on together, each by several `copies`."""
        return min(count_of(batch_size, "batch_size"), self.family.at_once(self.settings, cond, copies))

    def slices(self, at_once: int) -> Iterator[slice]:
        """Neighbouring prompts, `at_once` at most, that all end in a blank or all do not."""
        start = 0
        for end in range(1, len(self.prompts) + 1):
            if end == len(self.prompts) or end - start == at_once or self.blank[end] != self.blank[start]:
                yield slice(start, end)
                start = end

    def laid_out(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (n, T), known (n, T) and where each row's new part begins and ends, (n,)."""
        block = self.space.dims
        rows = [row[: len(row) - blank] for row, blank in zip(self.rows, self.blank, strict=True)]
        begin = torch.tensor([len(row) for row in rows])
        length = self.wanted.length
        if not self.long:
            if length is not None and length > block:
                raise UsageError(
                    f"a text of this model has at most {block} symbols, but a length of {length} was asked for",
                    fix="ask for a smaller length, or train with a larger --coding.block or --coding.items stream",
                )
            for i in (begin > block).nonzero()[:1, 0].tolist():
                raise DataError(
                    f"the text has {int(begin[i])} symbols, but the model takes at most {block}",
                    where=f"text {i + 1}",
                    fix="shorten the text",
                )
        until = begin + torch.tensor([self.room(int(start)) for start in begin])
        place = torch.arange(int(until.max()))
        x = torch.zeros(len(rows), len(place), dtype=torch.long)
        for i, row in enumerate(rows):
            x[i, : len(row)] = torch.from_numpy(row)
        return x, (place < begin[:, None]) | (place >= until[:, None]), begin, until

    def room(self, begin: int) -> int:
        """How many new symbols a text may have whose prompt takes `begin`."""
        block, length = self.space.dims, self.wanted.length
        if self.long:
            return length or (block - begin if begin < block else block)
        return min(length or block, block - begin)

    def constraint(self, blank: bool, *, stops: bool = False) -> Constraint | None:
        """The pattern, a first blank and the caller's own, together; for a search the end of a stop text, too."""
        stop = StopTexts(self.pieces, self.wanted.stop, self.size) if stops and self.wanted.stop else None
        first = Begin(self.pieces, b" ", self.size) if blank and not self.regex else None
        return together(self.wanted.constraint, self.regex.get(blank), stop, first)

    def speller(self) -> Speller:
        """What makes text of new symbols."""
        return Speller(self.pieces, self.wanted.stop, self.space.pad)

    def spelt(self, i: int, row: Sequence[int], begin: int) -> str:
        """The text of row i: its prompt as it was given, and what is new up to the end or a stop text."""
        text = self.speller()(row[begin : int(self.until[i])], final=True)
        return self.prompts[i] + (text.removeprefix(" ") if self.blank[i] else text)

    def begin(self, likely: int | None = None, prompts: bool = False) -> list[Text]:
        """The texts, of which nothing is written yet: see `Text`. `run` writes them. `likely`: of so many of the
        likeliest symbols the likelihood is wanted at each step, and at those of the `prompts`, which takes a step each.
        """
        n, seed, device = len(self.prompts), self.wanted.seed, self.model.device
        if self.settings.beams > 1:
            raise UsageError(
                "a beam search cannot show its text while it is made",
                why="the text is known only at the end of the search",
                fix="set sampling.beams to 1, or do not stream",
            )
        drawn = self.wanted.condition is None  # for all of the seed's texts up to ours
        cond = self.model.condition(self.wanted.condition, n + self.first * drawn, seed)
        cond = cond[self.first :] if drawn and cond is not None else cond
        u = numbers(n, int(self.until.max()), generator=Rows(seed_of("write", seed), self.first, n),
                    like=torch.empty(0, device=device)).cpu()  # fmt: skip
        texts = []
        for i, prompt in enumerate(self.prompts):
            row, until = self.x[i, : int(self.begins[i])].tolist(), int(self.until[i])
            given = None if cond is None else cond[i : i + 1]
            read, forced = ([], row) if prompts else (row, [])
            one = Continuation(read, until, u[i], self.settings, given, self.constraint(self.blank[i]), likely=likely,
                               forced=forced)  # fmt: skip
            texts.append(Text(one, prompt, self.speller(), self.pieces, self.blank[i]))
        return texts

    def run(self, texts: Sequence[Text], batch_size: int = 256, *, steps: bool = True) -> Iterator[None]:
        """Write texts that are begun, about `batch_size` at once; with `steps` there is an item behind each step."""
        most = min(count_of(batch_size, "batch_size"), self.family.at_once(self.settings, None))
        left = list(texts)
        for _ in self.model.engine.written([text.continuation for text in texts], most, steps=steps):
            ended = [text for text in left if text.ended]  # asked once: others may write them in another thread
            for text in ended:
                text.finish()
            left = [text for text in left if not text.finished]
            yield
        for text in left:
            text.finish()

    def write(self, batch_size: int = 256, on_step: OnStep | None = None) -> list[str]:
        """The texts. Text i depends on its prompt, its condition and (seed, i), not on the others."""
        if self.settings.beams > 1:
            best = self.n_best(1, batch_size)
            found = [some[0].item if some else prompt for some, prompt in zip(best, self.prompts, strict=True)]
        else:
            texts = self.begin()
            for _ in self.run(texts, batch_size, steps=on_step is not None):
                if on_step:
                    step, steps = (sum(part) for part in zip(*(text.progress for text in texts), strict=True))
                    on_step(step, steps, torch.empty(0))
            found = [text.text for text in texts]
        self.check(found)
        return found

    def stream(self) -> Iterator[str]:
        """The one text that is wanted, in pieces: first its prompt, then what is new as soon as it is certain."""
        (text,) = self.begin()
        if text.prompt:
            yield text.prompt
        for _ in self.run([text]):
            yield from text.fresh()
        yield from text.fresh()
        self.check([text.text])

    def n_best(self, k: int, batch_size: int = 256) -> list[list[Hypothesis]]:
        """For each prompt its k likeliest texts that a search finds, fewer where there are not so many."""
        n, copies = len(self.prompts), max(count_of(k, "k"), self.settings.beams)
        found, cond = [], self.model.condition(self.wanted.condition, n, self.wanted.seed)
        given, settings = {"x": self.x, "known": self.known, "cond": cond}, {"k": k, "sampling": self.settings}
        for some in self.slices(self.at_once(batch_size, cond, copies)):
            constraint = self.constraint(self.blank[some.start], stops=True)
            call = Call("n_best", n, given, options=settings | {"constraint": constraint})
            best = self.model.engine.rows(call.part(some.start, some.stop - some.start))
            lists = zip(*(part.tolist() for part in best if part is not None), strict=True)
            for i, (rows, log_p, score) in enumerate(lists, some.start):
                texts = (self.spelt(i, row, int(self.begins[i])) for row in rows)
                found.append([Hypothesis(*one) for one in zip(texts, log_p, score, strict=True) if one[2] > -torch.inf])
        return found

    def check(self, texts: list[str]) -> None:
        """Warn of texts that do not match the pattern, since a constraint of the caller's own kept them from it."""
        if not self.regex or self.wanted.constraint is None:
            return
        cut = 0
        for text, prompt, blank in zip(texts, self.prompts, self.blank, strict=False):
            new = " " * blank + text[len(prompt) :]
            cut += not self.regex[blank].matches(self.vocabulary.encode(new).tolist())
        if cut:
            what = f"{cut} of {len(texts)} texts do not match {self.wanted.regex!r}: the constraint does not allow it"
            warn(what)


def parts_of(model: Fitted) -> tuple[InOrder, Vocabulary]:
    """The family of a model that writes symbol by symbol and what spells its texts, or Unsupported."""
    family, codec = model.family, model.codecs["x"]
    if not family.in_order:
        raise Unsupported(f"this {family.name} model does not write its items symbol by symbol", where=model.run.name,
                          why="lengths, stop texts, patterns, streams and n-best need the distribution of each symbol "
                          "given those before it",
                          fix="quintet train autoregressive --data SOURCE --model.order fixed "
                          "--model.shorten 1")  # fmt: skip
    if codec.vocabulary is None:
        what, fix = f"this model makes items of kind {codec.name}, not text", "use a run that was trained on texts"
        raise Unsupported(what, where=model.run.name, fix=fix)
    return cast(InOrder, family), codec.vocabulary
