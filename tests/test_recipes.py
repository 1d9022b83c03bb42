"""Recipes: every file is read, resolves, and makes a model of data of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest

from quintet.core.codec import Codec, Stage
from quintet.core.errors import ConfigError
from quintet.data.dataset import Dataset
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.series.windows import Windows
from quintet.registry import COMPARED, FAMILIES, family_class, latent_codec
from quintet.runs import recipes
from quintet.runs.config import Preset, RunConfig, resolve
from quintet.runs.restoring import make_family
from quintet.runs.task import Task

FOLDER = Path(str(resources.files("quintet"))) / "recipes"
FILES = sorted(path.relative_to(FOLDER).with_suffix("").parts for path in FOLDER.rglob("*.yaml"))
RECIPES = [file for file in FILES if file[1] != "presets"]
SPLITS = {"train": np.arange(16), "validation": np.arange(16, 20), "test": np.arange(20, 24)}
LABELS = pa.table({"label": ["even", "odd"] * 12, "said": [f"number {i}, of {i % 7}" for i in range(24)]})
RNG = np.random.default_rng(0)


def pictures(side: int) -> Dataset:
    return Dataset("x", "image", RNG.integers(0, 16, (24, side, side, 1)).astype(np.uint8), SPLITS, LABELS)


def sounds() -> Dataset:
    return Dataset("x", "audio", Recordings([RNG.normal(0, 0.1, 1200).astype(np.float32)] * 24, 4000), SPLITS, LABELS)


def texts(words: int) -> Dataset:
    return Dataset("x", "text", [f"the number {i}, and more of it " * words for i in range(24)], SPLITS, LABELS)


def rows() -> Dataset:
    return Dataset("x", "table", pa.table({"a": np.arange(24.0), "b": [0.5, 1.5] * 12}), SPLITS, LABELS)


def windows() -> Dataset:
    return Dataset("x", "series", Windows(RNG.normal(size=(24, 16, 2)), ("a", "b")), SPLITS)


TASKS: dict[str, tuple[Dataset, str, str | None, str | None]] = {
    "thumbnail": (pictures(8), "image", None, None),
    "image": (pictures(20), "image", None, None),
    "table": (rows(), "table", None, None),
    "audio": (sounds(), "audio", None, None),
    "text": (texts(40), "text", None, None),
    "texts": (texts(1), "text", None, None),
    "pair": (texts(1), "text", "said", "text"),
    "label_of_text": (texts(1), "table", "label", "text"),
    "label_of_image": (pictures(16), "table", "label", "image"),
    "label_of_audio": (sounds(), "table", "label", "audio"),
    "transcript": (sounds(), "text", "said", "audio"),
    "series": (windows(), "series", None, None),
    "latent": (pictures(8), "a-run", None, None),
}
"""Kind of task -> data, the codec of what is modelled, which column that is, and the codec of what is given."""


def resolved(family: str, kind: str, preset: str = "small") -> RunConfig:
    _, codec, target, condition = TASKS[kind]
    given = condition if condition != "text" or target == "label" else "said"
    return resolve(
        {"family": family, "codec": codec, "preset": preset,
         "data": {"source": "x", "target": None if target == given else target, "condition": given}},
        kind, condition,
    )  # fmt: skip


def codecs_of(config: RunConfig, dataset: Dataset) -> Mapping[str, Codec]:
    """Fitted on the data; of latents, on an autoencoder with fresh weights."""
    if config.codec != "a-run":
        return Task.of(config, dataset).fitted(config).codecs
    given = {"family": "vae", "codec": "image", "data": {"source": "x"}, "model": {"bottleneck": "fsq", "grid": 4}}
    first = resolve(given, "thumbnail")
    inner = Task.of(first, dataset).fitted(first).codecs
    vae: Any = make_family(first, inner)
    codec = latent_codec(Stage(inner["x"], vae, {}), family_class(config.family), config.coding)
    return {"x": codec.fit(dataset.items)}


def test_every_recipe_has_a_family() -> None:
    """A family may have none: its settings then have the defaults of their classes."""
    assert set(COMPARED) < {family for family, _ in FILES} <= set(FAMILIES)
    assert {kind for _, kind in RECIPES} <= set(TASKS), "a recipe of a kind that no test builds"


@pytest.mark.parametrize(("family", "kind"), FILES, ids="/".join)
def test_every_recipe_says_where_its_figures_come_from(family: str, kind: str) -> None:
    lines = (FOLDER / family / f"{kind}.yaml").read_text().splitlines()
    comment = " ".join(line for line in lines if line.startswith("#"))
    known = ("docs/decisions/", "docs/results.md", "No figures yet", "Laid over the recipes")
    assert any(word in comment for word in known)
    for word in comment.replace(":", " ").replace(".", " ").replace(",", " ").replace(";", " ").split():
        if word.startswith("docs/decisions/"):
            assert list((Path(__file__).parents[1] / "docs" / "decisions").glob(f"{word.rpartition('/')[2]}-*.md"))


@pytest.mark.parametrize(("family", "kind"), RECIPES, ids="/".join)
def test_every_recipe_makes_a_model(family: str, kind: str) -> None:
    config = resolved(family, kind)
    for section, fields in recipes.recipe(family, kind).items():
        values = getattr(config, section)
        values = values if isinstance(values, dict) else values.model_dump(mode="json")
        assert {field: values[field] for field in fields} == dict(fields), section
    assert sum(p.numel() for p in make_family(config, codecs_of(config, TASKS[kind][0])).parameters()) > 0


@pytest.mark.parametrize(("family", "kind"), RECIPES, ids="/".join)
def test_every_preset_fits_every_recipe(family: str, kind: str) -> None:
    assert set(recipes.presets(family)) | {"small"} == set(get_args(Preset))
    for preset, sections in recipes.presets(family).items():
        config = resolved(family, kind, preset)
        assert {field: config.model[field] for field in sections["model"]} == sections["model"]


def test_an_unknown_section_or_field_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown section 'modle'"):
        recipes.sections({"modle": {"width": 8}}, "recipes/flow/image.yaml")
    monkeypatch.setattr(recipes, "recipe_file", lambda family, name: {"model": {"widht": 8}} if name == "image" else {})
    with pytest.raises(ConfigError, match="unknown field 'widht'"):
        resolved("flow", "image")


def test_a_kind_without_a_recipe_has_that_of_its_codec() -> None:
    given = {"family": "flow", "codec": "table", "data": {"source": "x"}}
    assert resolve(given, "points") == resolve(given, "table")


def test_steps_that_readable_pictures_need_are_known_of_large_ones() -> None:
    for family in {family for family, kind in FILES if kind == "image"}:
        assert recipes.readable(family, "thumbnail") is None
        assert (recipes.readable(family, "image") or 0) >= 100
        assert recipes.READABLE not in recipes.recipe(family, "image")
