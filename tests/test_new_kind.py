"""A new kind of data is a folder and one word of the registry: dice, which quintet does not know, are added to a copy
of it, and are read, trained on, sampled and scored by what everything else uses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import house
import pytest

from quintet.modalities.cards import Door
from quintet.registry import MODALITIES
from quintet.studio import words

OPTIONS = """
from pydantic import Field
from quintet.core.settings import Settings
from quintet.modalities import Options

class DiceReading(Settings):
    sides: int = Field(6, ge=2, le=9, description="dice: how many sides they have")

OPTIONS = Options(DiceReading, known="dice: how many rolls", extras={"croupier": "honest dice"})
"""

MODALITY = """
from dataclasses import dataclass
import numpy as np
import torch
from quintet.core.codec import Codec
from quintet.core.errors import DataError
from quintet.data.dataset import Dataset
from quintet.data.splits import arrange, assign, keys_of
from quintet.modalities.cards import Card
from quintet.modalities.dice.options import DiceReading
from quintet.modalities.protocol import Format, Modality
from quintet.modalities.representations import Symbols

@dataclass
class Rolls:
    values: np.ndarray

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Rolls(self.values[index])

    def __add__(self, other):
        return Rolls(np.concatenate([self.values, other.values]))

    def contents(self):
        return (row.tobytes() for row in self.values)

class DiceCodec(Codec):
    name, representations, measure = "dice", (Symbols,), "mass"

    def fit(self, items):
        return self.of(items.values.shape[1], int(items.values.max()))

    def of(self, rolls, sides):
        self.dims, self.sides = rolls, sides
        self.representation.fit((rolls,), sides)
        return self

    def encode(self, items):
        return self.representation.encode(torch.from_numpy(items.values.astype(np.int64) - 1))

    def decode(self, x):
        return Rolls(self.representation.decode(x).numpy().astype(np.uint8) + 1)

    def to_json(self):
        return {"rolls": self.dims, "sides": self.sides}

    @classmethod
    def from_json(cls, data):
        return cls().of(data["rolls"], data["sides"])

class DiceModality(Modality):
    name, things, previewed, codec, door = "dice", "rolls", 3, DiceCodec, "tables"
    sets, suffixes = {}, (".dice",)
    formats = {".dice": Format(lambda items, note: "".join(
        "".join(map(str, row)) + chr(10) for row in items.values.tolist()).encode())}

    def read(self, entries, found):
        values = np.array([[int(roll) for roll in line] for line in entries[0].read().decode().split()], np.uint8)
        if values.max() > found.reading.of(DiceReading).sides:
            raise DataError("a die has fewer sides", where=found.where)
        part, how = assign(keys_of(Rolls(values).contents()), found)
        order, splits, few = arrange(part)
        return Dataset("", self.name, Rolls(values[order]), splits, notes=(*how, *few))

    def owns(self, items):
        return isinstance(items, Rolls)

    def contents(self, items):
        return items.contents()

    def halves(self, first, second):
        return Rolls(np.concatenate([first.values[:, :2], second.values[:, 2:]], 1))

    def raw(self, items, codec, column, reading):
        return items if isinstance(items, Rolls) else Rolls(np.array(items, np.uint8))

    def stored(self, data, folder):
        return None

    def dims(self, items):
        return items.values.shape[1]

    def preview(self, items, captions):
        return b""

    def cards(self, items, captions):
        return [Card("text/plain", row.tobytes()) for row in items.values]

    def shown(self, items, codec, reference=None):
        return {"kind": "text", "items": []}

    def pairs(self, samples, near, distances, codec):
        return {"kind": "text", "items": []}

MODALITY = DiceModality()
"""

SESSION = """
import sys
import numpy as np
import quintet
from quintet.operations.checking import EXTRAS
from quintet.cli.main import main
from quintet.operations.requests import CompleteRequest

assert "dice: how many rolls" in CompleteRequest.model_fields["known"].description
assert EXTRAS["croupier"] == "honest dice"
train = ["train", "autoregressive", "--data", "rolls.dice", "--steps", "2", "--preset", "tiny", "--runs", "runs"]
assert main([*train, "--data.sides", "4"]) == 3, "a five is none of four sides"
assert main([*train, "--data.sides", "12"]) == 3, "at most 9"
assert main([*train, "--data.slides", "4"]) == 3, "no such option"
assert main([*train, "--data.sides", "5", "--run", "one"]) == 0
assert main(["sample", "one", "--runs", "runs", "-n", "3", "-o", "new.dice"]) == 0
assert [len(line.strip()) for line in open("new.dice")] == [4, 4, 4]
assert main(["score", "one", "--runs", "runs", "--data", "rolls.dice", "-o", "scores.csv"]) == 0
assert main(["data", "rolls.dice"]) == 0
model = quintet.load("one", runs="runs")
assert model.config.data.sides == 5
rolls = model.sample(2, seed=1)
assert rolls.values.shape == (2, 4) and rolls.values.max() <= 5
assert np.isfinite(model.log_prob([[1, 2, 3, 4]]).values).all()
"""


def with_dice(package: Path, options: str, modality: str) -> None:
    """A copy of the package with a folder for dice."""
    shutil.copytree(house.ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = package / "modalities" / "dice"
    folder.mkdir()
    for name, content in (("__init__", ""), ("options", options), ("modality", modality)):
        (folder / f"{name}.py").write_text(content)


def name_it(package: Path) -> None:
    """The word in the registry."""
    registry = package / "modalities" / "__init__.py"
    line = '    "series",'
    assert line in registry.read_text()
    registry.write_text(registry.read_text().replace(line, f'{line}\n    "dice",'))


def roll(folder: Path) -> None:
    rolls = (f"{1 + i % 5}{1 + i // 5 % 5}{1 + i // 25 % 5}{1 + i * i % 5}\n" for i in range(120))
    (folder / "rolls.dice").write_text("".join(rolls))


@pytest.mark.parametrize("options", ["Options()", "Options(Settings)"])
def test_a_kind_of_data_may_have_no_options(options: str, tmp_path: Path) -> None:
    package, head = tmp_path / "quintet", OPTIONS.partition("class DiceReading")[0]
    modality = MODALITY.replace("from quintet.modalities.dice.options import DiceReading\n", "")
    with_dice(package, f"{head}OPTIONS = {options}\n", modality.replace("found.reading.of(DiceReading).sides", "6"))
    name_it(package)
    roll(tmp_path)
    session = 'from quintet.cli.main import main; assert main(["data", "rolls.dice"]) == 0'
    done = subprocess.run([sys.executable, "-c", session], cwd=tmp_path, capture_output=True, text=True, timeout=200,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_of_data_is_behind_a_door_of_the_start_page() -> None:
    """Each door has its words and its picture, which pages ask for by its name."""
    doors = get_args(Door)
    assert {modality.door for modality in MODALITIES.values()} <= set(doors)
    for language in ("en", "zh"):
        assert all(f"home.door.{door}" in words.catalogue(language) for door in doors)
    assert all((house.ROOT / "studio" / "static" / f"{door}.svg").is_file() for door in doors)


@pytest.mark.parametrize("named", [True, False])
def test_a_new_kind_of_data_is_a_folder_and_one_word(named: bool, tmp_path: Path) -> None:
    """Without the word, its folder alone changes nothing: the files are of no kind that is known."""
    package = tmp_path / "quintet"
    with_dice(package, OPTIONS, MODALITY)
    if named:
        name_it(package)
    roll(tmp_path)
    session = SESSION if named else 'from quintet.cli.main import main; assert main(["data", "rolls.dice"]) == 3'
    done = subprocess.run([sys.executable, "-c", session], cwd=tmp_path, capture_output=True, text=True, timeout=200,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["runs.config", "data.dataset", "sources.load", "operations.requests"])
def test_options_of_single_kinds_of_data_are_declared_in_their_folders(module: str) -> None:
    from quintet.modalities.options import OPTIONS

    options = {name for kind in OPTIONS.values() for name in kind.reading.model_fields}
    assert {"size", "fit", "scale", "unit", "rate", "types", "window"} <= options
    assert not options & house.declared(module)
    assert options & house.declared("modalities.series.options") == {"window"}
