"""Images of 16 bits and real numbers: one scale for a data set, told, kept by the run, and undone on the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import quintet
from quintet.cli.main import main
from quintet.cli.sources import described as in_words
from quintet.operations.sources import described
from quintet.sources.load import load_source


def folder(path: Path, arrays: np.ndarray, suffix: str = ".png") -> Path:
    path.mkdir()
    for i, values in enumerate(arrays):
        Image.fromarray(values).save(path / f"{i:03d}{suffix}")
    return path


def depths() -> np.ndarray:
    """60 depth maps, every other one with a maximum of 200, the others of 3000."""
    far = np.linspace(0, 1, 64).reshape(8, 8)
    return np.stack([np.round(far * (200 if i % 2 else 3000)) for i in range(60)]).astype(np.uint16)


def test_depth_maps_are_read_on_one_scale(tmp_path: Path) -> None:
    source = folder(tmp_path / "depths", depths())
    dataset = load_source(str(source), whole=True)
    assert np.array_equal(dataset.items[..., 0], np.round(depths() * (255 / 3000)))
    assert dataset.decided["scale"] == (0, 3000)
    assert "3000 becomes 255" in in_words(described(str(source)))
    near = folder(tmp_path / "near", depths()[1::2])  # read for a run, they are on the scale of the run
    assert load_source(str(near), whole=True, scale=(0, 3000)).items.max() == 17


def test_labels_of_16_bits_keep_their_values(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 6, (60, 8, 8)).astype(np.uint16)
    for name, offset in (("small", 0), ("large", 1000)):
        dataset = load_source(str(folder(tmp_path / name, labels + np.uint16(offset))), whole=True)
        assert np.array_equal(dataset.items[..., 0], labels)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-3.0, 5.0), (0.0, 0.01), (100.0, 1e6)])
@pytest.mark.parametrize("kind", ["tiff", "npy"])
def test_real_numbers_of_any_range(tmp_path: Path, low: float, high: float, kind: str) -> None:
    values = np.random.default_rng(0).uniform(low, high, (60, 8, 8)).astype(np.float32)
    path = tmp_path / "values.npy"
    if kind == "npy":
        np.save(path, values)
    else:
        path = folder(tmp_path / "values", values, ".tiff")
    dataset = load_source(str(path), whole=True)
    assert "scale" in dataset.decided
    from quintet.modalities.image.reading import from_codes

    back = from_codes(dataset.items[..., 0], dataset.decided["scale"])
    assert np.abs(back - values).max() <= 0.51 * (dataset.decided["scale"][1] - dataset.decided["scale"][0]) / 255


def test_samples_come_back_in_the_units_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "depths", depths())
    model = quintet.train("vae", data=source, steps=2, preset="tiny", runs=tmp_path / "runs", run="deep")
    assert model.config.data.scale == (0, 3000)
    items = depths()[:4, ..., None]
    encoded = model.codecs["x"].encode(model._raw(items)[0])
    assert np.array_equal(np.round((encoded.numpy()[:, 0] + 1) * 127.5), np.round(items[..., 0] * (255 / 3000)))
    assert model.sample(8).dtype == np.uint16
    assert model.reconstruct(items).dtype == np.uint16
    known = np.ones((8, 8), bool)
    assert np.abs(model.complete(items, known=known).astype(int) - items).max() <= 6
    assert main(["sample", "deep", "-n", "4", "--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "out") + "/"]) == 0
    assert main(["sample", "deep", "-n", "4", "--runs", str(tmp_path / "runs"), "-o", str(tmp_path / "out.npz")]) == 0
    stored = np.load(tmp_path / "out.npz")["images"]
    for i in range(4):
        with Image.open(tmp_path / "out" / f"{i:05d}.png") as image:
            assert image.mode == "I;16"
            assert np.array_equal(np.asarray(image), stored[i, ..., 0])
    assert np.array_equal(stored, model.sample(4))
