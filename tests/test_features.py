"""Feature spaces that are learnt from the user's data, or read off a file: `learnt` and `inception`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quintet.core.errors import DataError, EnvironmentFault, UsageError
from quintet.evaluation import learnt
from quintet.evaluation.bench import Bench
from quintet.metrics.distances import frechet_distance
from quintet.modalities.image.inception import VARIABLE, Inception
from quintet.sources.load import load_source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUINTET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learnt, "STEPS", 2)
    return tmp_path / "cache"


@pytest.mark.parametrize(("source", "net"), [("digits", "autoregressive, pooled encoder"), ("iris", "vae, means")])
def test_features_are_learnt_once_and_kept(source: str, net: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_source(source)
    first = Bench(data, None, samples=20, features="learnt")
    found = first.features(first.items["test"])
    assert found.shape[0] == len(first.items["test"])
    assert found.dtype == np.float64
    assert first.features.description["net"] == net
    assert json.loads(json.dumps(first.measurement())) == first.measurement()
    assert first.measurement()["id"] != Bench(data, None, samples=20).measurement()["id"]
    monkeypatch.setattr(learnt, "_train_kept", None)  # the second time nothing is trained
    assert np.array_equal(Bench(data, None, features="learnt").features(first.items["test"]), found)


def test_learnt_features_see_noise(cache: Path) -> None:
    bench = Bench(load_source("digits"), None, features="learnt")
    real, other = bench.features(bench.items["test"]), bench.features(bench.items["validation"])
    noise = np.random.default_rng(0).normal(size=bench.items["test"].shape).astype(np.float32)
    noisy = bench.features(bench.items["test"] + noise)
    assert frechet_distance(real, noisy).value > 3 * frechet_distance(real, other).value


def test_what_is_damaged_in_the_cache_is_learnt_again(cache: Path) -> None:
    data = load_source("iris")
    bench = Bench(data, None, features="learnt")
    found = bench.features(bench.items["test"])
    (kept,) = cache.glob("features-*")
    (kept / "config.yaml").write_text("nonsense: [")
    assert np.array_equal(Bench(data, None, features="learnt").features(bench.items["test"]), found)
    assert [path.name for path in cache.iterdir()] == [kept.name]  # nothing temporary is left


class StandIn(nn.Module):
    """The interface of the file: uint8 (N, 3, H, W) -> features (N, 6)."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        assert img.shape[1] == 3
        x = img.float()
        out = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return out if return_features else out[:, :1]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "inception-2015-12-05.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(StandIn()).save(str(path))
    return path


def test_inception_sees_bytes_of_three_channels(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(weights))
    space = Inception()
    grey = np.full((70, 1, 4, 4), -1.0)
    grey[:, :, 0, 0] = 1.0
    assert space(grey)[0].tolist() == [255 / 16] * 3 + [255] * 3
    assert space(grey).shape == (70, 6)
    alpha = np.concatenate([np.zeros((2, 3, 4, 4)), np.ones((2, 1, 4, 4))], 1)
    assert space(alpha)[0].tolist() == [128] * 6  # 127.5 rounds to the even
    assert len(space.description["sha256"]) == 64
    bench = Bench(load_source("digits"), None, features="inception")
    assert bench.measurement()["features"]["name"] == "inception-2015-12-05"
    with pytest.raises(DataError, match="Inception measures images"):
        space(np.zeros((3, 7)))
    with pytest.raises(DataError, match="NaN"):
        space(np.full((3, 1, 4, 4), np.nan))


def test_without_weights_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(EnvironmentFault, match=VARIABLE):
        Inception()
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    for name in ("broken.pt", "missing.pt"):
        with pytest.raises(EnvironmentFault, match=name):
            Inception(tmp_path / name)


def test_features_that_do_not_fit_are_refused() -> None:
    iris = load_source("iris")
    for name in ("inception", "anything"):
        with pytest.raises(UsageError, match="features pca"):
            Bench(iris, None, features=name)
    with pytest.raises(UsageError, match="whole items"):
        Bench(load_source("digits"), None, target="label", features="learnt")
