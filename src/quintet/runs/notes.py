"""What people say of a run: its tags, a note, whether it is put away, and for which use and under which licence it is.
It stands in studio.json of the run's folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from quintet.core.errors import EnvironmentFault, UsageError
from quintet.core.settings import Settings, in_words
from quintet.training.checkpoint import write_atomic

FILE = "studio.json"
MOST_TAGS = 20


def readable(text: str) -> str:
    """The text without blanks around it. Raises ValueError for signs that no eye can see, but line ends."""
    text = text.strip()
    if not all(sign.isprintable() or sign in "\n\t" for sign in text.replace("\r\n", "\n")):
        raise ValueError("it has signs that cannot be shown")
    return text.replace("\r\n", "\n")


def one_line(text: str) -> str:
    """The same of a text without line ends and commas."""
    text = readable(text)
    if not text or "\n" in text or "," in text:
        raise ValueError("a tag is a word or some, without a comma")
    return text


Text = Annotated[str, AfterValidator(readable)]
Tag = Annotated[str, Field(max_length=40), AfterValidator(one_line)]


class Notes(Settings):
    """What people say of a run."""

    tags: tuple[Tag, ...] = Field((), max_length=MOST_TAGS)
    note: Text = Field("", max_length=4000)
    archived: bool = False
    intended: Text = Field("", max_length=4000, description="for which use it is meant, and for which it is not")
    licence: Text = Field("", max_length=200, description="under which others may use it")


def notes_of(folder: Path) -> Notes:
    """What is said of the run in a folder; what is not as it should be is left out."""
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return Notes()
    good: dict[str, Any] = {}
    for name in Notes.model_fields.keys() & (found if isinstance(found, dict) else {}):
        try:
            good[name] = getattr(Notes(**{name: found[name]}), name)
        except ValidationError:
            continue
    return Notes(**good)


def change_notes(folder: Path, **changed: Any) -> Notes:
    """Say something else of a run. Raises UsageError for what cannot be said, EnvironmentFault where it cannot be
    written.
    """
    tags = changed.get("tags")
    if isinstance(tags, list | tuple):
        changed["tags"] = list(dict.fromkeys(tag.strip() if isinstance(tag, str) else tag for tag in tags))
    try:
        made = Notes(**{**notes_of(folder).model_dump(), **changed})
    except ValidationError as error:
        first = error.errors()[0]
        why = in_words(first).removeprefix("value error, ")
        raise UsageError(f"this value cannot be the {first['loc'][0]} of a run", why=why) from None
    try:
        write_atomic(folder / FILE, json.dumps(made.model_dump(), indent=1))
    except OSError as error:
        raise EnvironmentFault(
            "the notes of the run cannot be written",
            where=str(folder),
            why=error.strerror or str(error),
            fix="free disk space, or check the permissions of the folder",
        ) from None
    return made
