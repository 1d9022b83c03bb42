"""Files that a browser sends. Whatever is sent together is one stream of bytes, cut where its files end: it is written
to disk as it comes, goes on where it broke off, and appears as a source when it is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import time
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from quintet.core.errors import EnvironmentFault
from quintet.modalities.provenance import replace
from quintet.server.problems import Refusal

MOST_FILES, MOST_BYTES = 200_000, 20_000_000_000
"""Of what is sent together."""
RESERVE = 1_000_000_000
"""Bytes of the disk that stay free."""
LEFTOVER = 2 * 86_400
"""Seconds after which what broke off is removed."""
DEPTH, LONGEST, SUFFIX = 16, 120, 20
"""Folders within folders, and bytes of a name and of its suffix."""
FORBIDDEN = re.compile(r'[\\/:*?"<>|]')
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that mean devices on some systems."""
ELSEWHERE = "put them in a folder of this machine and type its path"

File = tuple[str, int]
"""A path, and how many bytes it has."""


@dataclass
class Upload:
    """What is being sent: `files` with safe paths, the byte at which each begins, and how many bytes are here."""

    folder: Path
    files: Sequence[File]
    starts: Sequence[int]
    have: int

    @property
    def total(self) -> int:
        return self.starts[-1]

    def write(self, at: int, content: bytes) -> int:
        """Bytes of the stream from `at` on, which is where it ends now. Returns where it ends then."""
        if at != self.have:
            raise Refusal(409, "other bytes are wanted", why=f"{self.have} are here", fix="go on there")
        if at + len(content) > self.total:
            raise Refusal(422, "more bytes than were announced", fix="choose the files again")
        try:
            for path, start, part in self.pieces(at, content):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("r+b" if start else "wb") as file:
                    file.seek(start)
                    file.write(part)
            self.have = at + len(content)
            replace(self.folder / "have", str(self.have).encode())
        except OSError as error:
            raise no_room(error, self.folder) from None
        return self.have

    def pieces(self, at: int, content: bytes) -> Iterator[tuple[Path, int, memoryview]]:
        """(file, where in it, what is written there) of bytes that begin at `at`."""
        view = memoryview(content)
        while view:
            number = bisect_right(self.starts, at) - 1  # the last that begins here: those before it are empty
            name, _ = self.files[number]
            count = min(len(view), self.starts[number + 1] - at)
            yield self.folder / "files" / name, at - self.starts[number], view[:count]
            at, view = at + count, view[count:]


def no_room(error: OSError, folder: Path) -> EnvironmentFault:
    """What a file that cannot be written means."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return EnvironmentFault(
        "the disk is full" if full else "the files that were sent cannot be written",
        where=str(folder),
        why=error.strerror or str(error),
        fix="free disk space, then send the same files again: what has arrived is kept"
        if full
        else "check the permissions of the folder",
    )


class Uploads:
    """All of a folder: finished ones by their names, `.parts` that are being sent, and `.done`, what is known of each
    that is finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.parts, self.finished = folder, folder / ".parts", folder / ".done"
        self.open: dict[str, Upload] = {}

    def begin(self, files: Sequence[File], stamp: str = "") -> dict[str, Any]:
        """Begin, or go on with, what is known by its files and their `stamp`; nothing is written of too much.

        Raises Refusal and EnvironmentFault.
        """
        self.sweep()
        total = sum(size for _, size in files)
        if not files or any(size < 0 for _, size in files):
            raise Refusal(422, "no files", fix="choose files or a folder")
        if len(files) > MOST_FILES:
            raise Refusal(413, f"{len(files):,} files; {MOST_FILES:,} can be sent together",
                          fix=f"pack them into an archive, or {ELSEWHERE}")  # fmt: skip
        if total > MOST_BYTES:
            raise Refusal(413, f"{total / 1e9:,.1f} GB; {MOST_BYTES / 1e9:,.0f} GB can be sent together", fix=ELSEWHERE)
        key = hashlib.blake2b(json.dumps([files, stamp]).encode(), digest_size=16).hexdigest()
        if (known := self.known(key)) is not None:
            return {"id": key, "have": total, "total": total, "source": known["source"]}
        upload = self.find(key)
        if upload is None:
            self.room(total)
            folder = self.parts / key
            replace(folder / "list.json", json.dumps([*zip(safe_paths([path for path, _ in files]),
                    (size for _, size in files), strict=True)]).encode())  # fmt: skip
            replace(folder / "have", b"0")
            upload = self.find(key)
            assert upload is not None
        return {"id": key, "have": upload.have, "total": upload.total, "source": None}

    def room(self, total: int) -> None:
        """Raise EnvironmentFault where the disk has too little."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free - RESERVE < total:
            why = (
                f"{total / 1e9:,.1f} GB are needed; {free / 1e9:,.1f} GB are free, "
                f"{RESERVE / 1e9:g} GB of them reserved"
            )
            raise EnvironmentFault(
                "there is not enough free disk space", where=str(self.folder), why=why, fix="free disk space"
            )

    def find(self, key: str) -> Upload | None:
        """What is being sent under this key, from memory or disk."""
        if key not in self.open and re.fullmatch("[0-9a-f]{32}", key):
            folder = self.parts / key
            try:
                files = [(path, size) for path, size in json.loads((folder / "list.json").read_bytes())]
                have = int((folder / "have").read_text())
            except (OSError, ValueError):
                return None
            self.open[key] = Upload(folder, files, [0, *accumulate(size for _, size in files)], have)
        return self.open.get(key)

    def __getitem__(self, key: str) -> Upload:
        found = self.find(key)
        if found is None:
            raise Refusal(404, "nothing is being sent under this name", fix="choose the files again")
        return found

    def finish(self, key: str) -> str:
        """Make a whole one a source. Returns its path."""
        upload = self[key]
        place = upload.folder / "files"
        for name, size in upload.files:
            path = place / name
            if size == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            if upload.have < upload.total or not path.is_file() or path.stat().st_size != size:
                if upload.have == upload.total:
                    self.cancel(key)
                raise Refusal(409, "not all bytes are here", fix="choose the files again")
        tops = {name.partition("/")[0] for name, _ in upload.files}
        first = upload.files[0][0]
        if len(tops) == 1 and "/" in first:
            name, inner = first.partition("/")[0], place / first.partition("/")[0]
        else:
            name, inner = first.split(".")[0] if len(upload.files) == 1 else "files", place
        goal = next(path for path in numbered(self.folder / name) if not path.exists())
        inner.rename(goal)
        source = goal / first if inner is place and len(upload.files) == 1 else goal
        facts = {"id": key, "source": str(source.relative_to(self.folder)), "folder": goal.name,
                 "files": len(upload.files), "bytes": upload.total, "when": time.time()}  # fmt: skip
        replace(self.finished / f"{key}.json", json.dumps(facts).encode())
        self.cancel(key)
        return str(source)

    def cancel(self, key: str) -> None:
        """Remove what is here of one that is being sent."""
        self.open.pop(key, None)
        if re.fullmatch("[0-9a-f]{32}", key):
            shutil.rmtree(self.parts / key, ignore_errors=True)

    # -- finished ones -----------------------------------------------------------------------------------------------

    def known(self, key: str) -> dict[str, Any] | None:
        """What is known of a finished one that is still there."""
        try:
            facts: dict[str, Any] = json.loads((self.finished / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        source = self.folder / facts["source"]
        return facts | {"source": str(source)} if source.exists() else None

    def listed(self) -> list[dict[str, Any]]:
        """All finished ones, the newest first."""
        keys = [path.stem for path in self.finished.glob("*.json")]
        found = [facts for key in keys if (facts := self.known(key)) is not None]
        return sorted(found, key=lambda facts: -facts["when"])

    def remove(self, key: str) -> None:
        """Remove a finished one."""
        facts = self.known(key) if re.fullmatch("[0-9a-f]{32}", key) else None
        if facts is None:
            raise Refusal(404, "there are no such files", fix="load the page again")
        shutil.rmtree(self.folder / facts["folder"], ignore_errors=True)
        (self.finished / f"{key}.json").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what broke off long ago."""
        for state in self.parts.glob("*/have"):
            if time.time() - state.stat().st_mtime > LEFTOVER:
                self.cancel(state.parent.name)


# -- names -------------------------------------------------------------------------------------------------------------


def numbered(path: Path) -> Iterator[Path]:
    """A path, then NAME-2, NAME-3, ..."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.name}-{number}")
        number += 1


def safe_paths(paths: Sequence[str]) -> list[str]:
    """Paths as a browser tells them, below one folder and all different, also where capitals do not count."""
    again, taken = Counter[str](), set[str]()
    homes: dict[tuple[str, ...], str] = {(): ""}

    def free(place: str, name: str) -> str:
        """A path for this name, with a number where it is taken."""
        path = place + name
        while path.casefold() in taken:
            again[place + name] += 1
            stem, dot, suffix = name.rpartition(".")
            number = f"-{again[place + name] + 1}"
            path = place + (stem + number + dot + suffix if dot else name + number)
        taken.add(path.casefold())
        return path

    found = []
    for path in paths:
        *above, name = [part for part in re.split(r"[/\\]", path) if part][-DEPTH:] or ["_"]
        for depth, part in enumerate(above, start=1):
            folder = tuple(above[:depth])
            if folder not in homes:
                homes[folder] = free(homes[folder[:-1]], safe_name(part)) + "/"
        found.append(free(homes[tuple(above)], safe_name(name)))
    return found


def safe_name(name: str) -> str:
    """A name as every system can write it: no separators, control characters or names of devices, not hidden, and not
    too long.
    """
    visible = "".join(one for one in name if not unicodedata.category(one).startswith("C"))
    name = FORBIDDEN.sub("_", unicodedata.normalize("NFC", visible)).lstrip(". ").rstrip(". ") or "_"
    name = f"_{name}" if RESERVED.fullmatch(name) else name
    if len(name.encode()) <= LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > SUFFIX:
        stem, dot, suffix = name, "", ""
    kept = LONGEST - len((dot + suffix).encode())
    return stem.encode()[:kept].decode(errors="ignore").rstrip(". ") + dot + suffix
