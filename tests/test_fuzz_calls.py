"""Calls that make no sense: command lines, Python calls, configurations and run folders, made at random from a seed.

Each either succeeds or is refused with one of quintet's own errors and exit codes. An error in quintet itself, any
other exception, or more than 20 seconds is a fault. `make test` tries some; `make test-slow` more than 2,000.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import random
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import soundfile
import torch
import yaml
from PIL import Image

import quintet
from quintet.cli.main import app, main
from quintet.cli.verbs import SETTINGS

LIMIT = 20
"""Seconds from which a call hangs."""
MEMORY = 4e9
"""Bytes from which it takes too much."""
CODES = (0, 2, 3, 4, 5)


class Hang(BaseException):
    """Not an Exception, so that nothing on the way takes it for an error."""


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- what there is to work on ------------------------------------------------------------------------------------------

TABLE = {
    "a": [math.sin(i) for i in range(60)],
    "b": [i % 7 for i in range(60)],
    "c": [("x", "y", "z")[i % 3] for i in range(60)],
}
TEXTS = [f"the {'red' if i % 2 else 'blue'} fox {i % 5}" for i in range(60)]
PICTURES = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with files of all kinds and tiny runs of all families, where the tests work."""
    root = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(root)
        patch.setenv("QUINTET_CACHE", str(root / "cache"))
        pd.DataFrame(TABLE).to_csv("table.csv", index=False)
        pd.DataFrame({"other": [1, 2, 3], "names": ["p", "q", None]}).to_csv("other.csv", index=False)
        Path("texts.txt").write_text("\n".join(TEXTS) + "\n")
        Path("empty.csv").touch()
        Path("empty.txt").touch()
        Path("notes.bin").write_bytes(bytes(range(256)))
        np.savez("pictures.npz", images=PICTURES, label=np.arange(40) % 3)
        Path("sounds").mkdir()
        for i in range(24):
            soundfile.write(f"sounds/{i}.wav", np.sin(np.arange(800) * (0.1 + i / 100)), 8000)
        Image.fromarray(PICTURES[0]).save("mask.png")
        Path("settings.yaml").write_text("model:\n  width: 16\n")
        for name, family, data, given in RUNS:
            quintet.train(
                family,
                data=Path(data) if "." in data or data == "sounds" else data,
                run=name,
                steps=2,
                preset="tiny",
                **given,
            )
        yield root


RUNS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("flow", "flow", "table.csv", {}),
    ("mixed", "autoregressive", "table.csv", {"condition": "c", "target": "a,b"}),
    ("words", "autoregressive", "texts.txt", {}),
    ("pictures", "vae", "pictures.npz", {"condition": "label"}),
    ("clouds", "diffusion", "pictures.npz", {}),
    ("sounds-run", "vae", "sounds", {}),
    ("adversary", "gan", "moons", {}),
]
NAMES = [name for name, *_ in RUNS]
FILES = [
    "table.csv",
    "other.csv",
    "texts.txt",
    "empty.csv",
    "empty.txt",
    "notes.bin",
    "pictures.npz",
    "sounds",
    "mask.png",
    "settings.yaml",
    "runs",
    "runs/flow",
    "runs/flow/config.yaml",
    "nowhere.csv",
]

# -- command lines -----------------------------------------------------------------------------------------------------

HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "3",
    "1.5",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "99999999999999999999",
    "1e9",
    "0x10",
    "True",
    "none",
    "null",
    "[]",
    "{}",
    "{'a': 1}",
    "a,b",
    ",",
    "a,,b",
    "=",
    "--",
    "-",
    "-x",
    "--json=3",
    "\udcff",
    "\x00",
    "é█\n",
    "z" * 5000,
    "../..",
    "~",
    "%s%n",
    "flow",
    "vae",
    "label",
    "c",
    "🙂",
    "a=category,b=decimal",
    "a=nothing",
    "(((",
    "x{99999999}",
    "1,2,3",
    "3s",
    "top",
    "-9223372036854775809",
]
OUTPUTS = [
    "out.png",
    "out.csv",
    "out.jsonl",
    "out.npz",
    "out.txt",
    "out.wav",
    "out.parquet",
    "out.html",
    "out.pdf",
    "out",
    "out/",
    "",
    ".",
    "..",
    ".csv",
    "runs",
    "table.csv/x.csv",
    "/proc/x.csv",
    "/proc/x.png",
    "/proc/x.txt",
    "o" * 300 + ".csv",
    "\udcff.csv",
    "a\x00b.csv",
    "-",
    "out.csv.gz",
    "OUT.PNG",
]
LONG = {
    "--budget": ["0", "-1s", "nan", "inf", "1e400", "soon", "", "1 s 2", "0.3s"],
    "--steps": ["0", "-1", "nan", "1.5", "", "2", "two", "1e400"],
}
"""Where a large value means a long training, others are tried."""
GOOD: dict[str, list[str]] = {
    "--families": ["flow", "vae", "gan,flow"],
    "--split": ["test", "validation", "train", "all"],
    "--seed": ["1"],
    "-n": ["2"],
    "--samples": ["20"],
    "--preset": ["tiny"],
    "--condition": ["x", "1", "label", "c"],
    "--target": ["a", "c", "a,b", "label"],
    "--features": ["pca", "learnt", "inception"],
    "--known": ["top", "a", "0.01s", "mask.png"],
}
FIELDS = [
    "model.width",
    "model.depth",
    "model.latent",
    "model.kind",
    "model.heads",
    "model.dropout",
    "training.lr",
    "training.batch_size",
    "training.optimiser",
    "training.select",
    "training.betas",
    "training.sample_every",
    "training.micro_batch",
    "training.patience",
    "sampling.temperature",
    "sampling.top_k",
    "sampling.top_p",
    "sampling.steps",
    "sampling.guidance",
    "sampling.beams",
    "sampling.solver",
    "data.size",
    "data.split",
    "data.fit",
    "data.types",
    "data.unit",
    "data.rate",
    "data.group",
    "data.time",
    "data.scale",
    "coding.block",
    "coding.representation",
    "coding.tokens",
    "coding.bins",
    "nothing.x",
    "model.",
    "model.nothing",
    "model.width.x",
]
VERBS = [name for name in app if not name.startswith("-") and name not in ("serve", "studio")]  # which end by a signal
OFTEN = ["sample", "score", "complete", "reconstruct", "interpolate", "encode", "inspect", "data", "train"] * 3


def options_of(verb: str) -> list[tuple[str, bool]]:
    """(name, whether it takes a value) of each option of a verb, as the program itself declares them."""
    out = []
    for argument in app[verb].assemble_argument_collection():
        names = [name for name in argument.names if name.startswith("-")]
        out += [(name, argument.hint is not bool) for name in names]
    return out


def command_line(rng: random.Random) -> list[str]:
    verb = rng.choice([*VERBS, *OFTEN])
    words = [verb]
    match verb:
        case "train":
            words += [rng.choice(["flow", "vae", "gan", "autoregressive", "diffusion", "masked_diffusion"])]
            words += ["--data", rng.choice(["moons", *FILES]), "--preset", "tiny", "--steps", "2"]
            words += ["--dry-run"] * (rng.random() < 0.7)
        case "compare":
            words += [rng.choice(["moons", *FILES, *NAMES])]
            words += ["--steps", "2", "--samples", "20", "--preset", "tiny", "--families", "flow"]
        case "evaluate":
            words += [rng.choice(NAMES), "--samples", "20"]
        case "completion":
            words += ["bash"]
        case "data" | "recommend":
            words += [rng.choice(["moons", *FILES])]
        case "runs" | "doctor":
            pass
        case _:
            words += [rng.choice(NAMES)]
    if len(words) > 1 and rng.random() < 0.2:
        words[1] = rng.choice(HOSTILE + FILES)
    if rng.random() < 0.05:
        words += [rng.choice(HOSTILE)]
    options = options_of(verb)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        name, valued = rng.choice(options)
        words += [name]
        if valued:
            words += [value(name, rng)]
    for _ in range(rng.choice([0, 0, 1, 2]) if SETTINGS.get(verb) or rng.random() < 0.1 else 0):
        words += [f"--{rng.choice(FIELDS)}", rng.choice(HOSTILE)]
    return words


def value(name: str, rng: random.Random) -> str:
    if name in ("-o", "--output"):
        return rng.choice(OUTPUTS)
    if name in LONG:
        return rng.choice(LONG[name])
    pools = [HOSTILE, HOSTILE, FILES, NAMES, GOOD.get(name, HOSTILE)]
    return rng.choice(rng.choice(pools))


def said(words: list[str]) -> str | None:
    """What is wrong with how the program takes these words; None: nothing."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        fault, code = attempt(lambda: main(words))
    err.flush()
    text = err.buffer.getvalue().decode("utf-8", "replace")  # type: ignore[attr-defined]
    if fault:
        return fault
    if code not in CODES or "Traceback" in text or "in quintet itself" in text:
        return f"exit {code}: {text[-1500:]}"
    return None


def attempt(call: Callable[[], Any]) -> tuple[str | None, Any]:
    """(the fault or None, what was returned)."""
    try:
        with warnings.catch_warnings(), within(LIMIT):
            warnings.simplefilter("ignore")
            return None, call()
    except quintet.QuintetError:
        return None, None
    except Hang:
        return f"more than {LIMIT} s\n{traceback.format_exc()[-1500:]}", None
    except (Exception, SystemExit):
        return traceback.format_exc()[-1500:], None


# -- Python calls ------------------------------------------------------------------------------------------------------


def things(rng: random.Random) -> Any:
    """Something that a call is not meant to get, or might."""
    nan, array = float("nan"), np.arange(6.0).reshape(2, 3)
    return rng.choice(
        [
            None,
            True,
            0,
            -1,
            1,
            3,
            2.5,
            nan,
            float("inf"),
            10**30,
            -(10**30),
            2**63,
            1j,
            "",
            "x",
            "\udcff",
            "\x00",
            "3",
            "word " * 500,
            b"x",
            [],
            [[]],
            {},
            (),
            set(),
            {1, 2},
            [None],
            [nan],
            ["x", 3],
            ["x"],
            [1, 2],
            [1, "x", None],
            "nowhere",
            {"a": 1},
            {"a": [1, 2], "b": [1]},
            {"a": [], "b": [], "c": []},
            {"zzz": [1]},
            {1: 2},
            {"a": "x", "b": "y"},
            [{"a": 1.0, "b": 2, "c": "q"}],
            [{"a": "text", "b": None, "c": 3}],
            object(),
            object,
            len,
            lambda: 1,
            range(3),
            iter([1, 2]),
            Path("nowhere"),
            Path("table.csv"),
            Path("mask.png"),
            Path("."),
            date(2020, 1, 1),
            slice(2),
            ...,
            array,
            array * nan,
            np.zeros(0),
            np.zeros((0, 8, 8, 1)),
            np.zeros((2, 8, 8)),
            np.full((2, 8, 8, 1), nan),
            np.zeros((2, 5, 5, 3)),
            np.array("x"),
            np.array([object()]),
            np.array(["x", "y"]),
            np.float32(2),
            np.int64(3),
            np.zeros((2, 2, 2, 2, 2)),
            torch.zeros(2, 3),
            torch.zeros(0),
            torch.full((2, 3), nan),
            torch.zeros(2, 10**5),
            torch.tensor(3),
            torch.zeros(2, 8, 8, dtype=torch.complex64),
            torch.zeros(4, dtype=torch.bool),
            torch.zeros(2, 3, dtype=torch.bfloat16),
            np.zeros((1, 10**6)),
            np.datetime64("2020-01-01"),
            pd.DataFrame(),
            pd.DataFrame({"other": [1, 2]}),
            pd.DataFrame({"a": ["x"], "b": ["y"], "c": [3]}),
            pd.DataFrame(TABLE),
            pd.DataFrame(TABLE).iloc[0],
            pd.Series([1, 2]),
            pd.Series(["x", None]),
            pd.DataFrame({"a": [object()], "b": [[1]], "c": [{}]}),
            pl.DataFrame(TABLE),
            pl.Series(["x"]),
            pl.DataFrame(),
            pd.DataFrame({"a": [1.0, nan], "b": [None, None], "c": ["x", None]}),
            pl.LazyFrame(TABLE),
            pa.table(TABLE),
            pa.array([1, None]),
            pa.table({}),
            Image.new("RGB", (3, 5)),
            [Image.new("L", (8, 8))],
            Image.new("F", (8, 8)),
            [np.zeros(5), np.zeros(3)],
            [np.zeros((2, 2))],
            [np.zeros(0)],
            [np.full(9, nan)],
            TEXTS,
            PICTURES[:2, ..., None],
        ]
    )


def usual(name: str) -> dict[str, Any]:
    """Arguments of the model's methods that make sense, by the name of the run."""
    items: Any = {
        "flow": TABLE,
        "mixed": {key: TABLE[key] for key in ("a", "b")},
        "words": TEXTS[:3],
        "pictures": PICTURES[:3, ..., None],
        "clouds": PICTURES[:3, ..., None],
        "sounds-run": [np.sin(np.arange(800.0))],
        "adversary": np.zeros((3, 2)),
    }[name]
    condition = {"mixed": "x", "pictures": 1}.get(name)
    return {
        "items": items,
        "first": items,
        "last": items,
        "n": 2,
        "condition": condition,
        "prompts": "the",
        "prompt": "the",
        "length": 5,
        "samples": 20,
        "z": torch.zeros(2, 8),
        "k": 2,
    }


METHODS = [
    "sample",
    "log_prob",
    "rank",
    "classify",
    "complete",
    "write",
    "stream",
    "n_best",
    "encode",
    "decode",
    "reconstruct",
    "interpolate",
    "evaluate",
    "save",
    "held_out",
]
SELDOM = {"evaluate", "held_out"}


def python_call(rng: random.Random, models: dict[str, Any]) -> tuple[str, Callable[[], Any]]:
    """(what it is, the call)."""
    if rng.random() < 0.2:
        which = rng.choice(["train", "load", "compare", "resume", "train"])
        function = getattr(quintet, which)
        arguments: dict[str, Any] = {
            "train": {"family": "flow", "data": "moons", "steps": 1, "preset": "tiny"},
            "load": {"run": "flow"},
            "resume": {"run": "flow"},
            "compare": {"steps": 1, "families": ["flow"], "samples": 20, "preset": "tiny"},
        }[which]
        fixed = {"report", "on_trainer", "budget", "steps", "samples"}
    else:
        name = rng.choice(list(models))
        which = rng.choice([one for one in METHODS if one not in SELDOM or rng.random() < 0.3])
        function = getattr(models[name], which)
        names = inspect.signature(function).parameters
        arguments = {key: given for key, given in usual(name).items() if key in names and given is not None}
        arguments |= {"path": f"saved-{rng.random()}"} if which == "save" else {}
        fixed = {"on_step", "constraint", "samples"}
        which = f"{name}.{which}"
    parameters = inspect.signature(function).parameters
    names = [
        name
        for name, one in parameters.items()
        if one.kind is not one.VAR_POSITIONAL and name not in fixed and one.kind is not one.VAR_KEYWORD
    ]
    for name in rng.sample(names, min(len(names), rng.choice([1, 1, 2]))):
        arguments[name] = things(rng)
    what: list[Any] = []
    if which == "compare":
        what = [rng.choice(["moons", "flow", things(rng)]) for _ in range(rng.choice([1, 1, 2]))]
    shown = f"{which}({str(what)[:200]}, {str(arguments)[:600]!r})"

    def call() -> Any:
        out = function(*what, **arguments)
        return list(out) if which.endswith(".stream") else out

    return shown, call


# -- configurations ----------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    out: Any = 1
    for _ in range(depth):
        out = {"model": out}
    return out


def configuration(rng: random.Random, name: str) -> str:
    """A run's configuration with some values replaced, taken out or added, or broken as text."""
    config = yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text())
    config.pop("plan", None)
    for _ in range(rng.choice([1, 1, 2, 3])):
        holder = config
        inner = [value for value in config.values() if isinstance(value, dict) and value]
        if inner and rng.random() < 0.75:
            holder = rng.choice(inner)
        key = rng.choice(list(holder))
        wrong = rng.choice(
            [
                None,
                "",
                "x",
                -1,
                0,
                1,
                10**12,
                10**30,
                1e308,
                math.nan,
                math.inf,
                -math.inf,
                True,
                [],
                {},
                [1, 2],
                {"x": 1},
                [[[]]],
                "1e3",
                0.5,
                date(2020, 1, 1),
                nested(3),
                "\x00",
            ]
        )
        if key == "steps":
            wrong = rng.choice([None, "", -1, 0, 1, 1.5, [], {}])
        match rng.randrange(4):
            case 0:
                holder.pop(key)
            case 1:
                holder[rng.choice(["nothing", 3, None, "x" * 500, "", True])] = wrong
            case _:
                holder[key] = wrong
    text = yaml.safe_dump(config, allow_unicode=True)
    match rng.randrange(12):
        case 0:
            return text[: rng.randrange(len(text))]
        case 1:
            return "".join(rng.choice("[]{}:,-!&*|>%@`\n\t ") if rng.random() < 0.01 else c for c in text)
        case 2:
            return rng.choice(
                [
                    "",
                    "[]",
                    "3",
                    "null",
                    "a: &x [*x]",
                    "- a",
                    "!!python/object:os.system {}",
                    "\x00",
                    "a: 1\na: 2",
                    "{" * 3000,
                    "[" * 3000,
                    yaml.safe_dump(nested(200)),
                    "? [a]\n: b",
                    "? {a: 1}\n: b",
                    "family: 2020-99-99",
                    "seed: 2020-13-45",
                    "*x",
                    "<<: 3",
                ]
            )
    return text


# -- run folders -------------------------------------------------------------------------------------------------------


def wreck(run: Path, rng: random.Random) -> str:
    """Damage a file of a run, and say what was done."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix not in (".png", ".lock")]
    small = [path for path in files if path.suffix in (".json", ".jsonl", ".yaml")]
    path = rng.choice(small if small and rng.random() < 0.7 else files)
    content = path.read_bytes()
    kind = rng.choice(["cut", "flip", "empty", "gone", "swap", "folder", "edit", "edit", "edit", "bytes"])
    match kind:
        case "cut":
            path.write_bytes(content[: rng.randrange(len(content) or 1)])
        case "flip":
            out = bytearray(content or b"x")
            for _ in range(rng.choice([1, 1, 8])):
                out[rng.randrange(len(out))] = rng.randrange(256)
            path.write_bytes(out)
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "swap":
            path.write_bytes(rng.choice(files).read_bytes())
        case "folder":
            path.unlink()
            path.mkdir()
        case "bytes":
            path.write_bytes(rng.choice([b"\xff\xfe\x00", b"null", b"[]", b"{}", b"3", b"\x00" * 100, b"[" * 5000]))
        case _:
            edit(path, rng)
    return f"{kind} {path.relative_to(run)}"


def edit(path: Path, rng: random.Random) -> None:
    """One value of JSON or YAML replaced by another."""
    wrong = rng.choice([None, "", "x", -1, 0, 10**12, 10**30, math.nan, [], {}, [1], {"x": 1}, True, "../../x"])

    def replaced(value: Any) -> Any:
        if isinstance(value, dict) and value and rng.random() < 0.85:
            key = rng.choice(list(value))
            if rng.random() < 0.15:
                return {name: entry for name, entry in value.items() if name != key}
            return value | {key: replaced(value[key])}
        if isinstance(value, list) and value and rng.random() < 0.85:
            at = rng.randrange(len(value))
            return [replaced(entry) if i == at else entry for i, entry in enumerate(value)]
        return wrong

    text = path.read_text() if path.suffix in (".json", ".jsonl", ".yaml") else ""
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(replaced(json.loads(lines[at])))
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(replaced(json.loads(text))))
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(replaced(yaml.safe_load(text))))


def uses(rng: random.Random, run: str) -> list[str]:
    return rng.choice(
        [
            ["sample", run, "-n", "2"],
            ["inspect", run],
            ["inspect", run, "--verify"],
            ["runs"],
            ["resume", run],
            ["score", run],
            ["complete", run, "-n", "2"],
            ["encode", run],
            ["evaluate", run, "--samples", "20"],
            ["sample", run, "--help"],
            ["compare", run, run.replace("hurt", "flow"), "--samples", "20"],
            [
                "train",
                "flow",
                "--data",
                "table.csv",
                "--preset",
                "tiny",
                "--steps",
                "2",
                "--run",
                run,
                "--resume",
                "auto",
            ],
            ["train", "flow", "--data", "pictures.npz", "--codec", run, "--preset", "tiny", "--steps", "2"],
        ]
    )


# -- the tests ---------------------------------------------------------------------------------------------------------


def command_lines(count: int) -> Iterator[tuple[str, str | None]]:
    for i in range(count):
        words = command_line(random.Random(f"words {i}"))
        yield f"words {i}: {words}", said(words)


def python_calls(count: int) -> Iterator[tuple[str, str | None]]:
    models = {name: quintet.load(name) for name in NAMES}
    for i in range(count):
        shown, call = python_call(random.Random(f"call {i}"), models)
        yield f"call {i}: {shown}", attempt(call)[0]


def configurations(count: int) -> Iterator[tuple[str, str | None]]:
    for i in range(count):
        rng = random.Random(f"config {i}")
        name, family, source, _ = rng.choice(RUNS)
        text = configuration(rng, name)
        Path("hostile.yaml").write_text(text)
        words = ["train", family, "--data", source, "--config", "hostile.yaml"]
        yield f"config {i}: {words}\n{text[:3000]}", said([*words, *(["--dry-run"] if i % 5 else ["--steps", "2"])])


def run_folders(count: int) -> Iterator[tuple[str, str | None]]:
    for i in range(count):
        rng = random.Random(f"folder {i}")
        name, run = rng.choice(NAMES), Path("runs/hurt")
        shutil.copytree(f"runs/{name}", run)
        did = wreck(run, rng)
        for _ in range(2):
            words = uses(rng, "hurt")
            yield f"folder {i}: {name}, {did}: {words}", said(words)
        shutil.rmtree(run)


KINDS = {
    "command lines": command_lines,
    "Python calls": python_calls,
    "configurations": configurations,
    "run folders": run_folders,
}
MANY = {"command lines": 900, "Python calls": 900, "configurations": 400, "run folders": 200}


def faults(kind: str, count: int) -> list[str]:
    found = []
    for shown, fault in KINDS[kind](count):
        if fault:
            found.append(f"{shown}\n{fault}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MEMORY
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_some(kind: str, place: Path) -> None:
    assert not faults(kind, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, place: Path) -> None:
    found = faults(kind, MANY[kind])
    print(f"{kind}: {MANY[kind]} situations, {len(found)} faults")
    assert not found, "\n\n".join(found[:50])
