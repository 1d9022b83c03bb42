"""Scores of texts and recordings: one an item, of the whole item, with a mark where something is special."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import quintet
from quintet.api.model import Model
from quintet.cli.main import main
from quintet.core.codec import Codec
from quintet.core.errors import DataError, QuintetWarning
from quintet.families.vae import VAE
from quintet.modalities.audio.codec import AudioCodec
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.latent import LatentCodec
from quintet.modalities.table.codec import TableCodec
from quintet.modalities.table.representations import NormalScores, RowSymbols
from quintet.modalities.text.codec import TextCodec
from quintet.modalities.text.vocabulary import CODE_POINTS, Characters
from quintet.model.fitted import Fitted
from quintet.registry import family_class
from quintet.runs.folder import Run

SENTENCES = [f"line {i} has {i * i % 97} of them" for i in range(90)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def lines(root: Path) -> Path:
    path = root / "lines.txt"
    path.write_text("\n".join(SENTENCES) + "\n")
    return path


def prose(root: Path) -> Path:
    """The same lines as one text: with blank lines between, a file is a document."""
    path = root / "prose.txt"
    path.write_text("\n\n".join(SENTENCES))
    return path


def trained(root: Path, lines: Path, family: str, **config: object) -> Model:
    return quintet.train(family=family, data=str(lines), steps=2, runs=root / "runs", preset="tiny", config=config)


@pytest.fixture(scope="module")
def windows(root: Path, lines: Path) -> Model:
    """A Transformer on windows of 16 characters of one long text."""
    return trained(root, prose(root), "autoregressive", coding={"window": 16})


@pytest.fixture(scope="module")
def separate(root: Path, lines: Path) -> Model:
    return trained(root, lines, "autoregressive", data={"unit": "line"}, coding={"block": 24})


def by_hand(model: Model, text: str) -> float:
    """log p of a text, each symbol given at least half a block before it, one window a symbol."""
    codec = model.codecs["x"]
    assert isinstance(codec, TextCodec)
    symbols, block = codec.vocabulary.encode(text).tolist(), codec.block
    if not codec.stream and len(symbols) != block:
        symbols.append(codec.end)
    total, done = 0.0, 0
    while done < len(symbols):
        until = min(len(symbols), done + (block // 2 if done else block))
        start = max(0, until - block)
        row = torch.tensor([symbols[start:until] + [codec.end or 0] * (block - until + start)])
        each = model.family.log_prob_each(row)
        assert each is not None
        total += float(each[0, done - start : until - start].double().sum())
        done = until
    return total


def test_a_model_of_windows_scores_every_line_of_a_file(windows: Model, lines: Path, root: Path) -> None:
    out = root / "scores.csv"
    assert main(["score", str(windows.run.path), "--data", str(lines), "-o", str(out), "--json"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [int(row["index"]) for row in rows] == list(range(len(SENTENCES)))
    for row, text in list(zip(rows, SENTENCES, strict=True))[::20]:
        assert float(row["nats"]) == pytest.approx(by_hand(windows, text), rel=1e-4)
        assert ("pieces" in row["note"]) == (len(text) > 16)


def test_one_sentence_has_a_score_and_its_end_counts(windows: Model) -> None:
    short, long = "line 1", "line 17 has 9 of them line 18 has 5 of them"
    found = windows.log_prob([short])
    assert found.values.tolist() == pytest.approx([by_hand(windows, short)], rel=1e-4)
    assert found.notes == ("",)
    assert float(found.bits_per_dim[0]) == pytest.approx(-by_hand(windows, short) / len(short) / math.log(2), rel=1e-4)
    with pytest.warns(QuintetWarning, match="pieces"):
        one, other = windows.log_prob([long, long[:-1] + "x"]).values.tolist()
    assert one == pytest.approx(by_hand(windows, long), rel=1e-4)
    assert one != other, "the last character counts"


def test_a_separate_text_longer_than_the_block_is_scored_to_its_end(separate: Model) -> None:
    assert separate.codecs["x"].block == 24
    long = "line 17 has 9 of them line 18 has 5 of them"
    with pytest.warns(QuintetWarning, match="2 of 3 items are marked"):
        found = separate.log_prob([long, long + " line", "line 1"])
    wanted = [by_hand(separate, text) for text in (long, long + " line", "line 1")]
    assert found.values.tolist() == pytest.approx(wanted, rel=1e-4)
    assert found.notes is not None
    assert [bool(note) for note in found.notes] == [True, True, False]


def test_unseen_characters_are_marked_and_share_one_mass(separate: Model) -> None:
    codec = separate.codecs["x"]
    with pytest.warns(QuintetWarning, match="Ω"):
        found = separate.log_prob(["line Ω", "line \ufffd", "line 1"])
    assert found.notes is not None
    assert [("not of training" in note) for note in found.notes] == [True, True, False]
    row = torch.full((1, 24), codec.end)
    row[0, :6] = torch.from_numpy(codec.vocabulary.encode("line Ω"))
    each = separate.family.log_prob_each(row)
    share = math.log(CODE_POINTS - len(codec.vocabulary.alphabet))
    assert float(found.values[0]) == pytest.approx(float(each.sum()) - share, rel=1e-5)


def test_ranks_are_one_an_item(windows: Model) -> None:
    with pytest.warns(QuintetWarning, match="marked"):
        table = windows.rank(["line 1 has 1 of them", "zzzz"])
    assert sorted(table["index"].to_pylist()) == [0, 1]
    assert table["note"].to_pylist()[table["index"].to_pylist().index(1)]


def test_a_rank_warns_of_the_items_alone_and_not_of_those_beside_which_they_are_ranked(separate: Model) -> None:
    with pytest.warns(QuintetWarning) as warned:
        separate.rank(["line 1", "line Ω"], reference=["line 1"] * 98 + ["line Σ"])
    assert [str(one.message).partition(";")[0] for one in warned] == ["1 of 2 items are marked"]


def test_a_family_of_whole_windows_says_what_it_cannot_score(root: Path) -> None:
    model = trained(root, prose(root), "vae", coding={"window": 16})
    with pytest.raises(DataError, match="whole windows of 16"):
        model.log_prob(["line 1"])
    with pytest.warns(QuintetWarning, match="share of a window"):
        found = model.log_prob(["line 17 has 9 of them line 18", "line 1 has 1 of ", "short"])
    assert (len(found.values), found.kind) == (3, "estimate")
    assert found.notes is not None
    assert [bool(note) for note in found.notes] == [True, False, True]
    assert found.values.isnan().tolist() == [False, False, True]
    assert found.summary()["nats"] == pytest.approx(float(found.values[:2].mean()))
    assert (found.summary()["items"], found.summary()["without"]) == (2, 1)
    (root / "gap.txt").write_text("line 17 has 9 of them\n\nshort\nline 18 has 33 of them\n" + "\n".join(SENTENCES))
    words = [str(model.run.path), "--data", str(root / "gap.txt"), "-o", str(root / "gap.csv")]
    assert main(["score", *words]) == 0
    rows = list(csv.DictReader((root / "gap.csv").open()))
    assert [row["index"] for row in rows[:4]] == ["0", "2", "3", "4"]  # line 1 is blank
    assert [bool(row["nats"]) for row in rows[:4]] == [True, False, True, len(SENTENCES[0]) >= 16]
    assert main(["score", *words, "--rank"]) == 0
    ranked = {row["index"]: row for row in csv.DictReader((root / "gap.csv").open())}
    assert ranked["2"]["p"] == ""
    assert 0 < float(ranked["0"]["p"]) <= 1


def test_lines_keep_their_numbers(root: Path, separate: Model) -> None:
    """Line i of the file has the score of line i, though lines before it are blank."""
    path = root / "blanks.txt"
    path.write_text("\n\nline 3\n\nline 4\n" + "\n".join(SENTENCES[:60]) + "\n")
    assert main(["score", str(separate.run.path), "--data", str(path), "-o", str(root / "blanks.csv")]) == 0
    rows = {int(row["index"]): float(row["nats"]) for row in csv.DictReader((root / "blanks.csv").open())}
    for number, line in enumerate(path.read_text().split("\n")):
        assert (number in rows) == bool(line)
        if number in (2, 4, 9):
            assert rows[number] == pytest.approx(float(separate.log_prob([line]).values[0]), abs=1e-5)


def test_a_recording_that_is_cut_is_marked() -> None:
    codec = AudioCodec(None, AudioCodec.Settings(seconds=0.5)).fit(
        Recordings([np.ones(2000, np.float32) / 4] * 3, 2000)
    )
    long, short = (np.ones(n, np.float32) / 4 for n in (4000, 500))
    assert [bool(note) for note in codec.losses(Recordings([long, short], 2000))] == [True, False]


# -- one pass --------------------------------------------------------------------------------------------------------

ROWS = pa.table({"x": np.arange(40) % 7 + 0.5, "name": ["red", "green", "blue", "grey"] * 10})
GREY = (np.arange(40 * 16).reshape(40, 4, 4, 1) % 5 * 50).astype(np.uint8)
SOUNDS = Recordings([np.sin(np.arange(300 + i) / 9).astype(np.float32) for i in range(40)], 2000)
TEXTS = [f"line {i} of them" for i in range(40)]
SMALL = {"vae": {"width": 8, "depth": 1}, "autoregressive": {"width": 8, "depth": 1, "heads": 1}}
FITTED: dict[str, tuple[str, Codec, Any, tuple[object, str]]] = {
    "table": ("vae", TableCodec(), ROWS, (NormalScores, "encode")),
    "cells": ("vae", TableCodec(), ROWS, (TableCodec, "values")),
    "symbols": ("autoregressive", TableCodec("discrete"), ROWS, (RowSymbols, "encode")),
    "image": ("vae", ImageCodec(), GREY, (ImageCodec, "_encode")),
    "audio": ("vae", AudioCodec(), SOUNDS, (AudioCodec, "_wave")),
    "text": ("autoregressive", TextCodec("discrete"), TEXTS, (Characters, "encode")),
    "bits": ("vae", TextCodec("continuous"), TEXTS, (Characters, "encode")),
    "windows": ("vae", TextCodec("continuous", TextCodec.Settings(items="stream", block=8)), TEXTS,
                (Characters, "encode")),
}  # fmt: skip


@pytest.mark.parametrize("latents", [False, True], ids=["", "latents"])
@pytest.mark.parametrize("name", FITTED)
def test_each_item_is_encoded_once_when_it_is_scored(name: str, latents: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the innermost function of its codec that sees all of it, whatever it is counted in."""
    family, codec, items, (owner, method) = FITTED[name]
    codec, net = codec.fit(items), family_class(family)
    if latents:
        if family != "vae":
            pytest.skip("it has no latents")
        codec = LatentCodec(codec, VAE(codec.space, None, VAE.Settings(width=8, depth=1)))  # type: ignore[arg-type]
        codec.fit(items)
    model = Fitted(Run(Path("no-run")), net(codec.space, None, net.Settings(**SMALL[family])), {"x": codec}, None)  # type: ignore[call-arg, arg-type]
    seen, true = [0], getattr(owner, method)

    def counted(self: Any, items: Any, *rest: Any) -> Any:
        whole = items[0] if isinstance(items, tuple) else items  # cells of a table: values, and which are missing
        seen[0] += 1 if name in ("audio", "text", "bits", "windows") else len(whole)
        return true(self, items, *rest)

    monkeypatch.setattr(owner, method, counted)
    found = model.log_prob(items)
    assert len(found.values) == seen[0] == 40
