"""Published sets under `$QUINTET_DATA`: each file is checked by its sha256, and nothing is fetched."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quintet.core.errors import DataError
from quintet.data.dataset import Dataset
from quintet.data.splits import arrange, by_name

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


@dataclass(frozen=True)
class Source:
    """A named set: its kind of data, what it is, known without loading it, and how it is loaded. `folder`: of its
    files, if it needs some.
    """

    load: Callable[[], Dataset]
    modality: str
    items: int
    about: str
    columns: tuple[str, ...] = ()
    folder: str = ""

    def __call__(self) -> Dataset:
        return replace(self.load(), about=self.about)

    @property
    def missing(self) -> str:
        """The first file that is not there, or nothing."""
        paths = [data_root() / self.folder / name for name in FILES.get(self.folder, {})]
        return next((str(path) for path in paths if not path.is_file()), "")


def data_root() -> Path:
    """`$QUINTET_DATA`, or the user's cache."""
    return Path(os.environ.get("QUINTET_DATA") or Path.home() / ".cache" / "quintet")


def named_file(folder: str, name: str) -> Path:
    """A file of a named set; its digest is checked."""
    path = data_root() / folder / name
    if not path.is_file():
        raise DataError(
            "this file of a named data set is missing",
            where=str(path),
            why=f"quintet never downloads a named data set such as {folder} by itself",
            fix=f"get {name} from {HOMES[folder]} and put it there, or set QUINTET_DATA to the folder of {folder}/",
        )
    digest, expected = hashlib.sha256(path.read_bytes()).hexdigest(), FILES[folder][name]
    if digest != expected:
        why = f"its sha256 is {digest}, but that of the published file is {expected}"
        raise DataError(
            "the file differs from the published one",
            where=str(path),
            why=why,
            fix=f"get the file from {HOMES[folder]} again",
        )
    return path


def unpack(folder: str, name: str) -> bytes:
    return gzip.decompress(named_file(folder, name).read_bytes())


def hashed_validation(names: list[str], keys: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(order, splits) where a tenth of the published train split, by hash, is validation."""
    order, splits, _ = arrange(by_name(names, keys))
    return order, splits
