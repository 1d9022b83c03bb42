"""Likelihoods say of which space they are, and those of different spaces are never ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import quintet
from quintet.cli.figures import compared
from quintet.comparison.contenders import contenders
from quintet.comparison.report import render
from quintet.comparison.verdict import verdict
from quintet.core.errors import QuintetWarning, UsageError

SMALL = {"width": 8, "depth": 1}


def train(
    family: str, root: Path, run: str, source: Any, steps: int = 2, seed: int = 0, **config: Any
) -> quintet.Model:
    model = {"model": SMALL} if family == "vae" else {}
    return quintet.train(family, data=source, steps=steps, run=run, runs=root, preset=None if model else "tiny",
                         seed=seed, codec=config.pop("codec", None), config=model | config)  # fmt: skip


def not_ranked(result: dict[str, Any]) -> str:
    """The sentence of a verdict that names nobody, which report and terminal show too."""
    answer = result["verdict"]["scoring"]
    assert answer["label"] is None
    assert "different spaces cannot be compared" in answer["sentence"]
    assert answer["sentence"] in compared(result)
    assert "different spaces cannot be compared" in " ".join(render(result).split())  # type: ignore[arg-type]
    assert "nats" not in result["ranks"]
    return str(answer["sentence"])


def test_waveforms_of_different_lengths_are_not_ranked(tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for i in range(100):
        soundfile.write(sounds / f"tone{i}.wav", 0.5 * np.sin(np.arange(400) * (0.1 + 0.01 * i)), 4000)
    for run, seconds in (("short", 0.02), ("long", 0.04)):
        train("vae", tmp_path, run, sounds, coding={"features": "waveform", "seconds": seconds})
    result = quintet.compare("short", "long", runs=tmp_path, samples=20)
    spaces = [entry["likelihood"]["space"] for entry in result["models"]]
    assert spaces == ["density", "density"]
    assert "80 dimensions" in not_ranked(result)


def test_latents_of_different_autoencoders_are_neither_ranked_nor_seeds_of_one(tmp_path: Path) -> None:
    """Two runs with the same settings, `codec: ae`, each beside an autoencoder of its own."""
    paths = []
    for seed in (0, 1):
        root = tmp_path / str(seed)
        train("vae", root, "ae", "digits", seed=seed)
        train("flow", root, f"flow{seed}", "digits", codec="ae")
        paths.append(root / f"flow{seed}")
    result = quintet.compare(*paths, samples=20)
    assert [c.label for c in contenders(result["models"])] == ["flow, flow0", "flow, flow1"]
    not_ranked(result)
    same = quintet.compare(paths[0], paths[0], samples=20)["verdict"]["scoring"]
    assert same["label"] == "flow"  # of one autoencoder


def test_a_likelihood_of_latents_does_not_depend_on_their_scale(tmp_path: Path) -> None:
    train("vae", tmp_path, "ae", "digits")
    model = train("flow", tmp_path, "flow", "digits", codec="ae")
    codec, items = model.codecs["x"], quintet.load("ae", runs=tmp_path).sample(4)
    before, x = codec.log_det(items), codec.encode(items)
    name = codec.identity()
    codec.representation.scale = codec.representation.scale * 2
    density = (x.square() / -2).flatten(1).sum(1).double()  # of x, and of x / 2 the same with a spread of a half
    halved = codec.encode(items)
    wider = (halved.square() * -2).flatten(1).sum(1).double() + codec.space.dims * np.log(2)
    assert (wider + codec.log_det(items)).tolist() == pytest.approx((density + before).tolist())
    assert codec.identity() == name


def test_pictures_of_different_sizes_are_of_different_spaces(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 4, (60, 8, 8, 1)).astype(np.uint8) * 85
    small = images[:, ::2, ::2]
    models = [train("vae", tmp_path, f"size{x.shape[1]}", x) for x in (images, small)]
    found = [model.log_prob(x[:4]) for model, x in zip(models, (images, small), strict=True)]
    assert found[0].identity != found[1].identity
    entries = [{"family": f"vae{i}", "run": f"r{i}", "seed": 0, "metrics": {}, "likelihood": one.summary()}
               for i, one in enumerate(found)]  # fmt: skip
    assert verdict(entries)["scoring"]["label"] is None
    again = [{**entries[0], "family": "flow"}, entries[0]]
    assert verdict(again)["scoring"]["label"] is not None
    with pytest.raises(UsageError, match="cannot be compared"):
        quintet.compare("size8", "size4", runs=tmp_path)


def test_values_that_training_lacks_are_marked_in_pictures(tmp_path: Path) -> None:
    black_and_white = np.random.default_rng(0).integers(0, 2, (60, 4, 4, 1)).astype(np.uint8) * 255
    model = train("vae", tmp_path, "bits", black_and_white)
    grey = black_and_white[:2].copy()
    grey[1, 0, :2] = 90
    with pytest.warns(QuintetWarning, match="item 1: 2 of 16 values are not of training"):
        found = model.log_prob(grey)
    assert found.notes is not None
    assert [bool(note) for note in found.notes] == [False, True]


def test_categories_that_training_lacks_are_marked_in_tables(tmp_path: Path) -> None:
    rows = [{"city": f"town{i % 7}" if i % 50 else f"hamlet{i}", "size": i % 5} for i in range(300)]
    model = train("autoregressive", tmp_path, "towns", rows)
    with pytest.warns(QuintetWarning, match="item 1: city 'Oslo' is not of training"):
        found = model.log_prob([rows[1], {"city": "Oslo", "size": 1}])
    assert found.notes == ("", "city 'Oslo' is not of training")
    assert model.log_prob(rows[1:3]).identity == "" != found.identity
    drawn = model.log_prob([{"city": "(rare)", "size": 1}])  # what samples say in the place of a hamlet
    assert drawn.notes == ("",)
    assert drawn.values[0] == found.values[1]
    assert drawn.identity == found.identity
    with pytest.warns(QuintetWarning) as told:  # not of the item by which it is tried how long scores take
        scored = model.evaluate(budget="1m")["likelihood"]["items"]
    marked = [str(one.message) for one in told if "are marked" in str(one.message)]
    assert len(marked) == 1
    assert f" of {scored} items are marked" in marked[0]


def test_texts_with_replaced_characters_are_of_the_vocabulary_s_space(tmp_path: Path) -> None:
    """Each line has a character that no other has: characters replace it where training lacked it, bytes never."""
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"line {i % 10} {chr(0x4E00 + i)}" for i in range(120)))
    for run in ("characters", "bytes"):
        train("autoregressive", tmp_path, run, path, data={"unit": "line"}, coding={"tokens": run, "block": 12})
    result = quintet.compare("characters", "bytes", runs=tmp_path, samples=20)
    not_ranked(result)
    one, other = (quintet.load(run, runs=tmp_path) for run in ("characters", "bytes"))
    assert one.log_prob(["line 3"]).identity == other.log_prob(["line 3"]).identity == ""
    with pytest.warns(QuintetWarning, match="not of training"):
        assert one.log_prob(["line Ω"]).identity != other.log_prob(["line Ω"]).identity
