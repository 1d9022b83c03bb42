"""A trained autoencoder as a codec: latents for other families, and a run that needs nothing outside its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import quintet
from quintet.core.errors import CheckpointError, DataError, Unsupported, UsageError
from quintet.core.spaces import Continuous, Discrete
from quintet.modalities.latent import LatentCodec
from quintet.operations.events import Begun
from quintet.operations.requests import TrainRequest
from quintet.operations.training import TrainResult, train
from quintet.sources import load as sources

SMALL = {"width": 8, "depth": 1}
STAGES = {
    "vector": {"latent": 5},
    "map": {"latent": 3, "grid": 2},
    "codes": {"bottleneck": "fsq", "fsq_levels": [4, 3], "grid": 4},
}
MODELS = {
    "diffusion": {"width": 8, "depth": 1, "emb": 8},
    "flow": {"width": 8, "layers": 2},
    "gan": {"width": 8, "critic_width": 8, "depth": 1, "latent": 4},
    "autoregressive": {"width": 16, "depth": 1, "heads": 2},
    "masked_diffusion": {"width": 16, "depth": 1, "heads": 2},
}
TEXTS = [f"{a} times {b}" for a in range(12) for b in range(12)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One autoencoder of each kind on digits."""
    root = tmp_path_factory.mktemp("runs")
    for name, settings in STAGES.items():
        fit("vae", root, run=name, steps=30, config={"model": SMALL | settings})
    return root


def fit(family: str, root: Path, **given: object) -> quintet.Model:
    given.setdefault("config", {"model": MODELS.get(family, SMALL)})
    training = {"training": {"batch_size": 32, "sample_every": 1000, "save_every": 1000}}
    config = {**given.pop("config"), **training}  # type: ignore[dict-item]
    return quintet.train(family, **{"data": "digits", "steps": 30, "runs": root, "config": config, **given})


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.asarray(a) == np.asarray(b)).all())


CASES = [("diffusion", "map"), ("flow", "vector"), ("gan", "map"), ("diffusion", "codes"),
         ("autoregressive", "codes"), ("masked_diffusion", "codes")]  # fmt: skip


@pytest.mark.parametrize(("family", "stage"), CASES)
def test_a_run_on_latents_needs_nothing_outside_its_folder(family: str, stage: str, runs: Path, tmp_path: Path) -> None:
    """Trained, sampled, saved, moved, loaded with the autoencoder's own run gone: the same samples."""
    shutil.copytree(runs / stage, tmp_path / stage)
    model = fit(family, tmp_path, codec=stage, run="two")
    codec = model.codecs["x"]
    assert isinstance(codec, LatentCodec)
    assert (codec.modality, codec.measure, codec.dims, model.config.codec) == ("image", "encoded", 64, stage)
    samples = model.sample(3, seed=5)
    assert samples.shape == (3, 8, 8, 1)
    copy = model.save(tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / stage)
    shutil.move(tmp_path / "two", tmp_path / "moved")
    for path in (copy, tmp_path / "moved"):
        loaded = quintet.load(path)
        assert same(loaded.sample(3, seed=5), samples)
        if family != "gan":
            score = loaded.log_prob(samples)
            assert (score.space, score.dims) == ("encoded", 64)
            assert torch.isfinite(score.values).all()


def test_it_resumes_from_its_own_copy(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "map", tmp_path / "map")
    stopped = fit("diffusion", tmp_path, codec="map", run="two", on_trainer=stop_at(7))
    assert stopped.run.metrics()[-1]["step"] < 30
    shutil.rmtree(tmp_path / "map")
    resumed = quintet.resume("two", runs=tmp_path)
    whole = fit("diffusion", runs, codec="map", run="whole")
    assert same(resumed.sample(2), whole.sample(2))


@pytest.mark.parametrize(("family", "bottleneck"), [("autoregressive", "fsq"), ("flow", "gaussian")])
def test_an_autoencoder_is_trained_along_the_way(family: str, bottleneck: str, tmp_path: Path) -> None:
    """As a run of its own, of what the family takes; both say which of them a record is of."""
    records: list[dict[str, object]] = []
    model = fit(family, tmp_path, codec="latent", condition="label", run="two", report=records.append, steps=8)
    first = quintet.load("two-autoencoder", runs=tmp_path)
    assert (model.config.codec, model.config.data.condition) == ("two-autoencoder", "label")
    assert (first.config.data.condition, first.config.model["bottleneck"]) == (None, bottleneck)
    assert (first.config.steps, first.config.seed) == (8, 0)
    assert {record["family"] for record in records} == {"vae", family}
    assert model.sample(2, condition=3).shape == (2, 8, 8, 1)
    codec = model.codecs["x"]
    assert isinstance(codec, LatentCodec)
    mine, theirs = (one.state_dict() for one in (codec.family, first.family))  # type: ignore[attr-defined]
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_what_stops_it_stops_all_and_the_same_call_goes_on(tmp_path: Path) -> None:
    wanted = {"codec": "latent", "run": "two", "steps": 8}
    stopped = fit("flow", tmp_path / "a", **wanted, on_trainer=stop_at(4))
    assert (stopped.config.family, stopped.run.name) == ("vae", "two-autoencoder")
    assert not (tmp_path / "a" / "two").exists()
    resumed, whole = fit("flow", tmp_path / "a", **wanted), fit("flow", tmp_path / "b", **wanted)
    assert same(resumed.sample(2), whole.sample(2))
    with pytest.raises(UsageError, match="a run of this name exists already"):
        fit("flow", tmp_path / "b", **wanted)
    shutil.rmtree(tmp_path / "b" / "two")
    with pytest.raises(UsageError, match="a run of this name exists already"):
        fit("flow", tmp_path / "b", **wanted, seed=1)  # another autoencoder


def test_a_signal_on_the_way_is_answered_with_the_autoencoder(tmp_path: Path) -> None:
    """As the command line asks: the training that has begun is stopped, and the answer says what was saved."""
    began: list[Begun] = []

    def on_event(event: object) -> None:
        if isinstance(event, Begun):
            began.append(event)
            assert event.stop is not None
            event.stop("SIGTERM")

    request = TrainRequest(family="flow", data="digits", codec="latent", steps=8, run="two", runs=tmp_path)
    done = train(request, on_event)
    assert isinstance(done, TrainResult)
    assert (done.name, done.family, done.stopped, len(began)) == ("two-autoencoder", "vae", "SIGTERM", 1)
    assert not (tmp_path / "two").exists()


def test_the_same_command_goes_on_in_either_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quintet.cli.main import main

    monkeypatch.chdir(tmp_path)
    words = ["train", "flow", "--data", "digits", "--codec", "latent", "--steps", "4", "--run", "two", "--runs", "."]
    words += ["--resume", "auto"]
    assert main([*words, "--training.save_every", "2"]) == 0
    first = (tmp_path / "two" / "metrics.jsonl").read_bytes()
    assert main([*words, "--training.save_every", "2"]) == 0
    assert (tmp_path / "two" / "metrics.jsonl").read_bytes() == first
    assert main([*words, "--training.save_every", "2", "--model.layers", "9"]) == 3


def test_only_pictures_get_an_autoencoder_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="these are items of kind table") as caught:
        fit("flow", tmp_path, codec="latent", data="moons")
    assert "--codec NAME" in caught.value.fix


def stop_at(step: int) -> object:
    def watch(trainer: object) -> None:
        if trainer is None:
            return
        update = trainer.update  # type: ignore[attr-defined]

        def counted() -> object:
            record = update()
            if trainer.step >= step:  # type: ignore[attr-defined]
                trainer.stop = "here"  # type: ignore[attr-defined]
            return record

        trainer.update = counted  # type: ignore[attr-defined]

    return watch


@pytest.mark.parametrize("name", ["config.yaml", "codec/codec.json", "checkpoints/*/model.safetensors"])
def test_a_damaged_or_missing_file_of_the_autoencoder_is_named(name: str, runs: Path, tmp_path: Path) -> None:
    fit("gan", runs, codec="map", run=f"gan-{name[:3]}")
    shutil.copytree(runs / f"gan-{name[:3]}", tmp_path / "two")
    (path,) = (tmp_path / "two" / "codec" / "stage1").glob(name)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="file of the autoencoder is damaged") as caught:
        quintet.load(tmp_path / "two")
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="file of the autoencoder is missing"):
        quintet.load(tmp_path / "two")


def test_what_is_no_codec_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'mapp' is neither a codec nor a run") as caught:
        fit("diffusion", runs, codec="mapp")
    assert "did you mean map?" in caught.value.why
    fit("flow", runs, run="flow", steps=1)
    with pytest.raises(UsageError, match="a run of the family flow") as caught:
        fit("diffusion", runs, codec="flow")
    assert "quintet train vae" in caught.value.fix
    with pytest.raises(Unsupported, match="autoregressive needs discrete data") as caught:
        fit("autoregressive", runs, codec="map")
    assert "--model.bottleneck fsq" in caught.value.fix
    with pytest.raises(DataError, match="of kind image, but these are table"):
        fit("diffusion", runs, codec="map", data="moons")
    fit("vae", runs, run="given", condition="label", steps=1)
    with pytest.raises(UsageError, match="conditional autoencoder"):
        fit("diffusion", runs, codec="given")
    assert not list(runs.glob("digits-diffusion-*")), "a refused run leaves no folder"


@pytest.mark.parametrize("stage", STAGES)
def test_latents_are_what_the_autoencoder_makes(stage: str, runs: Path) -> None:
    """Decoding an encoded item is the autoencoder's own reconstruction; latents are standardised a channel."""
    model, images = quintet.load(runs / stage), sources.load_source("digits").rows("train")
    inner, family = model.codecs["x"], model.family
    x = inner.encode(images)
    plain = inner.decode(family.decode(family.encode(x)))
    for representation in (each.kind for each in LatentCodec.offered_by(family)):
        codec = LatentCodec(inner, family, representation).fit(images)
        z = codec.encode(images)
        codec.space.check(z)
        assert same(codec.decode(z), plain)
        state = LatentCodec.from_json(codec.to_json(), inner, family)
        assert torch.equal(state.encode(images[:5]), codec.encode(images[:5]))
        if representation == "discrete":
            assert codec.space == Discrete((4,), 12)
        else:
            assert isinstance(codec.space, Continuous)
            flat = z.transpose(0, 1).flatten(1)
            widest = flat.std(1).max()
            assert flat.mean(1).abs().max() < 0.05
            assert 0.95 < widest < 1.05
    with pytest.raises(Unsupported, match="cannot be completed by a model of their latents"):
        codec.partial(images[:2])


@pytest.mark.parametrize("stage", ["vector", "codes"])
def test_decode_is_total(stage: str, runs: Path) -> None:
    model = quintet.load(runs / stage)
    codec = LatentCodec(model.codecs["x"], model.family, "continuous")
    x = 1e6 * torch.randn(20, *codec.space.shape, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = float("nan"), float("inf")
    assert codec.decode(x).shape == (20, 8, 8, 1)


def test_a_gan_of_text_is_a_codec_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text symbols -> an autoencoder's latents -> a GAN -> texts; and codes -> a Transformer."""
    index = np.arange(len(TEXTS))
    splits = {"train": index[:100], "validation": index[100:120], "test": index[120:]}
    monkeypatch.setitem(sources.SOURCES, "tables", lambda: sources.Dataset("tables", "text", TEXTS, splits))
    fit("vae", tmp_path, run="one", data="tables", config={"model": SMALL | {"latent": 6}})
    fit("vae", tmp_path, run="codes", data="tables", config={"model": SMALL | STAGES["codes"]})
    for family, stage in (("gan", "one"), ("autoregressive", "codes")):
        model = fit(family, tmp_path, codec=stage, data="tables", run=f"{family}-text")
        texts = quintet.load(model.run.path).sample(4)
        assert texts == model.sample(4)
        assert all(isinstance(text, str) and len(text) <= model.codecs["x"].dims for text in texts)
        assert model.codecs["x"].modality == "text"


def test_latents_of_latents(runs: Path, tmp_path: Path) -> None:
    """An autoencoder of an autoencoder's latents: the copy holds both."""
    shutil.copytree(runs / "map", tmp_path / "map")
    fit("vae", tmp_path, run="two", codec="map", config={"model": SMALL | {"latent": 2}})
    model = fit("flow", tmp_path, run="three", codec="two")
    samples = model.sample(2)
    for name in ("map", "two"):
        shutil.rmtree(tmp_path / name)
    assert same(quintet.load("three", runs=tmp_path).sample(2), samples)
