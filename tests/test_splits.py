"""Splits that adding rows never moves; the cache; tables in a stream; encoded data in constant memory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from quintet.core.errors import DataError, EnvironmentFault
from quintet.data import cache, loader
from quintet.data.dataset import SPLITS, Dataset, Found, Reading, take
from quintet.data.splits import arrange, by_hash, by_name, by_time, keys_of, row_keys
from quintet.modalities.audio import reading as sounds
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.image import reading as images
from quintet.modalities.image.codec import ImageCodec
from quintet.modalities.table import reading as tables
from quintet.modalities.table import streams, written
from quintet.sources.load import load_source

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("QUINTET_CACHE", str(folder))
    return folder


def split_of(dataset: Dataset) -> dict[str, str]:
    """The first column's values -> their split."""
    name = dataset.items.column_names[0]
    return {str(value): split for split in SPLITS for value in dataset.rows(split)[name].to_pylist()}


# -- by hash ---------------------------------------------------------------------------------------------------------


def test_the_share_of_each_split() -> None:
    """80 / 10 / 10, within five standard errors of 20,000 draws."""
    part = by_hash(keys_of(str(i).encode() for i in range(20_000)))
    for split, share in enumerate((0.8, 0.1, 0.1)):
        assert abs((part == split).mean() - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rows_that_are_added_move_none(seed: int) -> None:
    """Also where the added rows turn integers into real numbers, and stand anywhere between the others."""
    rng = np.random.default_rng(seed)
    rows, order = rng.choice(10**9, 90, replace=False), rng.permutation(90)
    some = pa.table({"a": rows[:50], "b": [f"{row}" for row in rows[:50]]})
    more = rows + np.where(np.arange(90) < 50, 0.0, 0.5)
    after = by_hash(row_keys(pa.table({"a": more[order], "b": [f"{row}" for row in rows[order]]})))
    before = by_hash(row_keys(some))
    assume(len(set(np.searchsorted([0.8, 0.9], row_keys(some) / 2.0**64))) == 3)  # else an empty split was filled
    assert np.array_equal(after[np.argsort(order)][:50], before)


def test_equal_items_are_in_one_split(tmp_path: Path) -> None:
    table = pa.table({"a": [i % 60 for i in range(300)], "b": ["x"] * 300})
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    found = load_source(str(tmp_path / "x.parquet"))
    values = [set(found.rows(split)["a"].to_pylist()) for split in SPLITS]
    assert sum(map(len, values)) == 60
    assert all(values)


@pytest.mark.parametrize("n", range(1, 40))
def test_small_sets_have_something_in_every_split(n: int) -> None:
    for seed in range(5):
        keys = keys_of(f"{seed} {i}".encode() for i in range(n))
        part = by_hash(np.concatenate([keys, keys]))
        assert np.array_equal(part[:n], part[n:])
        order, splits, notes = arrange(part)
        if n >= 3:
            assert min(np.bincount(part, minlength=3)) > 0
            assert notes == ()
            assert np.array_equal(np.concatenate([splits[name] for name in SPLITS]), np.arange(2 * n))
            assert np.array_equal(part[order], np.sort(part))
        else:
            assert all(len(index) == 2 * n for index in splits.values())
            assert "all of them" in notes[0]


def test_a_cell_counts_by_its_value() -> None:
    def key(cell: Any) -> int:
        return int(row_keys(pa.table({"a": pa.array([cell])}))[0])

    assert key(1) == key(1.0) == key("1")
    assert key(0.1) != key(0.2)
    assert key(None) != key("None")
    assert key("a") != key("A")
    two = row_keys(pa.table({"a": ["x", "xy"], "b": ["yz", "z"]}))
    assert two[0] != two[1], "cells must not run together"
    nested = row_keys(pa.table({"a": [[1, 2], [1, 3]]}))
    assert nested[0] != nested[1]


# -- by group, time, name --------------------------------------------------------------------------------------------


def people(n: int = 400) -> pa.Table:
    rng = np.random.default_rng(0)
    day = rng.permutation(n) // 2
    return pa.table({
        "row": list(range(n)),
        "who": [f"p{i}" if i < 60 else None for i in rng.integers(0, 70, n)],
        "day": pa.array(day, pa.int32()).cast(pa.date32()),
    })  # fmt: skip


def test_groups_stay_together(tmp_path: Path) -> None:
    pa.parquet.write_table(people(), tmp_path / "x.parquet")
    found = load_source(str(tmp_path / "x.parquet"), group="who")
    values = [set(found.rows(split)["who"].drop_null().to_pylist()) for split in SPLITS]
    assert all(values)
    assert sum(map(len, values)) == len(set.union(*values))
    spread = [found.rows(split)["who"].null_count for split in SPLITS]
    assert sum(spread) > 0
    assert max(spread) < sum(spread), "rows without a group are split one by one"
    larger = pa.concat_tables([people(), people().slice(0, 50)])
    pa.parquet.write_table(larger, tmp_path / "y.parquet")
    again = load_source(str(tmp_path / "y.parquet"), group="who")
    for value in values[2]:
        assert value in again.rows("test")["who"].to_pylist()


def test_the_last_in_time_are_the_test_split(tmp_path: Path) -> None:
    pa.parquet.write_table(people(), tmp_path / "x.parquet")
    found = load_source(str(tmp_path / "x.parquet"), time="day")
    days = [found.rows(split)["day"].to_pylist() for split in SPLITS]
    assert max(days[0]) < min(days[1])
    assert max(days[1]) < min(days[2])
    assert [len(part) for part in days] == [320, 40, 40]


def test_what_a_split_cannot_be_made_of(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(people(), path)
    for reading, words in (({"group": "nobody"}, "no column nobody"), ({"group": "who", "time": "day"}, "both"),
                           ({"time": "who"}, "rows have no time")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            load_source(str(path), **reading)
    with pytest.raises(DataError, match="split by time"):
        by_time(pa.chunked_array([[1, 1, 1, 1]]))
    with pytest.raises(DataError, match="dates or numbers as times"):
        by_time(pa.chunked_array([["a", "b", "c"]]))


def test_published_splits_stand_and_a_lacking_one_comes_from_train() -> None:
    keys = keys_of(str(i).encode() for i in range(500))
    names = ["train"] * 450 + ["test"] * 50
    part = by_name(names, keys)
    assert (part[450:] == 2).all()
    assert 0 < (part[:450] == 1).mean() < 0.2
    assert not (part[:450] == 2).any()
    fewer = by_name(names[100:], keys[100:])
    assert np.array_equal(fewer, part[100:]), "removing rows moves none"


def test_a_split_is_a_view() -> None:
    array, table = np.arange(40).reshape(20, 2), pa.table({"a": list(range(20))})
    part = take(array, np.arange(5, 9))
    assert np.shares_memory(part, array)
    assert take(table, np.arange(5, 9))["a"].to_pylist() == [5, 6, 7, 8]
    assert take(array, np.array([3, 1])).tolist() == [[6, 7], [2, 3]]
    clips = Recordings([np.full(3, i) for i in range(6)], 8000)
    assert [int(clip[0]) for clip in take(clips, np.arange(2, 4))] == [2, 3]
    assert [int(clip[0]) for clip in take(clips, np.array([5, 0]))] == [5, 0]


# -- the cache -------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, count: int = 30, bad: bool = True) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (10, 12, 4), np.uint8)
        pixels[..., 3] = 255
        Image.fromarray(pixels).save(path)
    if bad:
        content = (folder / "a" / "0.png").read_bytes()
        (folder / "a" / "cut.png").write_bytes(content[: len(content) // 2])


def test_images_are_decoded_once(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mapped items equal those in memory, digest included; the second time nothing is decoded."""
    write_folder(tmp_path / "x")
    plain = load_source(str(tmp_path / "x"))
    assert not isinstance(plain.items, np.memmap)
    assert list(own_cache.iterdir()) == [], "what is small is not kept"
    monkeypatch.setattr(cache, "SMALL", 0)
    first = load_source(str(tmp_path / "x"))
    assert isinstance(first.items, np.memmap)
    monkeypatch.setattr(images, "open_image", None)
    second = load_source(str(tmp_path / "x"))
    for found in (first, second):
        assert np.array_equal(found.items, plain.items)
        assert found.items.shape == (30, 10, 12, 3), "the alpha that no image uses is gone"
        assert found.labels == plain.labels
        assert found.notes == plain.notes
        assert found.digest == plain.fingerprint()
        assert {k: v.tolist() for k, v in found.splits.items()} == {k: v.tolist() for k, v in plain.splits.items()}
        assert isinstance(found.rows("train"), np.memmap)
    (folder,) = own_cache.iterdir()
    assert {path.name for path in folder.iterdir()} == {"items.npy", "labels.arrow", "meta.json"}


def test_other_files_or_another_reading_are_another_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALL", 0)
    write_folder(tmp_path / "x")
    assert load_source(str(tmp_path / "x")).items.shape == (30, 10, 12, 3)
    assert load_source(str(tmp_path / "x"), size=6).items.shape == (30, 5, 6, 3)
    Image.new("RGB", (12, 10), (9, 9, 9)).save(tmp_path / "x" / "a" / "new.png")
    assert len(load_source(str(tmp_path / "x")).items) == 31
    changed = tmp_path / "x" / "a" / "new.png"
    Image.new("RGB", (12, 10), (7, 7, 7)).save(changed)
    os.utime(changed, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert (load_source(str(tmp_path / "x")).items == 7).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize("name", ["meta.json", "items.npy"])
def test_a_damaged_cache_is_made_again(
    name: str, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SMALL", 0)
    pictures = tmp_path / "pictures"
    write_folder(pictures, bad=False)
    first = np.array(load_source(str(pictures)).items)
    (folder,) = own_cache.iterdir()
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    assert np.array_equal(load_source(str(pictures)).items, first)


def test_what_fails_leaves_nothing_behind(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALL", 0)
    write_folder(tmp_path / "x")
    old = own_cache / ".killed"
    old.mkdir()
    os.utime(old, (0, 0))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "save", full)
        with pytest.raises(EnvironmentFault, match="No space"):
            load_source(str(tmp_path / "x"))
    assert list(own_cache.iterdir()) == []
    assert len(load_source(str(tmp_path / "x")).items) == 30


def test_another_process_may_be_faster(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALL", 0)
    write_folder(tmp_path / "x")
    true_save = cache.save

    def slower(folder: Path, dataset: Dataset) -> None:
        true_save(folder, dataset)
        if len(list(own_cache.iterdir())) == 1:
            load_source(str(tmp_path / "x"))

    monkeypatch.setattr(cache, "save", slower)
    assert len(load_source(str(tmp_path / "x")).items) == 30
    assert len(list(own_cache.iterdir())) == 1


def test_sounds_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for number in range(22):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.normal(size=100 + number), 8000, subtype="FLOAT")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    plain = load_source(str(tmp_path))
    monkeypatch.setattr(cache, "SMALL", 0)
    first = load_source(str(tmp_path))
    monkeypatch.setattr(sounds, "decode", None)
    second = load_source(str(tmp_path))
    for found in (first, second):
        assert [samples.tobytes() for samples in found.items] == [samples.tobytes() for samples in plain.items]
        assert found.items.rate == 8000
        assert found.digest == plain.fingerprint()
        assert found.notes == plain.notes


def test_long_work_shows_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cache.progress(range(3), "counting", 3, after=-1)) == [0, 1, 2]
    captured = capsys.readouterr()
    assert "counting: " in captured.err
    assert captured.out == ""
    list(cache.progress(range(3), "counting", 3))
    assert capsys.readouterr().err == ""


# -- tables in a stream ----------------------------------------------------------------------------------------------


def long_table(n: int = 3000) -> pa.Table:
    rng = np.random.default_rng(1)
    whole = [float(i) if i < n - 1 else 0.5 for i in range(n)]
    return pa.table({
        "n": rng.integers(0, 1000, n),
        "late": pa.array(whole),
        "mixed": pa.array([str(i % 5) if i < n - 2 else "word" for i in range(n)]),
        "empty": pa.array([None if i < n - 3 else "k" for i in range(n)]),
        "who": rng.integers(0, 50, n),
    })  # fmt: skip


@pytest.mark.parametrize("reading", [{}, {"group": "who"}, {"time": "n"}])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "feather"])
def test_a_streamed_table_is_the_one_in_memory(
    suffix: str, reading: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows in the same order with the same types, though the first block of the file suggests others."""
    table, path = long_table(), tmp_path / f"x.{suffix}"
    if suffix == "csv":
        rows = [",".join(table.column_names)]
        rows += [",".join("" if c is None else f"{c:g}" if isinstance(c, float) else str(c) for c in row.values())
                 for row in table.to_pylist()]  # fmt: skip
        path.write_text("\n".join([*rows, "1,2"]))
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, table.to_pylist())))
    elif suffix == "parquet":
        pa.parquet.write_table(table, path, row_group_size=500)
    else:
        pa.feather.write_feather(table, path)
    plain = load_source(str(path), **reading)
    monkeypatch.setattr(streams, "LARGE", 0)
    monkeypatch.setattr(streams, "BLOCK", 4096)
    monkeypatch.setattr(tables, "BLOCK", 4096)
    monkeypatch.setattr(tables, "LINES", 100)
    first = load_source(str(path), **reading)
    monkeypatch.setattr(streams, "stream", None)
    second = load_source(str(path), **reading)
    for found in (first, second):
        assert found.items.schema.types == plain.items.schema.types
        assert found.items.to_pylist() == plain.items.to_pylist()
        assert {k: v.tolist() for k, v in found.splits.items()} == {k: v.tolist() for k, v in plain.splits.items()}
        assert found.digest == plain.fingerprint()
    assert any("1 of 3,001 rows" in note for note in first.notes) == (suffix == "csv")


def test_decimals_of_a_streamed_column_are_those_of_all_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pieces have two digits each, or whole numbers, or 0.5 beside 2.25, and the last have others."""
    lines = [f"{i % 7}.{i % 90 + 10},{i % 13},{i % 9}.{'5' if i % 2 else '25'},{i}.125" for i in range(2000)]
    lines += [f"{i % 7}.5,{i % 13}.0,{i % 9}.0,{i}.125" for i in range(2000, 2400)]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c,d", *lines]) + "\n")
    plain = written.forms(load_source(str(tmp_path / "x.csv"), whole=True).items)
    assert {name: (form.decimals, form.least) for name, form in plain.items()} == {
        "a": (None, 1), "b": (None, 0), "c": (None, 1), "d": (3, 0)}  # fmt: skip
    monkeypatch.setattr(streams, "LARGE", 0)
    for module in (streams, tables):
        monkeypatch.setattr(module, "BLOCK", 4096)
    assert written.forms(load_source(str(tmp_path / "x.csv"), whole=True).items) == plain


def test_a_broken_stream_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LARGE", -1)
    for name, content in {"x.csv": b"", "y.csv": b"a,b\n1\n1\n", "z.parquet": b"junk", "u.csv": b"a\n\xff\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            load_source(str(tmp_path / name))


# -- encoded data ----------------------------------------------------------------------------------------------------


def test_items_that_stay_on_disk_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    raw = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(700, 6, 5, 3))
    raw[:] = rng.integers(0, 256, raw.shape)
    codec = ImageCodec().fit(raw)
    assert codec.levels == 256
    resident = loader.Items(codec, np.array(raw), CPU)
    monkeypatch.setattr(loader, "SOME", 0)  # encoded in pieces of 256
    pieces = loader.Items(codec, raw, CPU)
    monkeypatch.setattr(loader, "RESIDENT", 0)
    lazy = loader.Items(codec, raw, CPU)
    assert resident.resident is not None
    assert lazy.resident is None
    assert torch.equal(pieces.resident, resident.resident)
    index = torch.randperm(700)[:50]
    assert torch.equal(lazy[index], resident[index])
    assert lazy[lazy.drawn(10_000)].shape == (256, 3, 6, 5)
    streams_of = [loader.Loader(codec.space, items, None, seed=3) for items in (lazy, resident)]
    assert torch.equal(*(stream.batch(690, 0, 20, 20).x for stream in streams_of))


def test_the_image_codec_reads_its_constants_in_pieces() -> None:
    sparse = np.zeros((3000, 2, 2, 1), np.uint8)
    sparse[2999, 0, 0], sparse[1500, 1, 1] = 204, 51
    codec = ImageCodec().fit(sparse)
    assert (codec.unit, codec.levels) == (51, 5)


def test_found_follows_its_items() -> None:
    found = Found("x", Reading(), "k", ["train", "test", None], pa.table({"label": ["a", "b", "c"]}))
    chosen = found.at([2, 0])
    assert chosen.splits == [None, "train"]
    assert chosen.labels["label"].to_pylist() == ["c", "a"]
