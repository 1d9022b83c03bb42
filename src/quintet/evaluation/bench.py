"""What every model of one data set is measured with: `Bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from quintet import registry
from quintet.core.afford import affordable, fewer
from quintet.core.errors import UsageError
from quintet.core.random import some
from quintet.evaluation.learnt import learnt_features
from quintet.evaluation.measurement import figure_settings, identified
from quintet.evaluation.scored import MEMBERS, SCORED, Samples, likelihood_figures
from quintet.metrics.distances import energy_distance
from quintet.metrics.features import FeatureSpace, fit_features
from quintet.metrics.measures import Marks
from quintet.metrics.samples import BIASED, check_enough, measure_samples
from quintet.modalities.protocol import Modality
from quintet.model.fitted import Fitted
from quintet.runs.task import Task
from quintet.sources.load import Dataset, take


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
        `learnt`); or one of `Modality.feature_spaces`.
        """
        task = Task.resolve(dataset, target, condition).examples(*dataset.splits)
        self.condition, self.target, self.samples = condition, target, samples
        self.tell: Callable[[str], None] = lambda _: None
        self.codec = task.modality.codec().fit(task.targets("train"))
        self.task = replace(task, codecs={"x": self.codec}).known()
        self.dataset = self.task.dataset
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
        if name in self.modality.feature_spaces:
            return self.modality.feature_spaces[name]()
        kinds = registry.MODALITIES.values()
        own = "".join(f', "{space}" for {kind.things}' for kind in kinds for space in kind.feature_spaces)
        raise UsageError(
            f"the features {name!r} are not available for these items",
            why=f'"pca" works for all items, "learnt" for the whole items of a source{own}',
            fix="use the features pca",
        )

    @property
    def modality(self) -> Modality:
        """What kind of data the items are."""
        return self.task.modality

    def rows(self, split: str) -> Any:
        return self.task.targets(split)

    @property
    def _whole(self) -> bool:
        """Whether items are the source's own, not a column of it, nor without those that are given."""
        own = self.target in (None, "items", self.dataset.modality)
        columns = self.dataset.items.column_names if isinstance(self.dataset.items, pa.Table) else []
        return own and not set(columns) & set((self.condition or "").split(","))

    def measure(self, raw: Any) -> np.ndarray:
        """Raw items as they are measured."""
        return self.codec.encode(raw).numpy()

    def _labels(self, split: str) -> np.ndarray:
        assert self.condition is not None
        return np.asarray(self.dataset.column(self.condition, split).column(0).to_pylist())

    def check(self, split: str) -> None:
        """Raise DataError where samples cannot be compared with a split, before any are trained for or drawn."""
        check_enough(min(len(self.items[split]), self.samples))

    def measurement(self, split: str = "test") -> dict[str, Any]:
        """All that figures depend on but the model and its seed; `id` names it. See `measurement.comparable`."""
        return identified(
            {
                "data": self.data,
                "features": self.features.description,
                "encoding": {"codec": self.codec.name, **self.codec.settings.model_dump(mode="json")},
                "splits": {name: len(items) for name, items in self.items.items()},
                "split": split,
                "samples": self.samples,
                "scored_items": {"held out": SCORED, "training, samples": MEMBERS},
                "condition": self.condition or "none",
                "target": self.target or "items",
                "figures": figure_settings(self.modality.at_most),
            }
        )

    @cached_property
    def naive(self) -> float | None:
        """The energy distance to test items of what needs no model: see `Modality.untaught`."""
        fake = self.modality.untaught(self.items["train"], min(self.samples, 500))
        return None if fake is None else energy_distance(self.features(fake), self.features(self.items["test"])).value

    def learnt_little(self, metrics: Mapping[str, Any]) -> str | None:
        """Why samples with these figures are no items of the data yet: they are clearly farther from them than half of
        what no model at all reaches.
        """
        energy, naive = metrics.get("energy"), self.naive
        if naive is None or energy is None or energy - 2 * metrics["energy_stderr"] <= naive / 2:
            return None
        return (
            f"its samples are not like the data yet: their energy distance is {energy:.3g}, that of "
            f"{self.modality.naive} is {naive:.3g}, and that of real items about 0"
        )

    def real(self, seed: int = 0) -> dict[str, Any]:
        """Unseen real items in the place of samples: what a perfect model would reach."""
        encoded = self.items["validation"]
        figures, _ = self._figures(self.raw("validation"), encoded, self.labels.get("validation"), "test", seed)
        fewer = len(encoded) < min(len(self.items["test"]), self.samples)  # than there are samples of a model
        return unbiased(figures) if fewer else figures

    def raw(self, split: str, places: np.ndarray | None = None) -> Any:
        """Raw items of a split, or some of them, as samples are: of a long text windows."""
        if self.codec.stream:
            encoded = self.items[split] if places is None else self.items[split][places]
            return self.codec.decode(torch.from_numpy(encoded))
        return self.rows(split) if places is None else take(self.rows(split), places)

    def _figures(
        self, raw: Any, fake: np.ndarray, labels: np.ndarray | None, split: str, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of samples, as they are and encoded; `labels` are those that were asked for. Also notes of what is measured,
        `sample_figures`, values item by item, and `real_items`, the places of the real items (see `measure_samples`).
        """
        classes = np.unique(self.labels["train"]) if labels is not None else np.empty(0)
        few = 2 <= len(classes) <= 50 and classes.dtype.kind != "f"  # real numbers are no classes
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
        most = min(self.samples, *map(len, self.items.values()))  # one number for samples and for real items
        own = self.modality.figures(raw, self.raw, split, self.codec, labelled=labels is not None, most=most,
                                    seed=seed)  # fmt: skip
        return figures | own.values, items | own.notes

    def run(self, model: Fitted, *, split: str = "test", seed: int = 0, limit: float | None = None) -> dict[str, Any]:
        """Likelihood, sample figures and the time per sample of one model.

        `limit`: seconds that sampling may take, and as many again that scoring may. Of a slow model fewer samples are
        measured (`fewer_samples` then says how many), without the figures that depend on their number, and fewer items
        are scored (`fewer_scored`). `measured` says how many there were of each.
        """
        self.check(split)
        n, about = self.samples, ""
        if limit is not None:
            self.tell("trying how long samples take")
            n, wait = affordable(lambda rows: model.draw(rows, seed=seed), n, limit)
            about = f", at most {wait:.0f} s"
        self.tell(f"drawing {n:,} samples{about}")
        samples = Samples.of(model, n, seed, labelled=bool(self.labels))
        self.tell(f"measuring {n:,} samples")
        metrics, by_item = self._figures(samples.raw, self.measure(samples.raw), samples.labels, split, seed)
        out: dict[str, Any] = {
            "split": split,
            "recipe": self.measurement(split),
            "ms_per_sample": 1000 * samples.seconds / n,
            "parameters": sum(p.numel() for p in model.family.parameters()),
            "metrics": metrics,
            "likelihood": None,
            "measured": {"samples": n, "samples_wanted": self.samples, "scored": 0, "scored_wanted": 0},
            **by_item,
        }
        if (little := self.learnt_little(metrics)) is not None:
            out["learnt_little"] = little
        if limit is not None and n < self.samples:
            out["fewer_samples"] = fewer(n, self.samples, "samples were measured", limit)
            out["metrics"] = unbiased(metrics)
        if (completed := self._completions(model, split, seed, limit)) is not None:
            out["metrics"] = out["metrics"] | completed.figures
            out |= {"completion_figures": completed.by_item, "completed": list(completed.places)}
        if model.family.likelihood == "none":
            return out | {"likelihood_reason": model.family.missing["log_prob"]}
        found = likelihood_figures(model, self.dataset, split, samples, seed=seed, limit=limit, tell=self.tell)
        return out | found | {key: out[key] | found[key] for key in ("metrics", "measured")}

    def _completions(self, model: Fitted, split: str, seed: int, limit: float | None) -> Marks | None:
        """What is measured of completions of items of this kind, as many as there are seconds for in `limit`."""
        most = self.modality.completed
        if most == 0 or "complete" in model.family.missing or "cond" in model.codecs:
            return None

        def measured(count: int) -> Marks:
            complete = lambda items, known: model.complete(items, known=known, seed=seed)  # noqa: E731
            return self.modality.completions(complete, self.raw, split, count=count)

        self.tell("completing items")
        return measured(most if limit is None else affordable(measured, most, limit).items)

    def show(self, model: Fitted | None, n: int = 100) -> dict[str, Any]:
        """Samples of seed 0, or real test items, as the report shows them."""
        if model is None:
            return self.modality.shown(self.raw("test", some(self.items["test"], n, 0)), self.codec)
        return self.modality.shown(self.drawn(model, n), self.codec, self.rows("test"))

    def drawn(self, model: Fitted, n: int) -> Any:
        """Samples of seed 0, given each label in turn where there are few."""
        condition = None
        if "cond" in model.codecs and self.labels:
            assert self.condition is not None
            rows = self.dataset.column(self.condition, "train")
            known = sorted(set(zip(*(column.to_pylist() for column in rows.columns), strict=True)))
            given = [dict(zip(rows.column_names, each, strict=True)) for each in known]
            condition = [given[i % len(given)] for i in range(n)] if len(given) <= 50 else None
        return model.draw(n, seed=0, condition=condition)


def unbiased(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Without the figures that depend on the number of items."""
    return {key: value for key, value in figures.items() if key.removesuffix("_stderr") not in BIASED}
