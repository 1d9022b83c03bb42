"""The defaults, trained on data whose truth is known: minutes of training, run by `make test-slow`.

Each test prints its figures, so that `make test-slow` leaves a record (docs/results.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import quintet
from quintet.data import splits
from quintet.evaluation.bench import Bench
from quintet.sources import load as sources

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("long_looks")]


def note(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n  {text}", end="")


# -- one Gaussian ----------------------------------------------------------------------------------------------------

COV = np.array([[2.0, 0.9, 0.2], [0.9, 1.0, -0.3], [0.2, -0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 5.0])


def gaussian() -> sources.Dataset:
    x = np.random.RandomState(0).multivariate_normal(MEAN, COV, 30_000)
    table = pa.table({f"x{i}": x[:, i] for i in range(3)})
    return sources.Dataset("gaussian", "table", table, splits.random_splits(len(x)))


@pytest.mark.parametrize("family", ["vae", "autoregressive", "flow", "diffusion"])
def test_one_gaussian(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """log p_true - log p_model of 6,000 unseen rows: at most 0.02 nats a dimension, and not below -1 standard error.

    The mean of log p_true over the same rows estimates the (negative) entropy, which this compares with, pair by pair.
    """
    monkeypatch.setitem(sources.SOURCES, "gaussian", gaussian)
    rows = gaussian().rows("test")
    x = np.stack([column.to_numpy() for column in rows.columns], 1) - MEAN
    truth = -0.5 * np.einsum("ni,ij,nj->n", x, np.linalg.inv(COV), x) - 0.5 * np.linalg.slogdet(2 * np.pi * COV)[1]
    model = quintet.train(family, data="gaussian", steps=2000, runs=tmp_path)
    score = model.log_prob(rows)
    gap = (truth - score.values.numpy()) / 3
    error = gap.std() / len(gap) ** 0.5
    note(capsys, f"{family}: {gap.mean():.4f} +- {error:.4f} nats a dimension above the entropy ({score.kind})")
    assert -error <= gap.mean() <= 0.02


# -- the plane -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["rings", "checkerboard"])
@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_densities_in_the_plane_integrate_to_one(family: str, source: str, tmp_path: Path, capsys: Any) -> None:
    """The raw density over a grid that holds all of the mass, at four random points of each cell: it has steps, of
    which the middles of cells would tell too little.
    """
    model = quintet.train(family, data=source, steps=1500, runs=tmp_path)
    side = 7.0 if source == "rings" else 4.0
    axis = np.linspace(-side, side, 281)
    grid, cell = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), axis[1] - axis[0]
    points = grid + cell * np.random.default_rng(0).uniform(-0.5, 0.5, (4, *grid.shape))
    total = cell**2 * float(np.mean([model.log_prob(each, batch_size=8192).values.exp().sum() for each in points]))
    nats = model.log_prob(sources.load_source(source).rows("test")).summary()["nats"]
    note(capsys, f"{family} on {source}: integral {total:.4f}, test log-density {nats:.3f} nats")
    assert abs(total - 1) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_gan_covers_eight_modes(seed: int, tmp_path: Path, capsys: Any) -> None:
    """Of 2,000 samples, each of the 8 Gaussians has at least 5 % within three standard deviations; 12.5 % are its
    share.
    """
    model = quintet.train("gan", data="gaussians", budget="20s", seed=seed, runs=tmp_path)
    table = model.sample(2000, seed=1)
    x = np.stack([column.to_numpy() for column in table.columns], 1)
    angle = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    distance = np.linalg.norm(x[:, None] - centres[None], axis=2)
    near, mode = distance.min(1) < 0.3, distance.argmin(1)
    shares = np.bincount(mode[near], minlength=8) / len(x)
    covered = int((shares > 0.05).sum())
    note(
        capsys, f"gan seed {seed}: {covered} of 8 modes, {near.mean():.1%} of samples in one, least {shares.min():.1%}"
    )
    assert covered == 8


# -- digits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["vae", "gan", "autoregressive", "flow", "diffusion"])
def test_digits_in_a_minute(family: str, tmp_path: Path, capsys: Any) -> None:
    """A logistic regression trained on 1,000 class-conditional samples recognises at least 92 % of unseen real
    digits.
    """
    torch.set_num_threads(2)
    model = quintet.train(family, data="digits", condition="label", budget="60s", runs=tmp_path)
    figures = Bench(sources.load_source("digits"), "label", samples=1000).run(model.fitted)["metrics"]
    note(
        capsys,
        f"{family}: accuracy {figures['tstr']:.3f} (real {figures['trtr']:.3f}), AUC {figures['auc']:.3f}, "
        f"coverage {figures['coverage']:.3f}",
    )
    assert figures["tstr"] >= 0.92
