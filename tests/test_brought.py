"""Items that users bring from elsewhere: in the size, channels and rate of the model, and marked where they change."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import quintet
from quintet.cli.main import main
from quintet.core.errors import DataError, QuintetWarning


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("brought"), np.random.default_rng(0)
    for kind in ("sounds", "pictures", "other"):
        (root / kind).mkdir()
    for i in range(40):
        soundfile.write(root / "sounds" / f"{i}.wav", 0.5 * np.sin(np.arange(400) * (0.1 + 0.01 * i)), 4000)
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(root / "pictures" / f"{i}.png")
    for kind in ("sounds", "pictures"):
        quintet.train("vae", data=root / kind, steps=2, preset="tiny", run=kind[:-1], runs=root)
    return root


def scored(root: Path, run: str, source: Path) -> list[dict[str, str]]:
    assert main(["score", str(root / run), "--data", str(source), "-o", str(root / "out.csv")]) == 0
    return list(csv.DictReader((root / "out.csv").open()))


def test_pictures_come_in_the_size_and_channels_of_the_model(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An even picture twice as large and in colour is the same picture."""
    small = np.full((8, 8), 200, np.uint8)
    path = root / "other" / "large.png"
    Image.fromarray(np.stack([small] * 3, 2)).resize((16, 16)).save(path)
    Image.fromarray(small).save(root / "other" / "small.png")
    model = quintet.load("picture", runs=root)
    wanted = float(model.log_prob(small[None]).values[0])
    (row,) = scored(root, "picture", path)
    assert float(row["nats"]) == pytest.approx(wanted, rel=1e-5)
    assert scored(root, "picture", root / "other" / "small.png")[0]["note"] == ""
    half = np.full((4, 12, 3), 77, np.uint8)
    half[..., 0] = 200
    Image.fromarray(half).save(root / "other" / "wide.png")
    capsys.readouterr()
    assert len(scored(root, "picture", root / "other")) == 3
    assert "8 x 8 x 1 of training" in capsys.readouterr().err
    with pytest.warns(QuintetWarning, match="8 x 8 x 1 of training"):
        assert model.reconstruct(root / "other").shape == (3, 8, 8, 1)


def test_recordings_come_at_the_rate_of_the_model_and_loud_ones_are_marked(root: Path) -> None:
    tone = np.sin(np.arange(800) * 0.1)
    soundfile.write(root / "fast.wav", 0.5 * tone, 8000)
    soundfile.write(root / "slow.wav", 0.5 * tone[::2], 4000)
    fast, slow = (float(scored(root, "sound", root / name)[0]["nats"]) for name in ("fast.wav", "slow.wav"))
    assert fast == pytest.approx(slow, rel=0.02)
    with pytest.warns(QuintetWarning, match="item 1: .* samples are louder than full scale"):
        quintet.load("sound", runs=root).log_prob([tone[::2], 3 * tone[::2]])


def test_pictures_are_no_recordings(root: Path) -> None:
    model = quintet.load("sound", runs=root)
    pictures = [Image.new("L", (4, size)) for size in (4, 5)]
    with pytest.raises(DataError, match="expected a recording"):
        model.log_prob(pictures)
    with pytest.raises(DataError, match="expected a recording") as refused:
        model.log_prob([root / "fast.wav", root / "slow.wav"])
    assert "Path" in str(refused.value.why)
