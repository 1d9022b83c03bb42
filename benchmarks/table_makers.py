"""Train one maker of rows on the CSV files of a folder for so many processor seconds, and write rows that it draws.

    python benchmarks/table_makers.py MAKER FOLDER --rows N --out ROWS.csv [--seconds 90] [--seed 0] [--config JSON]

MAKER is a family of quintet, or mostlyai-engine, ctgan or tvae. Each runs in a process of its own, on one thread, whose
clock is the processor's: what other programs take is nobody's loss, and all have as many seconds for everything that
training is, reading the rows apart. The last line that is printed are the figures as JSON: processor seconds to fit
and to sample 1,000 rows.

quintet has train.csv to learn from and validation.csv to look at. The others, which part their rows themselves or not
at all, are given both files to learn from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

time.perf_counter = time.process_time  # before quintet is imported, whose budgets are seconds of this clock

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

Draw = Callable[[int], pd.DataFrame]
"""How many rows -> the rows."""
Made = tuple[Draw, dict[str, Any]]
"""With what there is to say of the training."""


def frame(folder: Path, *parts: str) -> pd.DataFrame:
    return pd.concat([pd.read_csv(folder / f"{part}.csv", keep_default_na=False, na_values=[""]) for part in parts])


def ours(family: str, folder: Path, seconds: float, seed: int, config: dict[str, Any]) -> Made:
    """A family at its defaults, reading the folder."""
    import quintet
    from quintet.modalities.table.modality import csv

    model = quintet.train(family, data=str(folder), budget=seconds, seed=seed, config=config,
                          runs=tempfile.mkdtemp())  # fmt: skip

    def draw(n: int) -> pd.DataFrame:
        out = folder / f"{family}-drawn.csv"
        out.write_bytes(csv(model.fitted.draw(n, seed=seed + 1), {}))
        return frame(folder, out.stem)

    return draw, {"steps": model.config.steps}


class Until:
    """In the place of tqdm: epochs until a moment of the processor's clock."""

    end = 0.0

    def __init__(self, epochs: Any, **options: Any) -> None:
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        while time.process_time() < Until.end:
            yield self.done
            self.done += 1

    def set_description(self, text: str) -> None: ...


def sdv(name: str, folder: Path, seconds: float, seed: int) -> Made:
    """CTGAN or TVAE at their defaults, but for the number of epochs. They know no nulls: of a category it is a word, of
    a number the median.
    """
    import ctgan
    import ctgan.synthesizers.ctgan as its_ctgan
    import ctgan.synthesizers.tvae as its_tvae

    its_ctgan.tqdm = its_tvae.tqdm = Until
    torch.manual_seed(seed)
    np.random.seed(seed)
    rows = frame(folder, "train", "validation")
    words = [name for name in rows if not pd.api.types.is_numeric_dtype(rows[name]) or rows[name].dtype == bool]
    rows[words] = rows[words].fillna("(null)").astype(str)
    rows = rows.fillna(rows.median(numeric_only=True))
    maker = {"ctgan": ctgan.CTGAN, "tvae": ctgan.TVAE}[name](enable_gpu=False)
    Until.end = time.process_time() + seconds
    maker.fit(rows, words)
    return lambda n: maker.sample(n).replace("(null)", np.nan), {}


def mostlyai(folder: Path, seconds: float, seed: int) -> Made:
    """TabularARGN at its defaults; it stops before its seconds are over if its own validation says so."""
    import mostlyai.engine._tabular.training as its
    from mostlyai.engine import TabularARGN

    its.time = SimpleNamespace(time=time.process_time, sleep=time.sleep)
    rows = frame(folder, "train", "validation").reset_index(drop=True)
    began = time.process_time()
    maker = TabularARGN(max_training_time=seconds / 60, device="cpu", random_state=seed, verbose=0)
    maker.fit(rows)
    return lambda n: maker.sample(n), {"early": time.process_time() - began < 0.9 * seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", default="{}", help="JSON sections over quintet's defaults, to try something")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    own = args.folder, args.seconds, args.seed
    makers: dict[str, Callable[[], Made]] = {
        "ctgan": lambda: sdv("ctgan", *own),
        "tvae": lambda: sdv("tvae", *own),
        "mostlyai-engine": lambda: mostlyai(*own),
    }
    began = time.process_time()
    family = partial(ours, args.maker, *own, json.loads(args.config))
    draw, facts = makers.get(args.maker, family)()
    fit = time.process_time() - began
    began = time.process_time()
    draw(1000)
    facts |= {"fit": round(fit, 1), "sample": round(time.process_time() - began, 2)}
    draw(args.rows).to_csv(args.out, index=False)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
