"""Sources, splits and the model on raw data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import quintet
from quintet.core.errors import ConfigError, DataError, Unsupported, UsageError
from quintet.sources import load as sources

BUILT_IN = ["digits", "moons", "rings", "checkerboard", "gaussians", "iris", "wine", "breast_cancer"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sources_have_fixed_disjoint_splits(name: str) -> None:
    dataset, again = sources.load_source(name), sources.load_source(name)
    assert dataset.fingerprint() == again.fingerprint()
    parts = [set(dataset.index(split).tolist()) for split in sources.SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(dataset.items)
    assert dataset.labels is not None
    assert len(dataset.labels) == len(dataset.items)
    assert set(dataset.column("label", "train").column(0).to_pylist()) == set(dataset.labels["label"].to_pylist())


@pytest.mark.parametrize(("name", "counts"), [("mnist", (50_000, 10_000, 10_000)), ("tinyshakespeare", (1, 1, 1))])
def test_named_sources(name: str, counts: tuple[int, ...]) -> None:
    try:
        dataset = sources.load_source(name)
    except DataError as error:
        pytest.skip(f"{name} is not under QUINTET_DATA: {error.what}")
    assert tuple(len(dataset.index(split)) for split in sources.SPLITS) == counts
    if name == "tinyshakespeare":
        assert [len(text) for text in dataset.items] == [1_003_854, 111_540]
    else:
        assert dataset.items.shape == (70_000, 28, 28, 1)


def test_a_named_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_DATA", str(tmp_path))
    with pytest.raises(DataError, match="named data set is missing"):
        sources.load_source("tinyshakespeare")
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt.gz").write_bytes(b"something else")
    with pytest.raises(DataError, match="differs from the published one"):
        sources.load_source("tinyshakespeare")


def train(family: str, tmp_path: Path, **given: object) -> quintet.Model:
    return quintet.train(family, **{"data": "moons", "steps": 2, "preset": "tiny", "runs": tmp_path, **given})


def test_a_conditional_model_scores_given_a_condition(tmp_path: Path) -> None:
    model = train("flow", tmp_path, condition="label")
    rows = model.sample(6, condition=1, seed=3)
    with pytest.raises(UsageError, match="conditional"):
        model.log_prob(rows)
    one = model.log_prob(rows, condition=1).values
    many = model.log_prob(rows, condition=[1] * 6).values
    column = model.log_prob(rows, condition=pa.table({"label": [1] * 6})).values
    assert one.tolist() == many.tolist() == column.tolist()
    with pytest.raises(UsageError, match="3 conditions were given for 6 items"):
        model.log_prob(rows, condition=[1, 0, 1])
    with pytest.raises(DataError, match="did not occur in training"):
        model.sample(2, condition=7)
    with pytest.raises(UsageError, match="takes no condition"):
        train("flow", tmp_path).sample(2, condition=1)


def test_an_item_does_not_depend_on_how_many_are_drawn_or_at_once(tmp_path: Path) -> None:
    """Nor does its condition, where none is asked for; 1,030 rows are drawn in two parts."""
    model = train("flow", tmp_path, condition="label", steps=40)
    many = model.fitted.sample_encoded(1030, seed=3)
    assert (many[1:] - many[:1]).abs().amin(1).gt(0).all()
    for n, batch_size in ((7, None), (7, 3), (1030, 256)):
        torch.testing.assert_close(model.fitted.sample_encoded(n, seed=3, batch_size=batch_size), many[:n])
    given = [i % 2 for i in range(7)]
    parts = (model.fitted.sample_encoded(7, condition=given, seed=3, batch_size=size) for size in (None, 2))
    torch.testing.assert_close(*parts)


def test_raw_items_come_in_any_usual_form(tmp_path: Path) -> None:
    model = train("flow", tmp_path)
    rows = model.sample(3)
    array = np.stack([column.to_numpy() for column in rows.columns], 1)
    forms = [rows, array, {"x0": array[:, 0], "x1": array[:, 1]}, rows.to_pylist()]
    scores = [model.log_prob(form).values.tolist() for form in forms]
    assert all(score == scores[0] for score in scores)


def test_a_label_can_be_the_target(tmp_path: Path) -> None:
    """Classification: p(label | image), which sums to 1 over the labels."""
    model = train("autoregressive", tmp_path, data="digits", target="label", condition="image")
    images = sources.load_source("digits").rows("test")[:3]
    total = sum(model.log_prob({"label": [k] * 3}, condition=images).values.exp() for k in range(10))
    assert np.allclose(total, 1, atol=1e-5)
    assert model.evaluate(samples=40)["likelihood"]["kind"] == "exact"


@pytest.mark.parametrize(("family", "kind", "space"), [
    ("vae", "bound", "mass"), ("autoregressive", "exact", "mass"),
    ("flow", "exact", "dequantised"), ("diffusion", "estimate", "dequantised"),
])  # fmt: skip
def test_a_likelihood_says_what_it_is(family: str, kind: str, space: str, tmp_path: Path) -> None:
    model = train(family, tmp_path, data="digits")
    score = model.log_prob(sources.load_source("digits").rows("test")[:4])
    assert (score.kind, score.space, score.dims) == (kind, space, 64)
    assert (score.stderr is not None) == (family == "diffusion")
    summary = score.summary()
    assert summary["bits_per_dim"] == pytest.approx(-summary["nats"] / 64 / np.log(2))
    assert summary["nats_per_dim"] == pytest.approx(summary["nats"] / 64)


def test_gan_refuses_to_score_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="sampler without a density"):
        train("gan", tmp_path).log_prob("nothing that could be read")


@pytest.mark.parametrize("bad", [{"width": 0}, {"no_such": 1}, {"depth": "deep"}, {"heads": 3}])
def test_a_bad_setting_is_a_config_error(bad: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"equal to 8|unknown field|valid integer|heads of an even size"):
        train("autoregressive", tmp_path, config={"model": bad})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "config", "found"),
    [({}, {}, 0), ({}, {"seed": 7}, 7), ({}, {"seed": "7"}, 7), ({"seed": 0}, {"seed": 7}, 0)],
)
def test_the_seed_is_that_of_the_configuration_unless_another_is_given(
    given: dict[str, int], config: dict[str, object], found: int, tmp_path: Path
) -> None:
    model = quintet.train("flow", data="moons", steps=1, preset="tiny", runs=tmp_path, config=config, **given)
    assert model.config.seed == found


@pytest.mark.parametrize("n", [0, -1, 10**9])
def test_absurd_counts_are_refused(n: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="n must be"):
        train("flow", tmp_path).sample(n)


def test_compare_is_the_same_twice_and_families_do_not_disturb_each_other(tmp_path: Path) -> None:
    def figures(**given: object) -> dict[str, object]:
        result = quintet.compare("iris", steps=3, preset="tiny", samples=40, runs=tmp_path, **given)
        assert all(entry["status"] == "ok" for entry in result["models"]), result["models"]
        return {entry["family"]: (entry["metrics"], entry["likelihood"]) for entry in result["models"]}

    alone, both = figures(families=["flow"]), figures(families=["vae", "flow"])
    assert alone["flow"] == both["flow"]


def test_one_family_that_fails_does_not_end_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quintet.families.vae import VAE

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(VAE, "loss", broken)
    result = quintet.compare("iris", families=["vae", "flow"], steps=2, preset="tiny", samples=40, runs=tmp_path,
                             output=tmp_path / "report.html")  # fmt: skip
    assert [entry["status"] for entry in result["models"]] == ["failed", "ok"]
    assert "out of memory" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("source", ["digits", "moons"])
@pytest.mark.parametrize("preset", ["classic", "tiny", "small", "base"])
def test_every_preset_describes_a_model_of_every_family(preset: str, source: str) -> None:
    from quintet.fit.fitting import plan
    from quintet.registry import FAMILIES
    from quintet.runs.restoring import make_family
    from quintet.runs.task import Task

    dataset = sources.load_source(source)
    for name in FAMILIES:
        config = plan(name, dataset, preset=preset, condition="label", steps=1)
        family = make_family(config, Task.of(config, dataset).fitted(config).codecs)
        assert sum(p.numel() for p in family.parameters()) > 1000
        assert config.preset == preset


def test_a_source_whose_columns_are_no_label_is_compared_without_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    splits = {"train": np.arange(60), "validation": np.arange(60, 80), "test": np.arange(80, 100)}
    table, kinds = pa.table({"x": rng.normal(size=100), "y": rng.normal(size=100)}), pa.table({"kind": ["a", "b"] * 50})
    monkeypatch.setitem(sources.SOURCES, "kinds", lambda: sources.Dataset("kinds", "table", table, splits, kinds))
    result = quintet.compare("kinds", families=["vae"], steps=1, preset="tiny", samples=20, runs=tmp_path)
    assert [entry["status"] for entry in result["models"]] == ["ok"]
    assert "--condition none" in result["command"]


def test_texts_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "the quick brown fox jumps over the lazy dog. " * 200,
        "pack my box with five dozen liquor jugs, dog. " * 40,
    ]
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([1])}
    monkeypatch.setitem(sources.SOURCES, "foxes", lambda: sources.Dataset("foxes", "text", texts, splits))
    result = quintet.compare("foxes", steps=2, preset="tiny", samples=20, runs=tmp_path, output=tmp_path / "r.html")
    status = {entry["family"]: (entry["status"], entry.get("error", "")) for entry in result["models"]}
    assert set(status.values()) == {("ok", "")}
