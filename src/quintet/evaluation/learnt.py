"""A feature space that quintet learns from the user's own training items, once, and keeps in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quintet import registry
from quintet.core.codec import Codec
from quintet.core.errors import QuintetError
from quintet.core.random import some
from quintet.data import cache
from quintet.fit import fitting
from quintet.metrics.features import FIT_ITEMS, fit_features
from quintet.model.fitted import Fitted
from quintet.runs.task import Task
from quintet.sources.load import Dataset

VERSION, STEPS, SEED = 1, 1000, 0
CHUNK = 256


class Learnt:
    """f(x) = linear(h(x)): h is what a trained net sees in an item, `linear` its principal directions (`fit_features`).

    Of items that are of classes (`label`) h is the pooled encoder of a classifier, whose next layer names the label;
    of all else the latents of an autoencoder. `codec` is how items are measured, `train` are such items (N, ...).
    """

    def __init__(self, model: Fitted, codec: Codec, train: np.ndarray) -> None:
        self.model, self.codec = model, codec
        self.classifies = "cond" in model.codecs
        self.reads = model.codecs["cond" if self.classifies else "x"]
        self.linear = fit_features(self.seen(train[some(train, FIT_ITEMS, 0)]), "flattened")
        self.description: dict[str, Any] = {
            "name": "learnt",
            "version": VERSION,
            "net": f"{model.family.name}, {'pooled encoder' if self.classifies else 'means'}",
            "target": model.config.data.target or "none",
            "steps": model.config.steps,
            "seed": model.config.seed,
            "linear": self.linear.description,
        }

    def __call__(self, items: Any) -> np.ndarray:
        """(N, ...) as measured -> (N, dims) float64."""
        return self.linear(self.seen(np.asarray(items)))

    @torch.no_grad()
    def seen(self, items: np.ndarray) -> np.ndarray:
        """h: (N, width)."""
        family, parts = self.model.family, []
        for part in torch.from_numpy(items).split(CHUNK):
            if self.reads.to_json() != self.codec.to_json():  # other symbols for the same texts
                part = self.reads.encode(self.codec.decode(part))
            part = part.to(self.model.device)
            parts.append(family.embed_condition(part) if self.classifies else family.encode(part).flatten(1))
        return torch.cat(parts).double().cpu().numpy()


def learnt_features(dataset: Dataset, codec: Codec, train: np.ndarray, *, steps: int | None = None) -> Learnt:
    """The feature space of a data set: `steps` of training with SEED, or what is kept of it.

    It is kept under the user's cache, by the data's fingerprint and all that the training depends on.
    """
    steps = steps or STEPS
    named = dataset.labels is not None and "label" in dataset.labels.column_names
    classed = named and registry.MODALITIES[dataset.modality].labelled_by_folders
    classifies = classed and Task.resolve(dataset, "label", dataset.modality).label
    about = [VERSION, dataset.fingerprint(), "label" if classifies else "items", steps, SEED]
    kept = cache.root() / f"features-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}"
    try:
        model = fitting.load(kept)
    except QuintetError:  # there is none, or it is damaged
        shutil.rmtree(kept, ignore_errors=True)
        model = _train_kept(dataset, classifies, steps, kept)
    return Learnt(model, codec, train)


def _train_kept(dataset: Dataset, classifies: bool, steps: int, kept: Path) -> Fitted:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{kept.name}-", dir=kept.parent) as folder:
        target, condition = ("label", dataset.modality) if classifies else (None, None)
        family = registry.CLASSIFIER if classifies else registry.AUTOENCODER
        config = fitting.plan(family, dataset, target=target, condition=condition, steps=steps, seed=SEED)
        run = fitting.train_planned(config, dataset, "run", Path(folder), None, None, {}).run.path
        try:
            run.rename(kept)
        except OSError:  # another process was faster
            if not (kept / "config.yaml").is_file():
                raise
    return fitting.load(kept)
