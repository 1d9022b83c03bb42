"""Published sets under `$QUINTET_DATA`: each file is checked by its sha256, and nothing is fetched."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from quintet.core.errors import DataError
from quintet.data.archives import zip_entries
from quintet.data.dataset import Dataset, labels_of, take
from quintet.data.recordings import Recordings
from quintet.data.splits import arrange, by_hash, by_name, keys_of, row_keys, stretches
from quintet.modalities.audio import reading as sounds
from quintet.modalities.image.reading import open_image
from quintet.sources.arrays import array_of

FILES: dict[str, dict[str, str]] = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
        "train-labels-idx1-ubyte.gz": "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
        "t10k-images-idx3-ubyte.gz": "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
        "t10k-labels-idx1-ubyte.gz": "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
    },
    "dcss_tiles": {
        "dcss_tiles_nov2015.zip": "b560d6e06b9c44d5b5ebdc91b4e44adf792f4b842aa30b26e6d7e9d004a7697e",
    },
    "fsdd": {"fsdd_wav.zip": "0680e70d0cbcc8e640fc11be5b74a63c1f3920ce9b32a9dee6174072c4e15292"},
    "tinyshakespeare": {"input.txt.gz": "bed00f18e91cda6838950656f0a95e07e0f4dbe8649a4b959f7602a7e53fbc6e"},
    "multi30k": {
        "raw/train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "raw/train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "raw/val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "raw/val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "raw/test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
        "raw/test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    },
    "trec": {
        "TREC.train.all.gz": "cce2c84819f4d0a3e1491bcd9e50513e34e06d8c3fcb08f6ca9925bff4dcd711",
        "TREC.test.all.gz": "cd57b53bc4cc1d29f0be85299e604b7866422823231c3b6330c713bff5d6921c",
    },
    "subj": {"subj.all.gz": "5d9ac695a3036a1534674c4bfa5e7e72891e6db3edfdb029ccaaccfe72c17668"},
    "adult": {
        "adult-train.csv.gz": "c7a2b4716a97f930123e0baf879188d701e798172631a654fc703d4b082907f3",
        "adult-test.csv.gz": "41743e91fe4d25fd353ea754bfdb850444d050bd14aaee06a5be952b6dbfa3ec",
    },
    "california": {
        "california_tabddpm_split.npz": "3ce8bef7c4da8edc2674b76e4dd013f3cc1c4dc2159af0f7803cdcbc64043b3f",
    },
    "churn": {"churn_tabddpm_split.npz": "5db9d4dc9dda09dc5e01da846a6c07d179a7d102de84ed1ec5efb877a5e6fd2d"},
    "density20": {"density20_13sets.zip": "7bc5ec7511d717a53911a0bc1fa144e9c9fa6f4687bc33038be7fd6b48dbeb4b"},
}
HOMES = {
    "mnist": "http://yann.lecun.com/exdb/mnist",
    "dcss_tiles": "https://opengameart.org/content/dungeon-crawl-32x32-tiles",
    "fsdd": "https://github.com/Jakobovski/free-spoken-digit-dataset",
    "tinyshakespeare": "https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare",
    "multi30k": "https://github.com/multi30k/dataset",
    "trec": "https://github.com/harvardnlp/sent-conv-torch",
    "subj": "https://github.com/harvardnlp/sent-conv-torch",
    "adult": "https://archive.ics.uci.edu/dataset/2/adult",
    "california": "https://github.com/yandex-research/tab-ddpm",
    "churn": "https://github.com/yandex-research/tab-ddpm",
    "density20": "https://github.com/UCLA-StarAI/Density-Estimation-Datasets",
}
PARTS = ("train", "val", "test")


def data_root() -> Path:
    """`$QUINTET_DATA`, or the user's cache."""
    return Path(os.environ.get("QUINTET_DATA") or Path.home() / ".cache" / "quintet")


def named_file(folder: str, name: str) -> Path:
    """A file of a named set; its digest is checked."""
    path = data_root() / folder / name
    if not path.is_file():
        raise DataError(
            "file not found",
            where=str(path),
            why=f"{folder} is a named set, which is never fetched silently",
            fix=f"put {name} there ({HOMES[folder]}), or point QUINTET_DATA at the folder that holds {folder}/",
        )
    digest, expected = hashlib.sha256(path.read_bytes()).hexdigest(), FILES[folder][name]
    if digest != expected:
        why = f"sha256 {digest}, expected {expected}"
        raise DataError("the file is not the published one", where=str(path), why=why, fix=f"see {HOMES[folder]}")
    return path


def unpack(folder: str, name: str) -> bytes:
    return gzip.decompress(named_file(folder, name).read_bytes())


def hashed_validation(names: list[str], keys: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(order, splits) where a tenth of the published train split, by hash, is validation."""
    order, splits, _ = arrange(by_name(names, keys))
    return order, splits


# -- images ----------------------------------------------------------------------------------------------------------


def mnist() -> Dataset:
    x_train, y_train, x_test, y_test = (read_idx(unpack("mnist", name)) for name in FILES["mnist"])
    images, y = np.concatenate([x_train, x_test])[..., None], np.concatenate([y_train, y_test]).astype(np.int64)
    return Dataset("mnist", "image", images, stretches([50_000, 10_000, 10_000]), labels_of(y))


def read_idx(raw: bytes) -> np.ndarray:
    """An array in the idx format: magic 0 0 8 ndim, big-endian sizes, bytes."""
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3]))
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def sprites() -> Dataset:
    """The 32x32 images of the archive, as RGBA; the label is the top folder."""
    images, labels, contents = [], [], []
    for entry in zip_entries(named_file("dcss_tiles", "dcss_tiles_nov2015.zip")):
        if entry.suffix != ".png":
            continue
        content = entry.read()
        image = open_image(content)
        if image.size == (32, 32):
            images.append(np.asarray(image.convert("RGBA")))
            labels.append(entry.name.split("/")[0])
            contents.append(content)
    order, splits, _ = arrange(by_hash(keys_of(contents)))
    return Dataset("sprites", "image", np.stack(images)[order], splits, labels_of(np.array(labels)[order]))


# -- audio -----------------------------------------------------------------------------------------------------------


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def spoken_digits() -> Dataset:
    """Names are digit_speaker_index.wav: indices 0-4 are test, 5-9 validation, the rest train."""
    samples, labels, speakers, part = [], [], [], []
    for entry in zip_entries(named_file("fsdd", "fsdd_wav.zip")):
        digit, speaker, index = entry.stem.split("_")
        samples.append(sounds.decode(entry.read(), 8000))
        labels.append(int(digit))
        speakers.append(speaker)
        part.append(2 if int(index) < 5 else 1 if int(index) < 10 else 0)
    order, splits, _ = arrange(np.array(part))
    words = [DIGITS[digit] for digit in labels]
    table = pa.table({"label": labels, "speaker": speakers, "word": words}).take(pa.array(order))
    return Dataset("spoken_digits", "audio", Recordings([samples[i] for i in order], 8000), splits, table)


# -- text ------------------------------------------------------------------------------------------------------------


def tinyshakespeare() -> Dataset:
    text = unpack("tinyshakespeare", "input.txt.gz").decode()
    cut = int(len(text) * 0.9)
    splits = {"train": np.array([0]), "validation": np.array([1]), "test": np.array([1])}
    return Dataset("tinyshakespeare", "text", [text[:cut], text[cut:]], splits)


def multi30k() -> Dataset:
    """German sentences; the English ones are a column."""
    columns: dict[str, list[str]] = {"de": [], "en": []}
    counts: list[int] = []
    for part in ("train", "val", "test_2016_flickr"):
        for language, sentences in columns.items():
            sentences += unpack("multi30k", f"raw/{part}.{language}.gz").decode().splitlines()
        counts.append(len(columns["de"]) - sum(counts))
    labels = pa.table({"english": [line.strip() for line in columns["en"]]})
    return Dataset("multi30k", "text", [line.strip() for line in columns["de"]], stretches(counts), labels)


QUESTIONS = ("description", "entity", "abbreviation", "human", "location", "number")
SENTENCES = ("subjective", "objective")


def _labelled_lines(folder: str, names: Mapping[str, str], classes: tuple[str, ...]) -> tuple[Any, ...]:
    """(texts, labels, names of splits) of files whose lines begin with the number of a class."""
    lines = [(split, *line.split(" ", 1)) for split, file in names.items()
             for line in unpack(folder, file).decode("latin-1").split("\n") if line.strip()]  # fmt: skip
    return [line[2].strip() for line in lines], [classes[int(line[1])] for line in lines], [line[0] for line in lines]


def trec() -> Dataset:
    texts, labels, names = _labelled_lines(
        "trec", {"train": "TREC.train.all.gz", "test": "TREC.test.all.gz"}, QUESTIONS
    )
    order, splits = hashed_validation(names, keys_of(text.encode() for text in texts))
    return Dataset("trec", "text", [texts[i] for i in order], splits, labels_of(np.array(labels)[order]))


def subj() -> Dataset:
    texts, labels, _ = _labelled_lines("subj", {"train": "subj.all.gz"}, SENTENCES)
    order, splits, _ = arrange(by_hash(keys_of(text.encode() for text in texts)))
    return Dataset("subj", "text", [texts[i] for i in order], splits, labels_of(np.array(labels)[order]))


# -- tables ----------------------------------------------------------------------------------------------------------

ADULT = ("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
         "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income")  # fmt: skip
CALIFORNIA = ("median_income", "house_age", "average_rooms", "average_bedrooms", "population", "average_occupancy",
              "latitude", "longitude")  # fmt: skip
CHURN_NUMBERS = ("credit_score", "age", "tenure", "balance", "products", "estimated_salary")
CHURN_KINDS = ("geography", "gender", "has_card", "active")


def adult() -> Dataset:
    """The published test split; a tenth of train, by hash, is validation. `?` is a missing cell."""
    parts = []
    for name in ("adult-train.csv.gz", "adult-test.csv.gz"):
        text = unpack("adult", name).replace(b", ", b",").replace(b"K.\n", b"K\n")
        parts.append(pyarrow.csv.read_csv(
            io.BytesIO(text), pyarrow.csv.ReadOptions(column_names=list(ADULT)),
            convert_options=pyarrow.csv.ConvertOptions(null_values=["?"], strings_can_be_null=True)))  # fmt: skip
    table = pa.concat_tables(parts)
    names = ["train"] * parts[0].num_rows + ["test"] * parts[1].num_rows
    order, splits = hashed_validation(names, row_keys(table))
    return Dataset("adult", "table", take(table, order), splits)


def _packed(folder: str) -> dict[str, list[np.ndarray]]:
    """name -> its train, validation and test arrays, of a .npz with names like X_num_train."""
    path = named_file(folder, f"{folder}_tabddpm_split.npz")
    arrays = {entry.stem: array_of(entry, str(path)) for entry in zip_entries(path)}
    stems = {name.removesuffix("_train") for name in arrays if name.endswith("_train")}
    return {stem: [arrays[f"{stem}_{part}"] for part in PARTS] for stem in sorted(stems)}


def _whole_numbers(values: np.ndarray) -> np.ndarray:
    """Integers as integers, whatever type they are stored in."""
    return values.astype(np.int64) if (values == np.round(values)).all() else values


def california() -> Dataset:
    """Eight measurements of a block and its median house value, in 100,000 dollars."""
    packed = _packed("california")
    x, y = np.concatenate(packed["X_num"]), np.concatenate(packed["y"])
    columns = {name: _whole_numbers(x[:, i]) for i, name in enumerate(CALIFORNIA)} | {"median_house_value": y}
    return Dataset("california", "table", pa.table(columns), stretches([len(part) for part in packed["y"]]))


def churn() -> Dataset:
    """Customers of a bank; `exited` is the target."""
    packed = _packed("churn")
    x, kinds, y = (np.concatenate(packed[name]) for name in ("X_num", "X_cat", "y"))
    columns: dict[str, np.ndarray] = {name: _whole_numbers(x[:, i]) for i, name in enumerate(CHURN_NUMBERS)}
    columns |= {name: kinds[:, i] if i == 0 else kinds[:, i].astype(np.int64) for i, name in enumerate(CHURN_KINDS)}
    notes = ("the published file holds estimated_salary twice: the second is left out",)
    splits = stretches([len(part) for part in packed["y"]])
    return Dataset("churn", "table", pa.table(columns | {"exited": y}), splits, notes=notes)


def density(name: str) -> Callable[[], Dataset]:
    """A binary density set: columns v0, v1, ... of 0 and 1."""

    def load() -> Dataset:
        path = named_file("density20", "density20_13sets.zip")
        members = {entry.name: entry for entry in zip_entries(path)}
        rows = [np.loadtxt(io.BytesIO(members[f"{name}/{name}.{part}.data"].read()), np.int64, delimiter=",", ndmin=2)
                for part in ("train", "valid", "test")]  # fmt: skip
        values = np.concatenate(rows)
        table = pa.table({f"v{i}": np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])})
        return Dataset(f"density20/{name}", "table", table, stretches([len(part) for part in rows]))

    return load
