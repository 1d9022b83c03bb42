"""What of a source cannot be read: left out and counted, listed in a file, or an error, as the user chooses."""

from __future__ import annotations

import json
import re
from pathlib import Path

from quintet.core.errors import DataError, EnvironmentFault
from quintet.data.dataset import Found

UNREAD = "cannot be read and are left out"
"""How notes say it."""
FEW = 10
"""One in so many may be left out without a word of the user's."""


class Problems:
    """Files, rows or lines of a source that cannot be read, and what becomes of them by `Reading.on_bad`: "few" leaves
    out a tenth at most, "skip" any number but all, "quarantine" also lists them in the folder SOURCE.bad beside the
    source, "error" none.
    """

    def __init__(self, found: Found, total: int, what: str = "files", place: str = "") -> None:
        """`place`: the file that rows or lines are of."""
        self.where, self.source, self.total, self.what = place or found.where, found.where, total, what
        self.on_bad = found.reading.on_bad
        self.found: list[tuple[str, str, str]] = []
        self.halves = 0
        """How many held half a character, which was replaced."""

    @property
    def lenient(self) -> bool:
        """Whether as much as possible is to be read."""
        return self.on_bad in ("skip", "quarantine")

    def add(self, name: str, why: object, content: str = "") -> None:
        self.found.append((name, str(why), content))

    def check(self) -> None:
        """Raise DataError that names the first, if there are too many; list them, if that is asked."""
        if not self.found:
            return
        bad = len(self.found)
        most = {"few": self.total // FEW, "error": 0}.get(self.on_bad, self.total - 1)
        if bad > most:
            name, why, _ = self.found[0]
            what = f"cannot read {name}" if bad == 1 else f"cannot read {bad:,} of {self.total:,} {self.what}"
            why = why if bad == 1 else f"the first is {name}: {why}"
            fix = "repair or remove them, or leave them out with --data.on_bad skip"
            if bad == self.total:
                fix = "repair or replace it" if bad == 1 else "repair or replace them, since none of them can be read"
            raise DataError(what, where=self.where, why=why, fix=fix)
        if self.on_bad == "quarantine":
            self.listed()

    def listed(self) -> None:
        """Write the list of them, each with its reason and, of rows and lines, its content. Raises EnvironmentFault."""
        path = self.path
        lines = [json.dumps({"name": name, "why": why} | ({"content": content} if content else {})) + "\n"
                 for name, why, content in self.found]  # fmt: skip
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(lines))
        except OSError as error:
            fix = "use --data.on_bad skip, which leaves them out and writes no list"
            raise EnvironmentFault("the list of unreadable items cannot be written", where=str(path),
                                   why=error.strerror or str(error), fix=fix) from None  # fmt: skip

    @property
    def path(self) -> Path:
        """The list of them: FILE.jsonl in the folder SOURCE.bad, beside the source or, of one of the hub, here."""
        source, place = Path(self.source), Path(self.where)
        name = place.name if place != source else self.what
        folder = source if source.exists() else Path(re.sub(r"\W+", "-", self.source))
        return folder.with_name(f"{folder.name}.bad") / f"{name}.jsonl"

    def notes(self) -> tuple[str, ...]:
        half = f"{self.halves:,} {self.what} hold half a character (a lone surrogate): U+FFFD stands in its place"
        notes = [half] if self.halves else []
        if self.found:
            name, why, _ = self.found[0]
            left = f"{len(self.found):,} of {self.total:,} {self.what} cannot be read and are left out"
            notes.append(f"{left}, the first {name}: {why}")
            if self.on_bad == "quarantine":
                notes.append(f"what cannot be read is listed in {self.path}")
        return tuple(notes)
