"""metrics.jsonl: what a run tells while it trains, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quintet.core.errors import warn
from quintet.training.checkpoint import write_atomic


class Records:
    """The records of a run, which a process that trains it has in memory too: what the disk refuses is written later,
    and what is damaged on it meanwhile is not taken for what was said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said, self.written = b"", 0  # all lines, and how many bytes of them are in the file

    def read(self) -> list[dict[str, Any]]:
        """The records so far."""
        return parsed(self.stands() + self.said[self.written :])

    def stands(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON object. If the disk refuses it (OSError), it is written with the next."""
        self.said += json.dumps(record).encode() + b"\n"
        self.flush(to_disk=False)

    def flush(self, *, to_disk: bool = True) -> None:
        """Write the records that could not be written before; `to_disk`: so that a crash of the machine loses none."""
        with open(self.path, "ab", buffering=0, opener=not_through_a_link) as file:
            while self.written < len(self.said):
                self.written += file.write(self.said[self.written :])
            if to_disk:
                os.fsync(file.fileno())

    def rewind(self, step: int, head: str | None) -> None:
        """Drop the records after `step`, which a resumed run writes again. `head`: what stood here at the checkpoint of
        that step, and stands in for what is damaged; None: the checkpoint does not say.
        """
        stands, begins = self.stands(), (head or "").encode()
        whole = stands.startswith(begins)
        if not whole:
            warn(f"{self.path} was changed after it was written, so the records of the checkpoint are used")
        behind = [record for record in parsed(stands[len(begins) :] if whole else b"") if record["step"] <= step]
        self.said = begins + b"".join(json.dumps(record).encode() + b"\n" for record in behind)
        self.written = len(self.said)
        if stands != self.said:
            write_atomic(self.path, self.said.decode())


def not_through_a_link(path: str, flags: int) -> int:
    """Opens a file that is no symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def parsed(lines: bytes) -> list[dict[str, Any]]:
    """The records in lines of JSON; a line that is none is left out, as the last one may be if it was cut."""
    out = []
    for line in lines.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and all(type(record.get(key)) in (int, float) for key in ("step", "steps")):
            out.append(record)
    return out
