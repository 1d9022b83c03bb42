"""What every model of one data set is measured with: `Bench`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from quintet import registry
from quintet.core.afford import affordable, fewer
from quintet.core.codec import Codec
from quintet.core.errors import UsageError
from quintet.core.likelihood import LogProb
from quintet.core.random import some
from quintet.evaluation.learnt import learnt_features
from quintet.evaluation.recipes import identified, recipe
from quintet.evaluation.tasks import language
from quintet.metrics.distances import energy_distance, likelihood_gap
from quintet.metrics.estimates import area, flat, placements
from quintet.metrics.features import FeatureSpace, fit_features
from quintet.metrics.inception import Inception
from quintet.metrics.memorisation import membership_by_likelihood
from quintet.metrics.samples import BIASED, measure_samples
from quintet.modalities.audio.figures import sound_figures
from quintet.modalities.protocol import Modality
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.figures import Predicted, predicted, table_figures
from quintet.modalities.text.figures import corpus_figures
from quintet.model.model import Model
from quintet.registry import modality_of
from quintet.runs.task import codec_name, is_label, items_of, pick, unblank, within, within_run
from quintet.sources.load import Dataset, take

SCORED, MEMBERS, STRETCH = 500, 200, 16
"""At most this many items of a split are scored; and of training items and samples. STRETCH: windows
of a long text that are read together."""


class Bench:
    """What every model of one data set is measured with: the same items, labels, features and counts.

    Items are measured in one encoding that no family chose: pixels on [-1, 1], standardised columns, or symbols.
    """

    def __init__(
        self,
        dataset: Dataset,
        condition: str | None,
        *,
        target: str | None = None,
        samples: int = 1000,
        features: str = "pca",
    ) -> None:
        """`features`: "pca", read off the training items; "learnt", by a net that is trained on them once (see
        `learnt`); or "inception", of images, from the user's file (see `evaluation.inception`).
        """
        if is_label(dataset, condition) and not is_label(dataset, target):
            dataset = unblank(dataset, condition, list(dataset.splits))
        self.dataset, self.condition, self.target, self.samples = dataset, condition, target, samples
        self.tell: Callable[[str], None] = lambda _: None
        self.codec = self._codec()
        self.dataset = within(dataset, [(self.codec, self.rows)])
        self.items = {split: self.measure(self.rows(split)) for split in dataset.splits}
        column = condition not in (None, "items", dataset.modality)
        self.labels = {split: self._labels(split) for split in dataset.splits} if column else {}
        self.features = self._features(features)
        self.seen = self.features(self.items["train"])
        self.data = self.dataset.fingerprint()[:12]

    def _features(self, name: str) -> FeatureSpace:
        train = self.items["train"]
        if name == "pca":
            return fit_features(train, self.codec.preprocessing, pad=getattr(self.codec.space, "pad", None))
        if name == "learnt" and self._whole:
            return learnt_features(self.dataset, self.codec, train)
        if name == "inception" and self.codec.name == "image":
            return Inception()
        raise UsageError(
            f"no features {name!r} of these items",
            why='"pca" is for all, "learnt" for whole items of a source, "inception" for images',
            fix="--features pca",
        )

    @property
    def modality(self) -> Modality:
        """What kind of data the items are."""
        return registry.MODALITIES[self.codec.modality]

    def rows(self, split: str) -> Any:
        return pick(self.dataset, self.target, split, without=self.condition)

    @property
    def _whole(self) -> bool:
        """Whether items are the source's own, not a column of it, nor without those that are given."""
        own = self.target in (None, "items", self.dataset.modality)
        columns = self.dataset.items.column_names if isinstance(self.dataset.items, pa.Table) else []
        return own and not set(columns) & set((self.condition or "").split(","))

    def _codec(self) -> Codec:
        return registry.CODECS[codec_name(self.dataset, self.target)]().fit(self.rows("train"))

    def measure(self, raw: Any) -> np.ndarray:
        """Raw items as they are measured."""
        return self.codec.encode(raw).numpy()

    def _labels(self, split: str) -> np.ndarray:
        table = pick(self.dataset, self.condition, split)
        return np.asarray(table.column(0).to_pylist())

    def recipe(self, split: str = "test") -> dict[str, Any]:
        """All that figures depend on but the model and its seed; `id` names it. See `recipes.comparable`."""
        return identified(
            {
                "data": self.data,
                "features": self.features.recipe,
                "encoding": {"codec": self.codec.name, **self.codec.settings.model_dump(mode="json")},
                "splits": {name: len(items) for name, items in self.items.items()},
                "split": split,
                "samples": self.samples,
                "scored_items": {"held out": SCORED, "training, samples": MEMBERS},
                "condition": self.condition or "none",
                "target": self.target or "items",
                "figures": recipe(),
            }
        )

    @cached_property
    def naive(self) -> float | None:
        """The energy distance to test items of what needs no model: the average item in the place of each sample; of
        texts, the symbols of each place drawn by themselves. None for rows of tables, where that may be a fair model.
        """
        if self.codec.name == "table":
            return None
        train, count = self.items["train"], min(self.samples, 500)
        fake = np.repeat(train.mean(0, keepdims=True).astype(train.dtype), count, 0)
        if self.codec.name == "text":
            rng = np.random.default_rng(0)
            fake = np.stack([column[rng.integers(0, len(column), count)] for column in train.T], 1)
        return energy_distance(self.features(fake), self.features(self.items["test"])).value

    def learnt_little(self, metrics: Mapping[str, Any]) -> str | None:
        """Why samples with these figures are no items of the data yet: they are clearly farther from them than half of
        what no model at all reaches.
        """
        energy, naive = metrics.get("energy"), self.naive
        if naive is None or energy is None or energy - 2 * metrics["energy_stderr"] <= naive / 2:
            return None
        what = "letters drawn by themselves" if self.codec.name == "text" else "the average item"
        return (
            f"its samples are not like the data yet: their energy distance is {energy:.3g}, that of {what} is "
            f"{naive:.3g}, and that of real items about 0"
        )

    def real(self, seed: int = 0) -> dict[str, Any]:
        """Unseen real items in the place of samples: what a perfect model would reach."""
        encoded = self.items["validation"]
        raw = self.codec.decode(torch.from_numpy(encoded)) if self.codec.stream else self.rows("validation")
        figures, _ = self._figures(raw, encoded, self.labels.get("validation"), "test", seed)
        if len(encoded) < min(len(self.items["test"]), self.samples):  # fewer items than the models'
            for name in BIASED:
                figures.pop(name, None)
                figures.pop(f"{name}_stderr", None)
        return figures

    def _figures(
        self, raw: Any, fake: np.ndarray, labels: np.ndarray | None, split: str, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of samples, as they are and encoded; `labels` are those that were asked for. Also `sample_figures`, values
        item by item, and `real_items`, the places of the real items (see `measure_samples`).
        """
        few = labels is not None and len(np.unique(self.labels["train"])) <= 50
        figures, items = measure_samples(
            self.items["train"],
            self.items[split],
            fake,
            self.features,
            seen=self.seen,
            train_labels=self.labels["train"] if few else None,
            test_labels=self.labels[split] if few else None,
            fake_labels=labels if few else None,
            seed=seed,
        )
        if self.codec.name == "text":
            rows = self.codec.decode(torch.from_numpy(self.items[split])) if self.codec.stream else self.rows(split)
            most = min(self.samples, *map(len, self.items.values()))  # one number for samples and for real texts
            return figures | corpus_figures(rows, raw, most, seed), items
        if self.codec.name == "audio":
            return figures | sound_figures(self.rows(split), raw, seed), items
        if self.codec.name == "table":
            ids = getattr(self.codec, "ids", {})
            raw = raw.drop_columns([name for name in ids if name in raw.column_names])
            target = None if labels is not None or self.predicted is None else self.predicted.name
            return figures | table_figures(self.rows("train"), self.rows(split), raw, target), items
        return figures, items

    @cached_property
    def predicted(self) -> Predicted | None:
        """What is predicted by a model that is trained on samples: the last column of several that are modelled."""
        if not isinstance(self.codec, TableCodec) or len(self.codec.columns) < 2:
            return None
        names = [column.name for column in self.codec.columns]
        return predicted(self.rows("train").select(names), names[-1])

    def run(self, model: Model, *, split: str = "test", seed: int = 0, limit: float | None = None) -> dict[str, Any]:
        """Likelihood, sample figures and the time per sample of one model.

        `limit`: seconds that sampling may take, and as many again that scoring may. Of a slow model fewer samples are
        measured (`fewer_samples` then says how many), without the figures that depend on their number, and fewer items
        are scored (`fewer_scored`). `measured` says how many there were of each.
        """
        n, about = self.samples, ""
        if limit is not None:
            self.tell("trying how long samples take")
            n, wait = affordable(lambda rows: model.draw(rows, seed=seed), n, limit)
            about = f", about {wait:.0f} s"
        self.tell(f"drawing {n:,} samples{about}")
        cond = model.condition(None, n, seed) if "cond" in model.codecs else None
        began = time.perf_counter()
        fake = model.draw(n, seed=seed)
        spent = time.perf_counter() - began
        self.tell(f"measuring {n:,} samples")
        asked = None if cond is None or not self.labels else model.codecs["cond"].decode(cond)
        labels = None if asked is None else np.asarray(asked.column(0).to_pylist())
        metrics, by_item = self._figures(fake, self.measure(fake), labels, split, seed)
        out: dict[str, Any] = {
            "split": split,
            "recipe": self.recipe(split),
            "ms_per_sample": 1000 * spent / n,
            "parameters": sum(p.numel() for p in model.family.parameters()),
            "metrics": metrics,
            "likelihood": None,
            "measured": {"samples": n, "samples_wanted": self.samples, "scored": 0, "scored_wanted": 0},
            **by_item,
        }
        if (little := self.learnt_little(out["metrics"])) is not None:
            out["learnt_little"] = little
        if labels is None and self.predicted is not None:
            out["unpredicted" if self.predicted.why else "predicted"] = self.predicted.words
        if n < self.samples:
            assert limit is not None
            out["fewer_samples"] = fewer(n, self.samples, "samples were measured", limit)
            for name in BIASED:
                out["metrics"].pop(name, None)
                out["metrics"].pop(f"{name}_stderr", None)
        if model.family.likelihood == "none":
            return out | {"likelihood_reason": model.family.missing["log_prob"]}
        data = within_run(model.config, self.few(model, split), model.codecs)
        items, given = items_of(model.config, data, split)
        stream, starts = model.codecs["x"].stream, list[int]()
        most, about = len(model.codecs["x"].log_det(items)) if stream else len(items), ""
        count = most
        if limit is not None:
            length = sum(map(len, items)) / most if stream else 0.0

            def part(rows: int) -> tuple[Any, Any]:
                if stream:  # one more, since symbols of several characters may fill a window less than the others
                    return stretches("".join(items), rows + 1, length, seed)[0], given
                return _some(items, given, some(items, rows, seed))

            def score_some(rows: int) -> None:
                few, condition = part(rows)
                scores(model, few, condition=condition, seed=seed)

            self.tell("trying how long scores take")
            # members, samples and anomalies cost twice as much
            count, wait = affordable(score_some, most, limit / 3)
            about = f", about {3 * wait:.0f} s"
            if count < most:
                out["fewer_scored"] = fewer(count, most, "items were scored", limit)
                if stream:
                    items, starts = stretches("".join(items), count, length, seed)
                else:
                    data = self.few(model, split, count)
                    items, given = items_of(model.config, within_run(model.config, data, model.codecs), split)
        self.tell(f"scoring {count:,} unseen items{about}")
        score = scores(model, items, condition=given, seed=seed)
        out["measured"] |= {"scored": len(score.values), "scored_wanted": most}
        out["metrics"] |= self._likely(model, score, items, fake, asked, seed)
        odd, placed = self._odd(model, score, items, given, seed)
        out["metrics"] |= odd
        scored = starts if stream else data.index(split).tolist()
        out |= {"scored": scored, "item_figures": {"nats": score.values.tolist(), **placed}}
        return out | {"likelihood": score.summary()} | language(model, score, items)

    def few(self, model: Model, split: str, count: int = SCORED) -> Dataset:
        """The data, with those items of a split that models are scored on; a long text is one item of many windows.

        They are drawn before a model's codec leaves out what it cannot take: all models are scored on the same items,
        and a slow one on `count` of these.
        """
        index = self.dataset.index(split)
        if not model.codecs["x"].stream:
            index = index[some(index, SCORED, 0)]
            index = index[some(index, count, 0)]
        return replace(self.dataset, splits={**self.dataset.splits, split: index})

    def _likely(self, model: Model, score: LogProb, scored: Any, fake: Any, asked: Any, seed: int) -> dict[str, float]:
        """Whether training items are likelier than unseen ones, and for exact kinds whether samples are.

        Samples only where a codec keeps all of an item: else they would change on their way through it. Of both half as
        many as there are unseen items, to save time.
        """
        unseen, n = score.values.numpy(), max(2, min(MEMBERS, len(score.values) // 2))
        items, given = items_of(model.config, self.dataset, "train")
        if model.codecs["x"].stream:
            items, _ = stretches("".join(items), n, sum(map(len, scored)) / len(unseen), seed)
        else:
            items, given = _some(items, given, some(items, n, seed))
        seen = scores(model, items, condition=given, seed=seed).values.numpy()
        found = {"membership_by_likelihood": membership_by_likelihood(seen, unseen)}
        if score.kind == "exact" and score.space != "encoded" and ("cond" in model.codecs) == (asked is not None):
            own, given = _some(fake, asked, some(len(fake), n, seed))
            sampled = scores(model, own, condition=given, seed=seed).values.numpy()
            found["likelihood_gap"] = likelihood_gap(unseen, sampled)
        return flat(found)

    def _odd(
        self, model: Model, score: LogProb, items: Any, given: Any, seed: int
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """How often a real item is likelier than a planted anomaly, and the same for each of both, by which models are
        compared: anomalies are the same for all models and seeds. Not of a long text, which is one item.
        """
        if model.codecs["x"].stream or len(items) < 4:
            return {}, {}
        few, condition = _some(items, given, some(items, MEMBERS, 0))
        real = score.values.numpy()
        odd = model.log_prob(modality_of(few).splice(few), condition=condition, seed=seed).values.numpy()
        return flat({"anomaly": area(real, odd)}), {"anomaly": [side.tolist() for side in placements(real, odd)]}

    def show(self, model: Model | None, n: int = 100) -> dict[str, Any]:
        """Samples of seed 0, or real test items, as the report shows them."""
        if model is None:
            chosen = some(self.items["test"], n, 0)
            if self.codec.stream:  # one text is many windows
                raw: Any = self.codec.decode(torch.from_numpy(self.items["test"][chosen]))
            else:
                raw = take(self.rows("test"), chosen)
            return self.modality.shown(raw, self.codec)
        return self.modality.shown(self.drawn(model, n), self.codec, self.rows("test"))

    def drawn(self, model: Model, n: int) -> Any:
        """Samples of seed 0, given each label in turn where there are few."""
        condition = None
        if "cond" in model.codecs and self.labels:
            known = sorted(set(self.labels["train"].tolist()))
            condition = [known[i % len(known)] for i in range(n)] if len(known) <= 50 else None
        return model.draw(n, seed=0, condition=condition)


def stretches(text: str, windows: int, length: float, seed: int) -> tuple[list[str], list[int]]:
    """A piece of a long text that holds about so many windows of `length` characters, made of stretches of some windows
    each that are drawn by `seed`; and where these begin.
    """
    together = min(STRETCH, windows)
    size = together * math.ceil(length)
    starts = range(0, max(1, len(text) - size + 1), size)
    chosen = [starts[i] for i in some(starts, math.ceil(windows / together), seed).tolist()]
    return ["".join(text[start : start + size] for start in chosen)], chosen


def scores(model: Model, items: Any, *, condition: Any, seed: int) -> LogProb:
    """Of each item, but of a long text of each of its windows: one text alone has no spread."""
    scored = model.log_prob_windows if model.codecs["x"].stream else model.log_prob
    return scored(items, condition=condition, seed=seed)


def _some(items: Any, given: Any, index: np.ndarray) -> tuple[Any, Any]:
    return take(items, index), None if given is None else take(given, index)
