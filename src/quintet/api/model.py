"""A trained model on whatever a program holds: everything that one does with it."""

from __future__ import annotations

import base64
import html
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quintet.core.checked import checked_methods, count_of
from quintet.core.codec import Codec
from quintet.core.errors import CheckpointError, UsageError
from quintet.core.family import Family, OnStep
from quintet.core.likelihood import LogProb
from quintet.modalities.frames import back, is_frame, library, scalar
from quintet.modalities.protocol import Modality
from quintet.model.containers import raw_items
from quintet.model.fitted import Fitted
from quintet.model.inputs import read_items
from quintet.model.writing import Hypothesis, Wanted, Writer, parts_of
from quintet.nets.continuing import Constraint
from quintet.registry import MODALITIES
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run


@checked_methods
class Model:
    """A trained family with its codecs: everything on raw data. `run` is its folder.

    Items and conditions may be raw items or whatever holds them: a `pathlib.Path`, frames and columns of pandas, polars
    and Arrow, dicts of columns, lists, pictures of Pillow, arrays, tensors. One item is a list of one. Tables come back
    as frames of the library that the items came from. A model that was trained on a frame samples such frames.

    `fitted` is the same without containers: raw items as its codec gives them. `frames` is the library whose frames
    `sample` gives.
    """

    def __init__(self, fitted: Fitted, frames: str | None = None) -> None:
        self.fitted, self.frames = fitted, frames

    @property
    def run(self) -> Run:
        return self.fitted.run

    @property
    def family(self) -> Family:
        return self.fitted.family

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return self.fitted.codecs

    @property
    def config(self) -> RunConfig:
        return self.fitted.config

    @property
    def device(self) -> torch.device:
        return self.fitted.device

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """The labels of a model of one categorical column whose likelihoods are exact; None for any other model."""
        return self.fitted.labels

    @property
    def modality(self) -> Modality:
        """What kind of data its items are."""
        return MODALITIES[self.codecs["x"].modality]

    def __repr__(self) -> str:
        """What it is, in one line: family, data, parameters, run."""
        data, count = self.config.data, sum(p.numel() for p in self.family.parameters())
        of = f"{data.target} of " if data.target else ""
        given = f" given {data.condition}" if data.condition else ""
        source = Path(data.source).name or data.source
        return f"<quintet.Model: {self.family.name} of {of}{source}{given}, {count:,} parameters, run {self.run.path}>"

    def _repr_html_(self) -> str:
        """The same for notebooks, with the newest figures and the newest picture of samples."""
        rows = [record for record in self.run.metrics() if "quality" in record or "held_out" in record]
        named = {"step": "step", "held_out": "loss on unseen items", "quality": "quality"}
        cells = "".join(f"<tr><th>{name}</th><td>{rows[-1][key]:.6g}</td></tr>" for key, name in named.items()
                        if rows and isinstance(rows[-1].get(key), int | float))  # fmt: skip
        pictures = sorted((self.run.path / "samples").glob("*.png"))
        image = ""
        if pictures:
            content = base64.b64encode(pictures[-1].read_bytes()).decode()
            image = f'<img alt="samples" style="max-width:480px" src="data:image/png;base64,{content}">'
        elif self.modality.readable and "sample" not in self.family.missing:
            image = f"<pre>{html.escape(self.modality.lines(self.fitted.draw(5)))}</pre>"
        return f"<p>{html.escape(repr(self))}</p><table>{cells}</table>{image}"

    # -- what users hold ---------------------------------------------------------------------------------------------

    def _raw(self, items: Any, condition: Any = None) -> tuple[Any, Any]:
        """(raw items, their condition) of whatever holds items; a file brings its own conditions."""
        if isinstance(items, Path) and items.suffix.lower() not in self.modality.opens:
            found = read_items(self.config, str(items), None, like=self.codecs)
            return found.items, found.given if condition is None else self._given(condition)
        column = self.config.data.target
        return raw_items(items, self.codecs["x"], column, self.config.data.reading()), self._given(condition)

    def _given(self, condition: Any) -> Any:
        """Conditions, of a file as it holds them."""
        if not isinstance(condition, Path) or "cond" not in self.codecs:
            return condition
        found = read_items(self.config, str(condition), None, unlabelled=True, like=self.codecs)
        return found.items if found.given is None else found.given

    def _original(self, items: Any) -> Any:
        """Images of 16 bits or real numbers in the units of their files; anything else as it is."""
        return self.modality.values(items, self.config.data.reading())

    def _like(self, made: Any, items: Any) -> Any:
        """What was made of these items in their units, or as a frame of their library with their index."""
        if getattr(items, "dtype", None) not in (np.uint8, torch.uint8):
            made = self._original(made)
        return back(made, library(items) if is_frame(items) else None, getattr(items, "index", None))

    # -- new items ---------------------------------------------------------------------------------------------------

    def sample(
        self,
        n: int = 16,
        *,
        condition: Any = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        on_step: OnStep | None = None,
    ) -> Any:
        """n raw items. Item i depends on (seed, i) and its condition, not on n or `batch_size`.

        `batch_size` None: 256 at once, and 1,024 of at most 32 numbers each, as rows of a table have.
        """
        items = self.fitted.draw(n, condition=self._given(condition), seed=seed, sampling=sampling,
                                 batch_size=batch_size, on_step=on_step)  # fmt: skip
        return self._original(back(items, self.frames))

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
        """`items` with their holes filled by a draw given the rest; a list of `draws` such results if several.

        Holes: null cells and lacking columns of a table; False in `known` (H, W) or (N, H, W) for images; what a
        shorter text or recording lacks, and each character \u2588 of a text. What was known comes back as it was.
        """
        self.fitted.able("complete")
        raw, condition = self._raw(items, condition)
        if isinstance(known, Tensor | list | tuple):
            known = np.asarray(known)
        out = self.fitted.complete(raw, known=known, condition=condition, draws=draws, seed=seed, sampling=sampling,
                                   batch_size=batch_size, on_step=on_step)  # fmt: skip
        return [self._like(one, items) for one in out] if draws != 1 else self._like(out, items)

    def write(
        self,
        prompts: Any = "",
        n: int = 1,
        *,
        condition: Any = None,
        length: int | None = None,
        stop: Sequence[str] = (),
        regex: str | None = None,
        constraint: Constraint | None = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        on_step: OnStep | None = None,
    ) -> list[str]:
        """Texts by an autoregressive model, n of each prompt, prompt by prompt.

        `length`: new symbols at most, beyond the window too where the model was trained on windows of long texts; of
        a prompt that is longer than the window the last part is read. A text ends before the first of the texts
        `stop`. What is new matches `regex`. `constraint(x (B, t), start (B,)) -> (B, V)` says which symbols may follow
        those so far, of which `start` were given; where none may, the text ends.
        """
        n = count_of(n, "n")
        given = [prompt for prompt in self._prompts(prompts) for _ in range(n)]
        wanted = Wanted(given, self._given(condition), length, stop, regex, constraint, seed, sampling)
        return Writer(self.fitted, wanted).write(batch_size, on_step)

    def _prompts(self, prompts: Any) -> list[str]:
        """Texts to continue, from whatever holds them; Unsupported for a model that continues none."""
        parts_of(self.fitted)
        return list(raw_items(prompts, self.codecs["x"]))

    def stream(
        self,
        prompt: str = "",
        *,
        index: int = 0,
        condition: Any = None,
        length: int | None = None,
        stop: Sequence[str] = (),
        regex: str | None = None,
        constraint: Constraint | None = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """The text `write(prompt, n, ...)[index]` in pieces, as it is made. `condition`: of this text."""
        given = None if condition is None else [self._given(condition)]
        wanted = Wanted([prompt], given, length, stop, regex, constraint, seed, sampling)
        return Writer(self.fitted, wanted, count_of(index, "index", 0)).stream()

    def n_best(
        self,
        k: int = 4,
        *,
        prompts: Any = "",
        n: int = 1,
        condition: Any = None,
        length: int | None = None,
        stop: Sequence[str] = (),
        regex: str | None = None,
        constraint: Constraint | None = None,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        batch_size: int = 256,
    ) -> list[list[Hypothesis]]:
        """For each prompt (or each of n conditions) the k likeliest texts, best first, each (item, log_prob, score).

        By beam search with max(k, beams) beams; score = log_prob / ((5 + symbols) / 6)^length_penalty, as `sampling`
        says.
        """
        given = self._prompts(prompts) * (count_of(n, "n") if isinstance(prompts, str) else 1)
        wanted = Wanted(given, self._given(condition), length, stop, regex, constraint, seed, sampling)
        return Writer(self.fitted, wanted).n_best(k, batch_size)

    # -- how likely items are ----------------------------------------------------------------------------------------

    def log_prob(self, items: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> LogProb:
        """The log-likelihood of raw items in their own measure, and what kind it is.

        A conditional model scores given `condition`. Quantised data are dequantised by noise from `seed`.

        A text has one value, however long or short it is: what is longer than the model reads at once is scored in
        pieces, those of a model of the next symbol overlapping. `LogProb.notes` says of each item what was cut,
        replaced or unseen, and a warning how many such items there are.
        """
        self.fitted.able("log_prob")
        items, condition = self._raw(items, condition)
        return self.fitted.log_prob(items, condition=condition, seed=seed, batch_size=batch_size)

    def rank(self, items: Any, *, reference: Any = None, condition: Any = None, given: Any = None,
             seed: int = 0) -> Any:  # fmt: skip
        """Items from the least to the most likely: columns index, nats, p, and note of what was cut or replaced.

        A model of windows of long texts ranks by nats a symbol, next to windows of its held-out text.

        p is the share of `reference` items (default: see `held_out`) that are at most as likely, counting
        the item itself: (1 + #{ref <= nats}) / (1 + #ref). For an item like the reference it is uniform, so p <= 0.01
        flags one such item in a hundred (conformal anomaly detection, Laxhammar & Falkman 2011). `given`: the
        conditions of the reference. With R of them no p is below 1 / (R + 1): if that is above 0.01, this is warned.
        """
        self.fitted.able("log_prob")
        raw, condition = self._raw(items, condition)
        if reference is not None:
            reference, given = self._raw(reference, given)
        found = self.fitted.rank(raw, reference=reference, condition=condition, given=given, seed=seed)
        return back(found, library(items))

    def held_out(self, limit: int = 1000, *, test: bool = True) -> tuple[Any, Any]:
        """At most `limit` validation items of the run's own source, drawn by a fixed seed, and their conditions.

        Where the weights were chosen by some of these, only the others count: an item that chose them is likelier than
        a new one. If the others are too few, test items are taken, or, without `test`, all, which is warned.
        """
        return self.fitted.held_out(limit, test=test)

    def classify(self, items: Any, *, batch_size: int = 256) -> Any:
        """p(label | item) for every label: the columns `predicted`, and `p_LABEL` of each label, 1 together.

        `items` are what labels are given: the conditions of a model of one categorical column.
        """
        self.fitted.able("classify")
        n, given = 1 if scalar(items) and not isinstance(items, Path) else None, items
        if isinstance(items, Path):
            given = read_items(self.config, str(items), None, unlabelled=True, like=self.codecs).given
        if n is None:
            given = raw_items(given, self.codecs["cond"], self.config.data.condition)
        found = self.fitted.classify(given, n, batch_size=batch_size)
        return back(found, library(items), getattr(items, "index", None))

    # -- latents -----------------------------------------------------------------------------------------------------

    def encode(self, items: Any, *, condition: Any = None, batch_size: int = 256) -> Tensor:
        """The latents of raw items, a row each.

        A model of windows of long texts has latents of a window. Of one text that is longer, each window has a row, the
        last one ending with the text, and this is warned; several must be a window each.
        """
        self.fitted.able("encode")
        items, condition = self._raw(items, condition)
        return self.fitted.encode(items, condition=condition, batch_size=batch_size)

    def decode(self, z: Tensor, *, condition: Any = None, batch_size: int = 256) -> Any:
        """Raw items from latents."""
        return self.fitted.decode(z, condition=self._given(condition), batch_size=batch_size)

    def reconstruct(self, items: Any, *, condition: Any = None) -> Any:
        """decode(encode(items)): what the latents keep of them. Of a model of windows, each text window by window."""
        self.fitted.able("encode")
        raw, condition = self._raw(items, condition)
        return self._like(self.fitted.reconstruct(raw, condition=condition), items)

    def interpolate(self, first: Any, last: Any, *, steps: int = 8, condition: Any = None) -> list[Any]:
        """For each pair of items a path of `steps` raw items from the one to the other through their latents.

        The direction turns along the great circle and the length changes evenly (slerp, Shoemake 1985): latents of a
        standard normal prior lie near a sphere, which a straight line would leave.
        """
        self.fitted.able("encode")
        (first, _), (last, _) = self._raw(first), self._raw(last)
        return self.fitted.interpolate(first, last, steps=steps, condition=self._given(condition))

    # -- the whole ---------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        split: str = "test",
        *,
        samples: int = 1000,
        seed: int = 0,
        sampling: Mapping[str, Any] | None = None,
        features: str = "pca",
        budget: str | float | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """{"likelihood", "likelihood_reason", "metrics", "ms_per_sample", ...} on a split; writes the run's report.

        `sampling`: settings of what is drawn and measured, in the place of the run's own. `features`: what distances
        are measured in.
        `budget`: about how long it may take, 90 or "2m" (as long as training took, but 2 to 10 minutes): of a slow
        model as many samples and items are measured as there is time for, at least 20. `measured` says how many.
        `report` is told what is being done.
        """
        from quintet.comparison.measuring import evaluate

        return evaluate(self.fitted, split=split, samples=samples, seed=seed, sampling=sampling, features=features,
                        budget=budget, report=report)  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Copy the run folder with its newest good checkpoint to `path`."""
        target = Path(path)
        latest = self.run.latest()
        if latest is None:
            fix = f"quintet resume {self.run.address}"
            raise CheckpointError(
                "the run cannot be saved, since it has no checkpoint yet", where=str(self.run.path), fix=fix
            )
        if target.exists():
            raise UsageError("a file or folder already exists at this path", where=str(target),
                             why="a run is saved as a new folder, which replaces nothing",
                             fix="give a path that does not exist yet")  # fmt: skip
        leave = {"checkpoints", "lock.json", ".lock"}  # of this run, not of an autoencoder within it
        shutil.copytree(self.run.path, target, ignore=lambda at, _: leave if Path(at) == self.run.path else set())
        shutil.copytree(latest.folder, target / "checkpoints" / latest.folder.name)
        return target
