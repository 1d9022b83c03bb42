"""Every parser that is ours, fed with what nobody would write: each input is read, or refused in our own words.

    python tests/fuzzing.py [--seconds 60] [TARGET ...]

With atheris installed its coverage leads the way (`pip install atheris`, which the tests do not need), else the seeds
of a parser are changed at random. What a parser may raise is a QuintetError; anything else, or ten seconds, is a
finding, which is written into the current folder as crash-TARGET.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cyclopts import CycloptsError
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import quintet
from quintet.core.errors import QuintetError

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where folders are that are made for every input."""


class Target(NamedTuple):
    """A parser: what reads an input (in a folder of its own), and inputs to begin with."""

    reads: Callable[[bytes, Path], Any]
    seeds: list[bytes]


def text(content: bytes) -> str:
    """Bytes as any text, lone surrogates among it, as a command line brings it."""
    return content.decode("utf-8", "surrogateescape")


@cache
def trained() -> Path:
    """A small run whose condition is a row of two columns."""
    import warnings

    warnings.simplefilter("ignore")
    root = Path(tempfile.mkdtemp(prefix="fuzzing-", dir=MEMORY))
    rows = "a,b,c\n" + "".join(f"{i % 7},{'xy'[i % 2]},2020-01-{i % 28 + 1:02d}\n" for i in range(60))
    (root / "rows.csv").write_text(rows)
    config = {"data": {"condition": "b,c"}, "preset": "tiny"}
    quintet.train("flow", data=str(root / "rows.csv"), steps=1, run="run", runs=root, config=config)
    return root / "run"


def command_line(content: bytes, folder: Path) -> None:
    """Words, one a line, up to where a verb would begin."""
    from quintet.cli import main as cli
    from quintet.cli import options

    with contextlib.suppress(CycloptsError):
        sections, rest = options.extract(text(content).split("\n"))
        rest = [cli.HYPHEN if word == "-" else word for word in rest]
        command, _, _ = cli.app.parse_args(rest, print_error=False, exit_on_error=False)
        options.check_sections(sections, cli.SETTINGS.get(command.__name__, ()), command.__name__)


def config_file(content: bytes, folder: Path) -> None:
    """A --config file, and the run that it describes."""
    from quintet.fit.fitting import plan, reading_of
    from quintet.operations.settings import read_config
    from quintet.sources.load import load_source

    (folder / "c.yaml").write_bytes(content)
    config = read_config(folder / "c.yaml")
    reading_of(config)
    plan("flow", load_source("moons"), config=config)


def file_of_a_run(name: str) -> Callable[[bytes, Path], None]:
    """One file of a run folder, whose others are whole."""

    def reads(content: bytes, folder: Path) -> None:
        from quintet.runs.folder import Run
        from quintet.runs.lock import who_writes
        from quintet.runs.notes import notes_of
        from quintet.runs.restoring import codecs_of
        from quintet.training import checkpoint

        for path in trained().rglob("*"):
            if path.is_file() and path.relative_to(trained()).as_posix() != name:
                target = folder / path.relative_to(trained())
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.link(path, target)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        run = Run(folder)
        match name.split("/")[-1]:
            case "config.yaml":
                run.config()
            case "codec.json":
                codecs_of(run)
            case "metrics.jsonl":
                run.metrics()
            case "lock.json":
                who_writes(folder)
            case "notes.json":
                notes_of(folder)
            case _ if "checkpoints" in name:
                checkpoint.load(folder / name.rpartition("/")[0])
            case _:
                run.manifest()

    return reads


def source(suffix: str) -> Callable[[bytes, Path], None]:
    """A file of data."""

    def reads(content: bytes, folder: Path) -> None:
        from quintet.sources.load import load_source

        os.environ["QUINTET_CACHE"] = str(folder / "cache")
        (folder / f"data{suffix}").write_bytes(content)
        load_source(str(folder / f"data{suffix}"))

    return reads


def members(content: bytes, folder: Path) -> None:
    """The names of members of archives, one a line, in a zip and in a tar file."""
    names = text(content).split("\n")[:50]
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), b"a,b\n1,2\n")
    with tarfile.open(folder / "a.tar", "w") as packed:
        for name in names:
            member = tarfile.TarInfo(name.replace("\0", "_"))
            member.size = 8
            member.type = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)[len(name) % 3]
            packed.addfile(member, io.BytesIO(b"a,b\n1,2\n"))
    from quintet.data.archives import entries_of

    for path in (folder / "a.zip", folder / "a.tar"):
        with contextlib.suppress(QuintetError):
            for entry in entries_of(path):
                assert not entry.name.startswith("/")
                assert ".." not in entry.name.split("/")


def condition(content: bytes, folder: Path) -> None:
    """A condition as it is typed: a row of several columns, and one of its cells."""
    from quintet.modalities.table.typed import _cell, typed

    with contextlib.suppress(QuintetError):
        typed(_codec(), text(content))
    for column in _codec().columns:
        with contextlib.suppress(QuintetError):
            _cell(_codec(), column, text(content))


@cache
def _codec() -> Any:
    from quintet.runs.folder import Run
    from quintet.runs.restoring import codecs_of

    return codecs_of(Run(trained()))["cond"]


def names(content: bytes, folder: Path) -> None:
    """Names of runs, durations, addresses of the hub: each alone."""
    from quintet.runs.config import seconds
    from quintet.runs.hub import repository
    from quintet.runs.names import check_name, stem

    for reads in (check_name, seconds, repository, stem):
        with contextlib.suppress(QuintetError):
            reads(text(content))


def values(content: bytes, folder: Path) -> None:
    """A value as it is typed behind an option; written and read again it is the same."""
    from quintet.core.typed import as_yaml, read_yaml

    value = read_yaml(text(content), "not a value", "--x.y")
    if plain(value):
        assert read_yaml(as_yaml(value), "not a value", "--x.y") == value


def plain(value: Any) -> bool:
    """Whether a value is one that settings hold: texts, null, lists, and mappings of texts; tags can make others."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(one) for key, one in value.items())
    return value is None or isinstance(value, str) or (isinstance(value, list) and all(map(plain, value)))


def sentences(content: bytes, folder: Path) -> None:
    """What an operation says, put into the words of pages."""
    from quintet.studio.sentences import in_words

    for language in ("en", "zh"):
        in_words(language, text(content)[:400].encode("utf-8", "replace").decode())


def provenance(suffix: str) -> Callable[[bytes, Path], None]:
    """What a written file says of itself."""

    def reads(content: bytes, folder: Path) -> None:
        from quintet.modalities.provenance import read_provenance

        (folder / f"s{suffix}").write_bytes(content)
        read_provenance(folder / f"s{suffix}")

    return reads


def _of_run(name: str) -> list[bytes]:
    return [(trained() / name).read_bytes()]


def _newest() -> str:
    return next(iter(sorted((trained() / "checkpoints").glob("step-*")))).relative_to(trained()).as_posix()


@cache
def targets() -> dict[str, Target]:
    """Every parser by its name."""
    lines = b'{"a": 1, "b": "x", "c": [1, 2]}\n{"a": 2.5, "b": null}\n' * 12
    rows = b"a,b,c\n1,x,2020-01-02\n2.5,,03/04/2021\nNaN,y,1e999\n" * 12
    words = [b"train\nflow\n--data\nmoons\n--model.width\n[1, {a: b}]\n--budget=3s\n--json", b"sample\nr\n-n\n3\n-o\n-",
             b"compare\nmoons\n--seeds\n2\n--training.lr=1e-3", b"complete\nr\n--known\nleft\n--\n--x.y"]  # fmt: skip
    config = (
        b"family: flow\nmodel: {width: 32, depth: 2}\ntraining:\n  lr: 1e-3\n  batch_size: 64\ndata: {source: moons}\n"
    )
    found = {
        "command-line": Target(command_line, words),
        "config-file": Target(config_file, [config, b"steps: 3\nplan: [[0, 3, 1, 1]]\nbudget: 2\npreset: tiny"]),
        "csv": Target(source(".csv"), [rows, rows.replace(b",", b";"), b"\xef\xbb\xbf" + rows, b'a,b\n"x",2\n' * 20]),
        "jsonl": Target(source(".jsonl"), [lines]),
        "json": Target(source(".json"), [b'[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]']),
        "txt": Target(source(".txt"), [b"some words h\xc3\xa4re\n" * 80]),
        "members": Target(members, [b"a.csv\nb/c.csv\n../d.csv\n/e.csv\nC:\\f.csv\n.g\n__MACOSX/h"]),
        "condition": Target(condition, [b"{b: x, c: 2020-01-03}", b"2020-01-03", b"{b: null, c: ~}"]),
        "names": Target(names, [b"moons-flow-1", b"hf:me/digits@main", b"1.5h", b"CON.", b"\xe4\xbd\xa0"]),
        "values": Target(values, [b"[1, {a: b}, null]", b"'it''s'", b'"\\u2588"', b"{<<: {a: 1}}", b"|\n a\n b"]),
        "sentences": Target(sentences, [b"12 steps in 0:01: lower --training.lr", b"no run 'x'; did you mean y?"]),
        "provenance-csv": Target(provenance(".csv"), [b"# {}\na,b\n1,2\n"]),
        "provenance-png": Target(provenance(".png"), [_picture()]),
        "provenance-json": Target(provenance(".jsonl"), [b'{"quintet": {"run": "x"}}\n']),
    }  # fmt: skip
    for name in ("config.yaml", "codec/codec.json", "metrics.jsonl", "manifest.json"):
        found[f"run-{Path(name).name}"] = Target(file_of_a_run(name), _of_run(name))
    name = f"{_newest()}/manifest.json"
    found["checkpoint"] = Target(file_of_a_run(name), _of_run(name))
    note = json.dumps({"pid": 12, "host": "h", "since": 1.0, "born": "1"}).encode()
    found["run-lock.json"] = Target(file_of_a_run("lock.json"), [note])
    return found


def _picture() -> bytes:
    """A PNG that says where it comes from."""
    out, info = io.BytesIO(), PngInfo()
    info.add_text("quintet", '{"run": "x", "seed": 1}')
    Image.new("RGB", (4, 4)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


# -- inputs ----------------------------------------------------------------------------------------------------------

SPICES = [b"\0", b"\xff", b"\xed\xa0\x80", b"null", b"NaN", b"1e999", b"-0", b"[" * 50, b"{" * 50, b"&a [*a]", b"<<: ",
          b"!!x", b"--", b"\r", b"\n", b'"', b"'", b"\\", b"../", b"/", b"\x1b[31m", b"9" * 400, b"%s%n",
          b"\xe2\x80\xae", b"- ", b": ", b"0x7fffffffffffffff", b"99999999999999999999", b"true",
          b"9999-99-99", b"# ", b"*a", b"\t",
          b"\xf0\x9f\x98\x80"]  # fmt: skip


def changed(content: bytes, rng: random.Random) -> bytes:
    """A seed with parts taken out, put in, doubled, or changed."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                del out[at : at + rng.choice((1, 1, 4, 40))]
            case 1:
                out[at:at] = rng.choice(SPICES)
            case 2:
                out[at : at + rng.choice((1, 3, 9))] = rng.choice(SPICES)
            case 3:
                start = rng.randrange(len(out) + 1)
                out[at:at] = out[start : start + rng.choice((1, 8, 64))]
            case 4 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case _:
                out[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
    return bytes(out)


def read(name: str, content: bytes) -> None:
    """One input: read or refused. Raises whatever else happens."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        try:
            targets()[name].reads(content, Path(folder))
        except QuintetError as error:
            str(error)


def at_random(name: str, seconds: float = 0.0, times: int = 0, seed: int = 0) -> int:
    """Feed a parser with changed seeds, for so many seconds or times; returns how many. Raises what is found, with the
    input as a note.
    """
    rng, count, began = random.Random(f"{name}{seed}"), 0, time.monotonic()
    while count < times or time.monotonic() - began < seconds:
        content = changed(rng.choice(targets()[name].seeds), rng)
        start = time.monotonic()
        try:
            read(name, content)
            assert time.monotonic() - start < 10, "it took longer than ten seconds"
        except BaseException as error:
            error.add_note(f"{name} was given {content!r}")
            raise
        count += 1
    return count


def guided(name: str, seconds: int) -> None:
    """The same by atheris, in this process, which it ends."""
    import atheris

    global quintet, QuintetError
    for module in [one for one in sys.modules if one.partition(".")[0] == "quintet"]:
        del sys.modules[module]  # so that it is imported anew, with what counts its branches
    with atheris.instrument_imports(include=["quintet"]):
        import quintet
        from quintet.core.errors import QuintetError

        seeds = targets()[name].seeds
        for seed in seeds:
            read(name, seed)
    with tempfile.TemporaryDirectory() as corpus:
        for i, seed in enumerate(seeds):
            (Path(corpus) / str(i)).write_bytes(seed)
        words = [f"-max_total_time={seconds}", "-timeout=10", "-max_len=4096", f"-artifact_prefix=crash-{name}-",
                 "-rss_limit_mb=4000"]  # fmt: skip
        atheris.Setup([sys.argv[0], *words, corpus], lambda content: read(name, content))
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.guided:
        guided(given.targets[0], given.seconds)
        return 0
    bad = 0
    for name in given.targets or targets():
        words = [sys.executable, __file__, "--guided", "--seconds", str(given.seconds), name]
        done = subprocess.run(words, capture_output=True, text=True)
        said = [
            line
            for line in done.stderr.splitlines()
            if (line.startswith(("Done", "#")) and "DONE" in line) or "stat::" in line
        ]
        if "No module named 'atheris'" in done.stderr:
            count = at_random(name, given.seconds)
            said = [f"{count} inputs at random"]
        elif done.returncode:
            bad += 1
            said = done.stderr.splitlines()[-30:]
        print(f"{name}: {'a finding' if done.returncode and bad else 'nothing found'}", *said, sep="\n  ", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
