"""A trained family with its codecs: from raw items to raw items."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import Tensor

from quintet.core import random
from quintet.core.checked import count_of, kind_name
from quintet.core.codec import Codec, Encoded
from quintet.core.errors import DataError, Unsupported, UsageError, warn
from quintet.core.family import Family, OnStep
from quintet.core.likelihood import LogProb
from quintet.core.memory import NUMBER, must_fit
from quintet.core.random import Rows, seed_of, uniform
from quintet.model.calls import Alone, Call, Engine, asked
from quintet.model.containers import conditions
from quintet.model.scoring import by_symbol, in_pieces, scored
from quintet.runs.config import RunConfig, as_config_error, merge
from quintet.runs.folder import Run
from quintet.runs.task import HELD, Task
from quintet.sources.load import load_checked

ENOUGH = 99
"""Reference items with which p = 0.01 is the least that can be found."""


class Fitted:
    """A fitted family with its codecs: from raw items to raw items, in batches, with seeds. `run` is its folder.

    Raw items are as the codec `x` takes and gives them; conditions are one value for all items or one an item.
    """

    def __init__(
        self, run: Run, family: Family, codecs: Mapping[str, Codec], config: RunConfig, conditions: Tensor | None = None
    ) -> None:
        self.run, self.family, self.codecs, self.config = run, family.eval(), codecs, config
        self.conditions = conditions
        self.engine: Engine = Alone(self.family)

    @property
    def at_once(self) -> int:
        """How many rows are worked on together by default: more where an item is a few numbers, as a table's row is."""
        return 1024 if self.family.space.dims <= 32 else 256

    def through(self, engine: Engine) -> Fitted:
        """The same model, whose work another engine does."""
        other = copy.copy(self)
        other.engine = engine
        return other

    def sampling_by(self, options: Mapping[str, Any] | None) -> Fitted:
        """The same model, with `options` in the place of some of its run's settings of sampling."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"sampling": self.sampling(options).model_dump(mode="json")})
        return other

    @property
    def device(self) -> torch.device:
        return next(self.family.parameters()).device

    def able(self, operation: str) -> None:
        """Raise Unsupported, with the reason, unless this model has the operation."""
        if operation in self.family.missing:
            self.family.refuse(operation)
        if operation == "classify" and (self.labels is None or "cond" not in self.codecs):
            raise Unsupported(
                "this model does not classify",
                where=self.run.name,
                why="only a model with exact likelihoods of one categorical column, given other data, can classify",
                fix="quintet train autoregressive --data SOURCE --target COLUMN --condition text (or image, audio)",
            )

    def condition(self, condition: Any, n: int, seed: int) -> Tensor | None:
        """One value for all, n values, or None: then conditions are drawn from the training data."""
        if "cond" not in self.codecs:
            if condition is not None:
                raise UsageError(
                    "this model takes no condition", where=self.run.name, why="it was trained without a condition",
                    fix="leave the condition out, or train with --condition COLUMN",
                )  # fmt: skip
            return None
        if condition is None:
            assert self.conditions is not None
            u = uniform(n, generator=Rows(seed_of("conditions", seed), 0, n), like=torch.empty(0, dtype=torch.float64))
            return self.conditions[(u * len(self.conditions)).long()].to(self.device)
        codec = self.codecs["cond"]
        values = conditions(condition, codec, n, self.config.data.condition)
        return codec.encode(values).to(self.device)

    def sampling(self, options: Mapping[str, Any] | None) -> Any:
        """The family's Sampling from the run's own and `options`."""
        try:
            return self.family.Sampling(**merge(self.config.sampling, options or {}))
        except ValidationError as error:
            raise as_config_error(error, "sampling", self.family.Sampling.model_fields) from None

    def asked(self, verb: str, n: int, batch_size: int, on_step: OnStep | None = None, *, seed: int | None = None,
              sampling: Any = None, **given: Tensor | None) -> Tensor:  # fmt: skip
        """What the engine makes of n rows: see `Call`."""
        call = Call(verb, n, given, () if seed is None else (seed,), {} if sampling is None else {"sampling": sampling})
        (found,) = asked(self.engine, call, batch_size, on_step)
        assert found is not None
        return found

    def draw(self, n: int, **given: Any) -> Any:
        """`n` raw items, as `sample_encoded` makes them."""
        return self.codecs["x"].decode(self.sample_encoded(n, **given))

    def sample_encoded(
        self,
        n: int,
        *,
        condition: Any = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """n encoded items (n, *space.shape). Item i depends on (seed, i) and its condition, not on n or `batch_size`.

        `batch_size` None: 256 at once, and 1,024 of at most 32 numbers each, as rows of a table have.
        """
        if not 1 <= count_of(n, "n") <= 10_000_000:
            raise UsageError(f"n must be between 1 and 10,000,000, got {n}")
        n, seed = count_of(n, "n"), count_of(seed, "seed", 0)
        must_fit(NUMBER * n * self.family.space.dims, what=f"{n:,} items", fix="fewer at once, by several seeds")
        batch_size = count_of(batch_size or self.at_once, "batch_size")
        settings, cond = self.sampling(sampling), self.condition(condition, n, seed)
        return self.asked("sample", n, batch_size, on_step, seed=seed_of("sample", seed), sampling=settings, cond=cond)

    @torch.no_grad()
    def log_prob(self, items: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> LogProb:
        """The log-likelihood of raw items: see `quintet.Model.log_prob`."""
        score = self.unwarned(items, condition=condition, seed=seed, batch_size=batch_size)
        return replace(score, notes=self.warned(score.notes))

    @torch.no_grad()
    def unwarned(self, items: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> LogProb:
        """The same, and no warning of what is special about items: of those beside which others are ranked."""
        self.able("log_prob")
        if not len(items):
            raise UsageError("no items were given", why="the list of items is empty", fix="give at least one item")
        found = self.codecs["x"].whole(items, overlap=self.family.in_order)
        if not len(found.x):
            fix = "" if self.family.in_order else ", or train autoregressive, or with --coding.items separate"
            raise DataError(
                "the likelihood of these items cannot be computed",
                why=found.notes[0] if found.notes else "",
                fix=f"leave these items out{fix}",
            )
        cond = found.of_rows(self.given(condition, len(items)))
        score = scored(self.engine, self.family, self.codecs["x"], found, cond, seed, batch_size)
        notes = in_pieces(found)
        return replace(score, notes=None if notes is None else tuple(notes))

    @torch.no_grad()
    def log_prob_windows(self, items: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> LogProb:
        """The log-likelihoods of encoded items as training has them: of a long text, of each of its windows side by
        side, without what does not fill one.
        """
        found = self.codecs["x"].encoded(items)
        cond = self.given(condition, len(found.x))
        return scored(self.engine, self.family, self.codecs["x"], found, cond, seed, batch_size)

    def warned(self, notes: Sequence[str] | None) -> tuple[str, ...] | None:
        """`notes` of items, after a warning of how many there are and what the first says."""
        first = next((i for i, note in enumerate(notes or ()) if note), None)
        if notes is None or first is None:
            return None if notes is None else tuple(notes)
        told = f"{sum(map(bool, notes)):,} of {len(notes):,} items are marked; the first, item {first}: {notes[first]}"
        warn(told)
        return tuple(notes)

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """The labels of a model of one categorical column whose likelihoods are exact; None for any other model."""
        return self.codecs["x"].labels if self.family.likelihood == "exact" else None

    def classify(self, given: Any, n: int | None = None, *, batch_size: int = 256) -> pa.Table:
        """The probability of each label given `n` conditions or one value, as a table: see `quintet.Model.classify`."""
        self.able("classify")
        every = self.codecs["x"].every()
        found, names = self.codecs["x"].encoded(every), every.column(0)
        symbols, share = found.x[:, 0], found.log_det
        cond = self.given(given, n or len(given))
        assert cond is not None
        p = (self.asked("log_probs", len(cond), batch_size, cond=cond)[:, symbols].double() + share).exp().numpy()
        predicted = names.take(pa.array(p.argmax(1)))
        return pa.table({"predicted": predicted} | {f"p_{name}": p[:, i] for i, name in enumerate(names.to_pylist())})

    def given(self, condition: Any, n: int) -> Tensor | None:
        """`condition`, which a conditional model cannot do without here."""
        if "cond" in self.codecs and condition is None:
            raise UsageError(
                "this model is conditional: its likelihoods and latents need a condition",
                where=self.run.name,
                fix="give one condition for all items, or one for each item",
            )
        return self.condition(condition, n, 0)

    def complete(
        self,
        items: Any,
        *,
        known: Any = None,
        condition: Any = None,
        draws: int = 1,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        on_step: OnStep | None = None,
    ) -> Any:
        """Raw items with their holes filled: see `quintet.Model.complete`."""
        self.able("complete")
        draws, seed = count_of(draws, "draws"), count_of(seed, "seed", 0)
        batch_size, settings = count_of(batch_size, "batch_size"), self.sampling(sampling)
        x, mask = self.codecs["x"].partial(items, known)
        cond = self.given(condition, len(x))
        out = []
        for draw in range(draws):
            done = self.asked("complete", len(x), batch_size, on_step, seed=seed_of("complete", seed, draw),
                              sampling=settings, x=x, known=mask, cond=cond)  # fmt: skip
            out.append(self.codecs["x"].fill(items, known, self.codecs["x"].decode(done)))
        return out[0] if draws == 1 else out

    def encode(self, items: Any, *, condition: Any = None, batch_size: int = 256) -> Tensor:
        """The latents of raw items, a row each: see `quintet.Model.encode`."""
        z, found, _ = self._latents(items, condition, batch_size)
        if len(z) > len(items) > 1:
            item = int(found.owner.bincount().argmax()) + 1
            raise UsageError(f"item {item} does not have exactly one row of latents", fix="encode one item at a time",
                             why="it is longer than a window of the model, and each window has a row")  # fmt: skip
        if len(z) > len(items):
            told = f"the item is longer than a window, so there is a row for each of its {len(z)} windows"
            warn(told)
        return z

    def encode_windows(self, items: Any, *, condition: Any = None, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Of a model of windows of long items: the latents of the windows of each item, of which the last ends with
        it, and (rows,) which item each is of.
        """
        z, found, _ = self._latents(items, condition, batch_size)
        return z, found.owner

    @torch.no_grad()
    def _latents(self, items: Any, condition: Any, batch_size: int = 256) -> tuple[Tensor, Encoded, Tensor | None]:
        """The latents of encoded items, these, and a condition a row. Raises DataError for an item without a row."""
        self.able("encode")
        codec, batch_size = self.codecs["x"], count_of(batch_size, "batch_size")
        found = codec.whole(items) if codec.stream else codec.encoded(items)
        if found.rows is not None and found.notes is not None and not found.rows.all():
            i = int(found.rows.argmin())
            raise DataError(f"the latents of item {i + 1} cannot be computed", why=found.notes[i],
                            fix="leave this item out, or train with --coding.items separate")  # fmt: skip
        self.warned(found.notes)
        self.family.space.check(found.x)
        cond = found.of_rows(self.given(condition, len(items)))
        return self.asked("encode", len(found.x), batch_size, x=found.x, cond=cond), found, cond

    @torch.no_grad()
    def decode(self, z: Tensor, *, condition: Any = None, batch_size: int = 256) -> Any:
        """Raw items from latents."""
        self.able("decode")
        try:
            z = torch.as_tensor(z)
        except (TypeError, ValueError, RuntimeError) as error:
            what = f"latents must be an array of numbers like the one that encode returns, got {kind_name(z)}"
            raise UsageError(what, why=str(error)) from None
        if z.numel() == 0:
            raise UsageError("no latents were given", why=f"the array is empty: its shape is {tuple(z.shape)}")
        cond, each = self.given(condition, len(z) if z.ndim else 1), count_of(batch_size, "batch_size")
        try:
            return self._decode(z.to(next(self.family.parameters()).dtype), cond, each)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            shape = f"an array of shape {tuple(z.shape)} was given"
            raise UsageError("these latents do not fit this model", why=f"{shape}: {error}".splitlines()[0],
                             fix="give the array that encode returns for this model") from None  # fmt: skip

    def _decode(self, z: Tensor, cond: Tensor | None, batch_size: int = 256) -> Any:
        """`decode` under an encoded condition (len(z), ...)."""
        return self.codecs["x"].decode(self._decoded(z, cond, batch_size))

    def _decoded(self, z: Tensor, cond: Tensor | None, batch_size: int = 256) -> Tensor:
        """Encoded items of latents."""
        return self.asked("decode", len(z), batch_size, z=z, cond=cond)

    @torch.no_grad()
    def reconstruct(self, items: Any, *, condition: Any = None) -> Any:
        """decode(encode(items)): what the latents keep of them. Of a model of windows, each item window by window."""
        self.able("decode")
        z, found, cond = self._latents(items, condition)
        return self.codecs["x"].joined(self._decoded(z, cond), found)

    def _ends(self, items: Any, condition: Any) -> Tensor:
        """The latents of the ends of paths: of a model of windows of long items, of a window each."""
        z, _, _ = self._latents(items, condition)
        if len(z) > len(items):
            raise UsageError("a path can only be drawn between items that fit into one window of the model",
                             why="an item is longer than a window", fix="give parts of the items that fit")  # fmt: skip
        return z

    def interpolate(self, first: Any, last: Any, *, steps: int = 8, condition: Any = None) -> list[Any]:
        """Paths of raw items between pairs of them: see `quintet.Model.interpolate`."""
        if count_of(steps, "steps") < 2:
            raise UsageError(f"a path needs at least 2 steps, its two ends, got {steps}")
        a, b = self._ends(first, condition), self._ends(last, condition)
        if len(a) != len(b):
            raise UsageError(f"each path needs a first and a last item, got {len(a)} first and {len(b)} last items")
        t = torch.linspace(0, 1, steps, dtype=a.dtype)
        cond, paths = self.given(condition, len(a)), []
        with torch.no_grad():
            for i, (z0, z1) in enumerate(zip(a, b, strict=True)):
                same = None if cond is None else cond[i : i + 1].expand(steps, *cond.shape[1:])
                paths.append(self._decode(slerp(z0, z1, t), same))
        return paths

    def rank(self, items: Any, *, reference: Any = None, condition: Any = None, given: Any = None,
             seed: int = 0) -> pa.Table:  # fmt: skip
        """Raw items from the least to the most likely, as a table: see `quintet.Model.rank`."""
        self.able("log_prob")
        scored = self.log_prob_windows if reference is None and self.codecs["x"].stream else self.unwarned
        if reference is None:
            reference, given = self.held_out()
        usual = scored(reference, condition=given, seed=seed)
        found = self.log_prob(items, condition=condition, seed=seed)
        nats, notes = found.values.numpy(), found.notes
        likely, calm = (by_symbol(each) if self.codecs["x"].stream else each.values.numpy() for each in (found, usual))
        if len(calm) < ENOUGH:
            told = (
                f"there are only {len(calm)} reference items, so p is at least 1/{len(calm) + 1} and never 0.01 or less"
            )
            warn(f"{told}; {ENOUGH} are needed for that")
        p = (1 + np.searchsorted(np.sort(calm), likely, side="right")) / (1 + len(calm))
        p = np.where(np.isnan(likely), np.nan, p)  # a text that has no likelihood has no rank either
        order = np.argsort(likely, kind="stable")
        columns: dict[str, Any] = {"index": order}
        columns |= {name: pa.array(each[order], from_pandas=True) for name, each in (("nats", nats), ("p", p))}
        columns |= {} if notes is None else {"note": [notes[i] for i in order]}
        return pa.table(columns).replace_schema_metadata({"reference": str(len(calm))})

    def held_out(self, limit: int = 1000, *, test: bool = True) -> tuple[Any, Any]:
        """Validation items of the run's own source and their conditions: see `quintet.Model.held_out`."""
        task = Task.of(self.config, load_checked(**self.config.data.reading()), self.codecs)
        task = task.examples("validation", "test").known()
        whole = self.codecs["x"].stream  # one text is many windows, of which any may have chosen the weights
        split = "validation"
        if self.config.training.select != "last" or self.config.training.patience is not None:
            items = len(task.dataset.index(split))
            others = np.setdiff1d(np.arange(items), random.some(range(items), HELD, 0))
            if not whole and len(others) >= ENOUGH:
                task = task.at(split, others)
            elif test:
                split = "test"
            else:
                told = "the reference items also chose the weights, so that new items have smaller p than they should"
                warn(told)
        return (task if whole else task.some(split, count_of(limit, "limit"))).items(split)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(steps, *shape): from a to b, direction by the angle, length evenly."""
    u, v = a.flatten(), b.flatten()
    cosine = torch.dot(u, v) / (u.norm() * v.norm()).clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    w = t[:, None]
    if angle.sin() < 1e-4:  # nearly parallel or opposite: the line
        path = (1 - w) * u + w * v
    else:
        turn = (torch.sin((1 - w) * angle) * u / u.norm() + torch.sin(w * angle) * v / v.norm()) / angle.sin()
        path = turn * ((1 - w) * u.norm() + w * v.norm())
    return path.view(len(t), *a.shape)
