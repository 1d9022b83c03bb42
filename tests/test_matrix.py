"""Every family on every kind of data, from a raw file to a raw file, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from quintet.cli.main import main
from quintet.registry import FAMILIES, VERBS, refusal

MODALITIES = ("image", "text", "audio", "table")
SUFFIX = {"image": ".png", "text": ".txt", "audio": ".wav", "table": ".csv"}
ITEMS = 60
FEW = {"audio": ("--coding.bands", 16)}
"""Settings that make items of a kind smaller."""


def images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(ITEMS):
        path = folder / ("dark" if i % 2 else "light") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 120, (8, 8), dtype=np.uint8) + (0 if i % 2 else 100)).save(path)
    return folder


def texts(folder: Path) -> Path:
    folder.mkdir()
    words = ["red", "green", "blue", "one", "two", "three"]
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(words, rng.integers(2, 5))) for _ in range(ITEMS)]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    return folder / "lines.txt"


def sounds(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(ITEMS):
        t = np.arange(int(rng.integers(600, 1000))) / 8000
        soundfile.write(folder / f"{i}.wav", 0.5 * np.sin(2 * np.pi * (300 + 10 * i) * t), 8000)
    return folder


def rows(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "kind", "income", "member"])
        for i in range(ITEMS):
            kind = ["a", "b", "c"][int(rng.integers(3))]
            income = "" if i % 10 == 0 else f"{rng.lognormal(3, 1):.2f}"
            writer.writerow([int(rng.integers(18, 80)), kind, income, bool(i % 3)])
    return folder / "rows.csv"


MAKERS = {"image": images, "text": texts, "audio": sounds, "table": rows}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("raw")
    return {modality: make(root / modality) for modality, make in MAKERS.items()}


def call(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, dict[str, Any]]:
    """(exit code, the JSON object) of a verb."""
    capsys.readouterr()
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


CELLS = [
    pytest.param(
        family, modality, marks=[pytest.mark.slow] if modality == "audio" and family != "autoregressive" else []
    )
    for family in FAMILIES
    for modality in MODALITIES
]
"""The fast suite hears one family: the others take ten seconds each."""


@pytest.mark.parametrize(("family", "modality"), CELLS)
def test_a_cell(
    family: str, modality: str, sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, sample, score, complete, reconstruct, interpolate, encode, or the refusal; save, load, the same sample."""
    import quintet

    source, suffix, runs = sources[modality], SUFFIX[modality], ("--runs", tmp_path / "runs")
    code, answer = call(capsys, "train", family, "--data", source, "--preset", "tiny", "--steps", 3,
                        "--training.batch_size", 8, "--run", "cell", *FEW.get(modality, ()), *runs)  # fmt: skip
    assert code == 0, answer
    outputs = {verb: tmp_path / verb / f"{verb}{'.csv' if verb in ('score', 'encode') else suffix}" for verb in VERBS}
    extra: dict[str, list[Any]] = {
        "sample": ["-n", 3, "--seed", 5],
        "score": ["--data", source],
        "complete": ["--data", source, "-n", 4],
        "reconstruct": ["--data", source, "-n", 4],
        "interpolate": ["--data", source, "-n", 1, "--steps", 3],
        "encode": ["--data", source],
    }
    for verb, path in outputs.items():
        path.parent.mkdir()
        code, answer = call(capsys, verb, "cell", *extra[verb], "-o", path, *runs)
        reason = refusal(family, modality, verb)
        if reason:
            assert code == 2, f"{verb} should refuse: {answer}"
            assert answer["error"] == "Unsupported"
            assert reason in (answer["why"], answer["what"])
            assert not path.exists()
        else:
            assert code == 0, (verb, answer)
            assert path.stat().st_size > 0
            if verb == "score":
                assert len(path.read_text().splitlines()) == 1 + ITEMS
    quintet.load("cell", runs=tmp_path / "runs").save(tmp_path / "moved" / "kept")
    again = tmp_path / "again" / f"sample{suffix}"
    again.parent.mkdir()
    code, answer = call(capsys, "sample", tmp_path / "moved" / "kept", *extra["sample"], "-o", again)
    assert code == 0, answer
    assert decoded(again, modality) == decoded(tmp_path / "sample" / f"sample{suffix}", modality), "another sample"


def decoded(path: Path, modality: str) -> bytes:
    """What a file holds, without the note of which run made it."""
    if modality == "image":
        return np.asarray(Image.open(path)).tobytes()
    if modality == "audio":
        return soundfile.read(path, dtype="int16")[0].tobytes()
    return path.read_bytes()


def test_nothing_is_refused_that_could_exist() -> None:
    """What is greyed out, in full: a GAN has no density; a Transformer and masked diffusion have no latent."""
    refused = {
        (family, verb) for family in FAMILIES for modality in MODALITIES for verb in VERBS
        if refusal(family, modality, verb)
    }  # fmt: skip
    latent = ("reconstruct", "interpolate", "encode")
    expected = {(family, verb) for family in ("autoregressive", "masked_diffusion") for verb in latent}
    assert refused == expected | {("gan", "score")}
