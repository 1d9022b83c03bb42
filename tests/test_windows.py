"""Items brought to a model of windows of one long text, also on latents: one answer an item, of the whole item."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import quintet
from quintet.cli.main import main
from quintet.core.errors import DataError, QuintetWarning, UsageError
from quintet.modalities.latent import LatentCodec

SENTENCES = [f"line {i} has {i * i % 97} of them" for i in range(90)]
LONG = "line 17 has 9 of them line 18 has 5 of them"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("windows")
    (path / "prose.txt").write_text("\n\n".join(SENTENCES))
    for family, run, config in (("vae", "ae", {"coding": {"window": 16}}), ("flow", "latents", {"codec": "ae"})):
        quintet.train(family, data=path / "prose.txt", steps=3, preset="tiny", run=run, runs=path, **split(config))
    return path


def split(config: dict[str, object]) -> dict[str, object]:
    return {"codec": config["codec"]} if "codec" in config else {"config": config}


@pytest.fixture(scope="module")
def latents(root: Path) -> quintet.Model:
    return quintet.load("latents", runs=root)


def test_a_model_on_latents_scores_every_line_of_a_file(root: Path, latents: quintet.Model) -> None:
    codec = latents.codecs["x"]
    assert isinstance(codec, LatentCodec)
    (root / "lines.txt").write_text("\n".join([*SENTENCES[:30], "short", LONG]))
    words = ["score", str(latents.run.path), "--data", str(root / "lines.txt"), "-o", str(root / "scores.csv")]
    assert main(words) == 0
    rows = list(csv.DictReader((root / "scores.csv").open()))
    assert [int(row["index"]) for row in rows] == list(range(32))
    assert (rows[30]["nats"], "whole windows of 16" in rows[30]["note"]) == ("", True)
    z = codec.encode([LONG[:32] + LONG[-16:]])
    each = latents.family.log_prob(z).double() + codec.log_det([LONG[:32] + LONG[-16:]])
    by_hand = each[0] + each[1] + each[2] * (len(LONG) - 32) / 16
    assert float(rows[31]["nats"]) == pytest.approx(float(by_hand), rel=1e-4)
    assert main([*words, "--rank"]) == 0
    ranked = {row["index"]: row["p"] for row in csv.DictReader((root / "scores.csv").open())}
    assert ranked["30"] == ""
    assert 0 < float(ranked["31"]) <= 1


@pytest.mark.parametrize("run", ["ae", "latents"])
def test_latents_of_texts_are_those_of_their_windows(root: Path, run: str) -> None:
    model = quintet.load(run, runs=root)
    whole = [LONG[:16], LONG[16:32], LONG[-16:]]
    z = model.encode(whole)
    assert len(z) == 3
    with pytest.warns(QuintetWarning, match="a row for each of its 3 windows"):
        assert model.encode(LONG).allclose(z, atol=1e-5)
    assert model.encode(LONG[:16]).shape == z[:1].shape
    with pytest.raises(UsageError, match="item 2 does not have exactly one row of latents"):
        model.encode([LONG[:16], LONG])
    with pytest.raises(DataError, match="the latents of item 2 cannot be computed") as short:
        model.encode([LONG[:16], "short"])
    assert "5 symbols fill no window of 16" in str(short.value.why)
    with pytest.raises(UsageError, match="items that fit into one window"):
        model.interpolate(LONG, LONG)
    (path,) = model.interpolate(LONG[:16], LONG[16:32], steps=3)
    assert len(path) == 3
    (root / "two.txt").write_text(f"{LONG}\n{LONG[:16]}\n")
    assert main(["encode", str(root / run), "--data", str(root / "two.txt"), "-o", str(root / "z.csv")]) == 0
    rows = list(csv.DictReader((root / "z.csv").open()))
    assert [row["item"] for row in rows] == ["0", "0", "0", "1"]
    assert float(rows[2]["z0"]) == pytest.approx(float(z[2].flatten()[0]), abs=1e-4)
    assert float(rows[3]["z0"]) == pytest.approx(float(z[0].flatten()[0]), abs=1e-4)


@pytest.mark.parametrize("run", ["ae", "latents"])
def test_a_reconstruction_is_one_text_an_item(root: Path, run: str) -> None:
    model = quintet.load(run, runs=root)
    texts = [LONG, LONG[5:30], LONG[:16]]
    made = model.reconstruct(texts)
    assert list(map(len, made)) == list(map(len, texts))
    ends = [model.reconstruct([part])[0] for part in (LONG[:16], LONG[16:32], LONG[-16:])]
    assert made[0] == ends[0] + ends[1] + ends[2][-(len(LONG) - 32) :]
    assert made[2] == ends[0]
    out = root / f"{run}.txt"
    (root / "three.txt").write_text("\n".join(texts))
    assert main(["reconstruct", str(root / run), "--data", str(root / "three.txt"), "-o", str(out)]) == 0
    assert len(out.read_text().split("\n")) >= 3
