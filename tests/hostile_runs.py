"""Run folders whose files are broken, or made to do harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Harm = Callable[[Path], None]
"""What makes a file of a run a hostile one."""

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))  # fmt: skip


def text(content: str | bytes) -> Harm:
    return lambda path: replaced(path, content.encode() if isinstance(content, str) else content)


def replaced(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def sparse(path: Path) -> None:
    """10 GB that take no room."""
    with path.open("r+b") as file:
        file.truncate(10**10)


def before(content: str) -> Harm:
    return lambda path: replaced(path, content.encode() + path.read_bytes())


def behind(content: str) -> Harm:
    return lambda path: replaced(path, path.read_bytes() + content.encode())


PLACES: dict[str, Harm] = {"missing": Path.unlink, "fifo": fifo, "device": device, "folder": folder, "loop": loop,
                           "sparse": sparse, "empty": text("")}  # fmt: skip
"""Of any file."""
TEXTS: dict[str, Harm] = {
    "nul": text(b"\0" * 100), "bytes": text(b"\xff\xfe\x80" * 100), "list": text("[1, 2]"), "null": text("null"),
    "number": text("9" * 5000), "deep": text("[" * 100_000), "deep2": text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "word": text("x"), "escape": text('{"\\u001b[2J": "\\u001b]0;x\\u0007"}'), "infinite": text('{"step": 1e999}'),
}  # fmt: skip
YAML: dict[str, Harm] = {
    "laughs": before(LAUGHS), "laughs2": behind(f"model:\n  x:\n    {LAUGHS.replace(chr(10), chr(10) + '    ')}\n"),
    "itself": text("&a [*a]"), "itself2": text("&a {family: *a}"),
    "python": text("!!python/object/apply:os.system [x]"),
    "twice": behind("family: gan\n"), "merge": text("<<: {a: 1}\n" * 100), "deep3": text("- " * 50_000 + "x"),
    "anchors": text("".join(f"a{i}: &a{i} 1\n" for i in range(200_000))), "date": text("family: 9999-99-99\n"),
    "tag": text("!!binary x\n"), "sexagesimal": text("seed: 99999:99:99\n"), "key": text("? [a, b]\n: 1\n"),
}  # fmt: skip


def tensors(header: bytes, size: int | None = None, content: bytes = b"") -> Harm:
    return text(struct.pack("<Q", len(header) if size is None else size) + header + content)


def of(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


def poisoned(path: Path) -> None:
    """NaN in every number that is not whole."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    found = load_file(path)
    path.unlink()
    save_file(
        {key: np.full_like(value, np.nan) if value.dtype.kind == "f" else value for key, value in found.items()}, path
    )


WEIGHTS: dict[str, Harm] = {
    "long": tensors(b" " * 10**8), "huge": tensors(b"{}", 2**63), "header": tensors(b"{}", 10**9),
    "deep": tensors(b"[" * 10**6), "claim": tensors(of("F32", [2**40], [0, 2**42])), "none": tensors(b"{}"),
    "overflow": tensors(of("F32", [2**32, 2**32], [0, 4]), None, bytes(4)), "type": tensors(of("Q9", [1], [0, 4])),
    "negative": tensors(b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', None, bytes(4)),
    "twice": tensors(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "x": 1}', None, bytes(4)),
    "nan": poisoned, "bytes": text(b"\xff" * 200),
}  # fmt: skip


def values(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value stands."""
    if at:
        yield at
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, one in list(inner)[:12]:
        yield from values(one, (*at, key))


WRONG: tuple[Any, ...] = (None, -1, 10**12, "x", [], {}, [[]], 1e308, True, "\x1b[2J", "../../etc/passwd", 0.5)


def resealed(run: Path) -> None:
    """Digests of the checkpoints' files as they are now, so that what is in them is believed."""
    for place in run.glob("*/step-*/manifest.json"):
        try:
            old = json.loads(place.read_text())
            files = {file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
                     for file in place.parent.iterdir()
                     if file != place and file.is_file() and file.stat().st_size < 10**9}  # fmt: skip
            digest = hashlib.sha256(json.dumps([old["step"], files], sort_keys=True).encode()).hexdigest()
            place.write_text(json.dumps({"step": old["step"], "files": files, "sha256": digest}))
        except (ValueError, TypeError, KeyError, OSError):
            continue


def harms(run: Path, step: int = 1) -> Iterator[tuple[str, str, Harm]]:
    """(file, name, what is done to it), for every file of a run; every `step`th of the wrong values."""
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    count = 0
    for file in files:
        kinds = PLACES | (WEIGHTS if file.endswith(".safetensors") else TEXTS) | (YAML if "yaml" in file else {})
        yield from ((file, name, harm) for name, harm in kinds.items())
        if file.endswith((".json", ".yaml")):
            import yaml

            content = (run / file).read_text()
            data = json.loads(content) if file.endswith(".json") else yaml.safe_load(content)
            for place in values(data):
                for wrong in WRONG:
                    count += 1
                    if count % step == 0:
                        yield file, f"{'.'.join(map(str, place))}={str(wrong)[:12]!r}", changed(data, place, wrong)


def changed(data: Any, place: tuple[Any, ...], wrong: Any) -> Harm:
    def harm(path: Path) -> None:
        made = json.loads(json.dumps(data))
        at = made
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = wrong
        replaced(path, json.dumps(made).encode())

    return harm


def trained(root: Path) -> Path:
    """A small run with two checkpoints, a condition and a note."""
    import quintet

    config = {"preset": "tiny", "training": {"save_every": 1}}
    quintet.train("flow", data="digits", condition="label", steps=2, run="good", runs=root, config=config)
    (root / "good" / "studio.json").write_text(json.dumps({"tags": ["a"], "note": "b"}))
    (root / "good" / "lock.json").write_text(json.dumps({"pid": 1, "host": "x", "since": 1.0, "born": "1"}))
    return root / "good"


def battery(root: Path, only: str = "", step: int = 97) -> Iterator[Path]:
    """Folders that each hold a run with one harmed file beside a good run, made when they are asked for."""
    root.mkdir(parents=True, exist_ok=True)
    good = root / "good" if (root / "good").is_dir() else trained(root)
    for number, (file, name, harm) in enumerate(harms(good, step)):
        if only not in f"runs/{file}:{name}":
            continue
        place = root / f"{number}-{file.replace('/', '_')}-{name.replace('/', '_')[:40]}"
        shutil.copytree(good, place / "bad")
        shutil.copytree(good, place / "good")
        harm(place / "bad" / file)
        if not file.endswith("manifest.json"):
            resealed(place / "bad")
        yield place


def verbs(place: Path) -> list[list[str]]:
    """What is asked of such a folder."""
    where = ["--runs", str(place)]
    return [["runs", *where, "--json"], ["inspect", "bad", *where, "--json"], ["inspect", "bad", *where, "--verify"],
            ["sample", "bad", *where, "-n", "1", "-o", str(place / "out.png")], ["resume", "bad", *where]]  # fmt: skip
