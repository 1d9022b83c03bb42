"""What the files of a run are to hold: copies of the texts that it depends on, and the sha256 of the others. They stand
in one file, digests.json, which is written before the text that it is of: a crash in between is no damage.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from quintet.core.errors import CheckpointError, warn
from quintet.core.files import sha256
from quintet.training.checkpoint import no_link, write_atomic

NAME = "digests.json"
CONFIG, MANIFEST, CODEC, CONDITIONS = "config.yaml", "manifest.json", "codec/codec.json", "codec/conditions.safetensors"
TEXTS, OTHERS = (CONFIG, MANIFEST, CODEC), (CONDITIONS,)
"""What a model and its training depend on beside checkpoints, which have digests of their own."""
LARGEST = 10_000
"""Files that are listed at most: a run has about ten."""


class Digests(NamedTuple):
    """`files`: the sha256 of each by its path. `texts`: by its path what a file holds and, where another one stood
    there before, that.
    """

    files: Mapping[str, str]
    texts: Mapping[str, list[str]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """As it was written, to the byte; every path lies inside the folder. Raises CheckpointError."""
        try:
            content = path.read_text()
            found = json.loads(content)
            digests = cls(found["files"], found["texts"]) if "sha256" in found else cls(found, {})
            if "sha256" in found and digests.text() != content:
                raise ValueError("it was changed after it was written")
            if not 0 < len(digests.files) + len(digests.texts) <= LARGEST:
                raise ValueError("not a JSON object of paths")
            for name in (*digests.files, *digests.texts):
                inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
                digest = str(digests.files.get(name, "0" * 64))
                if not inside or not re.fullmatch(r"[\w./-]+", name) or not re.fullmatch("[0-9a-f]{64}", digest):
                    raise ValueError(f"{name!r} is no path with its sha256")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError("the list of digests cannot be read", where=str(path), why=str(error)) from None
        return digests

    @classmethod
    def of(cls, folder: Path, *, every: bool = False) -> Self:
        """Of the files as they stand: those that a model depends on, or every one."""
        there = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))] if every else OTHERS
        files = {name: sha256(folder / name) for name in there if (folder / name).is_file() and name != NAME}
        return cls(files, {name: [(folder / name).read_text()] for name in TEXTS if (folder / name).is_file()})

    def text(self) -> str:
        """As it is written, with its own sha256."""
        held = {"files": dict(self.files), "texts": dict(self.texts)}
        own = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
        return json.dumps(held | {"sha256": own}, indent=1)

    def write(self, folder: Path) -> None:
        write_atomic(folder / NAME, self.text())

    def verify(self, folder: Path, fix: str) -> None:
        """Raise CheckpointError, naming the file, unless each of `files` is what was listed."""
        for name in self.files:
            if (error := self.damage(folder, name, fix)) is not None:
                raise error

    def damage(self, folder: Path, name: str, fix: str = "") -> CheckpointError | None:
        """What is wrong with one of `files`."""
        path, what = folder / name, ""
        try:
            if not path.is_file():
                what = "this file of the run is missing"
            elif name in self.files and sha256(path) != self.files[name]:
                what = f"the file is damaged: its sha256 differs from the one in {NAME}"
        except OSError as error:
            return CheckpointError("the file cannot be read", where=str(path), why=str(error), fix=fix)
        return CheckpointError(what, where=str(path), fix=fix) if what else None


class Kept:
    """The files in a run's folder that it depends on. A run of an older version has no digests until it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def digests(self) -> Digests | None:
        """None if there are none; damaged ones are named in a warning, and are none."""
        try:
            return self.checked() if (self.folder / NAME).exists() else None
        except CheckpointError as error:
            warn(f"{error}; the files that it lists are used as they are")
            return None

    def checked(self) -> Digests:
        """Raises CheckpointError, also if it is that of another run: then several texts are not as it says."""
        digests = Digests.read(self.folder / NAME)
        if sum(self.stands(name) not in encoded(copies) for name, copies in digests.texts.items()) > 1:
            fix = "put back the run's own, or use quintet resume, which writes digests of the files as they are now"
            raise CheckpointError("the digests are those of another run", where=str(self.folder / NAME), fix=fix)
        return digests

    def look(self, name: str) -> tuple[str | None, bool]:
        """(a text as it was written last, whether it stands in its file). None: nobody says what it is to be."""
        text = None
        for _ in range(2):  # a run that is being written may change in between
            stands, digests = self.stands(name), self.digests()
            copies = [] if digests is None else digests.texts.get(name, [])
            text = copies[0] if copies else None
            if text is None or stands in encoded(copies):
                return text, stands is not None
        return text, False

    def stands(self, name: str) -> bytes | None:
        """What a file holds, whatever that is; None if it cannot be read, or is a pipe or a device, that never ends."""
        try:
            return (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
        except OSError:
            return None

    def text(self, name: str) -> str:
        """A text as it was written; if its file is damaged, which is warned, its copy. Raises OSError, ValueError."""
        text, whole = self.look(name)
        if text is None:
            return (self.folder / name).read_text()
        if not whole:
            warn(f"{self.folder / name} was changed after it was written, so its copy in {NAME} is used")
        return text

    def damage(self, name: str) -> CheckpointError | None:
        """What is wrong with a file that has a digest."""
        digests = self.digests()
        return None if digests is None or name not in digests.files else digests.damage(self.folder, name)

    def write(self, name: str, text: str) -> None:
        """Write a text: its copy, then itself."""
        digests, stands = self.digests() or Digests.of(self.folder), self.stands(name)
        before = [] if stands is None or stands == text.encode() else [stands.decode(errors="replace")]
        files = {one: digest for one, digest in digests.files.items() if one in OTHERS}
        Digests(files, {**digests.texts, name: [text, *before]}).write(self.folder)
        self.own(name)
        write_atomic(self.folder / name, text)

    def own(self, name: str) -> None:
        """Raise OSError if a file lies behind a link within the run."""
        if "/" in name:
            no_link((self.folder / name).parent)

    def sign(self, name: str) -> None:
        """Take a file as it stands."""
        digests = self.digests() or Digests.of(self.folder)
        digests._replace(files={**digests.files, name: sha256(self.folder / name)}).write(self.folder)

    def mend(self) -> None:
        """Write texts again that are damaged; digests that are damaged, of the files as they stand."""
        if self.digests() is None:
            return Digests.of(self.folder).write(self.folder)
        for name in (MANIFEST, CODEC):  # what stands in the configuration may be meant
            text, whole = self.look(name)
            if text is not None and not whole:
                self.own(name)
                write_atomic(self.folder / name, text)

    def damages(self) -> Iterator[CheckpointError]:
        """All that is not as it was written."""
        try:
            digests = self.checked()
        except CheckpointError as error:
            yield error
            return
        for name in digests.texts:
            if not self.look(name)[1]:
                what = f"the file was changed after it was written, so its copy in {NAME} is used"
                yield CheckpointError(what, where=str(self.folder / name), fix="quintet resume writes the file again")
        for name in digests.files:
            if (wrong := digests.damage(self.folder, name)) is not None:
                yield wrong


def encoded(copies: Sequence[str]) -> list[bytes]:
    return [copy.encode() for copy in copies]
