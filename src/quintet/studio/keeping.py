"""Keeping order among runs: tags, notes, runs that are put away, other names, and deleting, which can be undone.

What is deleted is moved: a run NAME lies as `.studio/trash/ID/NAME` below the folder of runs, and ID begins with the
time. So nothing has to be written to delete on a full disk, and the place says where it came from.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fastapi import FastAPI, Request, Response
from filelock import FileLock, Timeout

from quintet.comparison.contest import BEGUN
from quintet.comparison.standing import REPORT
from quintet.core.errors import EnvironmentFault, QuintetError, UsageError
from quintet.core.files import sync
from quintet.runs.card import rewrite_card
from quintet.runs.folder import Run
from quintet.runs.lock import who_writes
from quintet.runs.names import check_name
from quintet.runs.notes import Notes, change_notes, notes_of
from quintet.server.problems import Refusal
from quintet.studio import pages
from quintet.studio.house import Studio

TOGETHER = "compare-"
"""What the names of folders begin with that hold the runs of a comparison."""
KEPT = "kept"
"""The tag of a run that is to be kept."""
LASTS = 30 * 86_400
"""Seconds after which what was deleted is removed for good."""
STAMP = "%Y%m%d-%H%M%S"
PAGES = ("run", "card", "compare")
A = TypeVar("A")
alone = threading.Lock()
"""Two tabs do one thing after the other."""


# -- folders -----------------------------------------------------------------------------------------------------------


def folder_of(root: Path, name: str) -> Path:
    """The folder of a run or a comparison, by its path below the folder of runs. Raises Refusal 404 for others."""
    parts = name.split("/")
    plain = all(part and part.isprintable() and not part.startswith(".") for part in parts)
    path = root / name
    with contextlib.suppress(OSError, ValueError):
        if plain and len(parts) <= 2 and path.resolve().is_relative_to(root.resolve()) and holds(path):
            return path
    raise Refusal(404, "there is no run of this name", fix="the page of runs lists them all")


def holds(path: Path) -> bool:
    """Whether a folder holds a run, or a comparison."""
    return any((path / file).is_file() for file in ("config.yaml", BEGUN, REPORT))


def is_comparison(path: Path) -> bool:
    """Whether a folder holds a comparison and no run of its own."""
    return not (path / "config.yaml").is_file()


def runs_in(path: Path) -> list[Path]:
    """The runs in a folder: itself, or those of a comparison."""
    return [path] if not is_comparison(path) else sorted(file.parent for file in path.glob("*/config.yaml"))


@contextmanager
def at_rest(studio: Studio, name: str, path: Path) -> Iterator[None]:
    """Inside, nobody writes the runs of a folder, and their models are not in memory. Raises UsageError if somebody
    does, or if the queue has not done with it.
    """
    top = name.split("/")[0]
    for job in studio.queue.jobs():
        if job.state != "finished" and (job.run in (top, name) or name in job.argv):
            raise UsageError("this run is in the queue", where=name, why=f"{job.title} is {job.state}",
                             fix="take it out of the queue first")  # fmt: skip
    with ExitStack() as held:
        for run in {path: None} | dict.fromkeys(runs_in(path)):
            if (who := who_writes(run)) is not None:
                raise UsageError("this run is being trained", where=name, why=who, fix="stop it first")
            try:
                held.enter_context(FileLock(run / ".lock", timeout=0))
            except Timeout:
                raise UsageError("this run is being trained", where=name, fix="stop it first") from None
            studio.service.models.forget(run.relative_to(studio.root).as_posix())
        yield


@contextmanager
def writing(what: str, where: Path) -> Iterator[None]:
    """Inside, what the system refuses is an EnvironmentFault."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(what, where=str(error.filename or where), why=error.strerror or str(error),
                               fix="free disk space, or check the permissions of the folder") from None  # fmt: skip


def move(path: Path, to: Path) -> None:
    """Give a folder another place, where there is nothing yet. Raises FileExistsError, or OSError."""
    to.mkdir()  # of two who want this place, one gets it
    try:
        path.rename(to)
    except OSError:
        with contextlib.suppress(OSError):
            to.rmdir()
        raise
    for folder in {path.parent, to.parent}:
        sync(folder)


def rename(studio: Studio, name: str, to: str) -> str:
    """Call a run something else. Returns its new name."""
    path = folder_of(studio.root, name)
    to = check_name(to)
    if "/" in name:
        raise UsageError("this run belongs to a comparison and keeps its name", where=name,
                         why="the report of the comparison uses this name",
                         fix="rename the comparison, or give the run a tag")  # fmt: skip
    if is_comparison(path) and not to.startswith(TOGETHER):
        what = f"the name of a comparison must begin with {TOGETHER}"
        raise UsageError(what, where=to, fix=f"call it {TOGETHER}{to}")
    if to == name:
        return name
    with at_rest(studio, name, path), writing("the run cannot be renamed", path):
        try:
            move(path, studio.root / to)
        except FileExistsError:
            raise UsageError("a run of this name exists already", where=to, fix="choose another name") from None
        rewrite_card(Run(studio.root / to))
    return to


# -- deleting and undoing ----------------------------------------------------------------------------------------------


class Deleted(NamedTuple):
    """What was deleted: `id` names it, `name` is where it was, `when` and `until` are seconds since 1970."""

    id: str
    name: str
    when: float
    until: float
    path: Path


def exports_of(root: Path) -> Path:
    """Where files of runs lie that are used without quintet, until they are fetched."""
    return root / ".studio" / "exports"


def trash_of(root: Path) -> Path:
    """Where deleted runs lie."""
    return root / ".studio" / "trash"


def deleted(root: Path) -> list[Deleted]:
    """All that was deleted and is not removed for good, the newest first."""
    try:
        there = sorted(trash_of(root).iterdir(), reverse=True)
    except OSError:
        return []
    return [found for folder in there if (found := deleted_in(folder)) is not None]


def deleted_in(folder: Path) -> Deleted | None:
    """What lies in a folder of the trash; None if that is nothing that can be brought back."""
    try:
        when = float(calendar.timegm(time.strptime(folder.name[:15], STAMP)))
        places = [folder / one.name for one in folder.iterdir()]
        places = [one for place in places for one in ([place] if holds(place) else place.iterdir()) if holds(one)]
    except (OSError, ValueError):
        return None
    return (
        Deleted(folder.name, places[0].relative_to(folder).as_posix(), when, when + LASTS, places[0])
        if places
        else None
    )


def delete(studio: Studio, name: str) -> Deleted:
    """Move a run into the trash; what has been there for too long is removed for good."""
    path = folder_of(studio.root, name)
    place = trash_of(studio.root) / f"{time.strftime(STAMP, time.gmtime())}-{secrets.token_hex(4)}" / name
    with at_rest(studio, name, path), writing("the run cannot be deleted", path):
        place.parent.mkdir(parents=True)
        move(path, place)
    shutil.rmtree(exports_of(studio.root) / name, ignore_errors=True)
    for old in deleted(studio.root):
        if old.until < time.time():
            with contextlib.suppress(QuintetError):
                remove(studio, old.id)
    found = deleted_in(trash_of(studio.root) / place.relative_to(trash_of(studio.root)).parts[0])
    assert found is not None
    return found


def in_trash(root: Path, identifier: str) -> Deleted:
    """What was deleted, by its id. Raises Refusal 404 if it is not there."""
    good = re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", identifier)
    found = deleted_in(trash_of(root) / identifier) if good else None
    if found is None:
        raise Refusal(404, "there is nothing to undo", why="it was brought back, or removed for good")
    return found


def undo(studio: Studio, identifier: str) -> str:
    """Bring back what was deleted. Returns its name."""
    found = in_trash(studio.root, identifier)
    to = studio.root / found.name
    if not to.parent.is_dir():
        raise UsageError("the comparison that this run belongs to was deleted", where=found.name,
                         fix="restore the comparison first")  # fmt: skip
    with writing("the run cannot be brought back", to):
        try:
            move(found.path, to)
        except FileExistsError:
            raise UsageError("a new run has this name now", where=found.name,
                             fix="rename the new run first, then undo") from None  # fmt: skip
        shutil.rmtree(trash_of(studio.root) / identifier, ignore_errors=True)
    return found.name


def remove(studio: Studio, identifier: str) -> str:
    """Remove for good what was deleted. Returns its name."""
    found = in_trash(studio.root, identifier)
    with writing("it cannot be removed", found.path):
        aside = trash_of(studio.root) / f".{identifier}"
        (trash_of(studio.root) / identifier).rename(aside)  # from now on it is not there, however far this comes
        shutil.rmtree(aside)
    return found.name


# -- what is said of runs ----------------------------------------------------------------------------------------------


def say(studio: Studio, name: str, **changed: Any) -> Notes:
    """Change what is said of a run, and its card."""
    path = folder_of(studio.root, name)
    made = change_notes(path, **changed)
    rewrite_card(Run(path))
    return made


def keep(studio: Studio, name: str, kept: bool) -> Notes:
    """Mark a run as one to keep, or no longer."""
    tags = [tag for tag in notes_of(folder_of(studio.root, name)).tags if tag != KEPT]
    return say(studio, name, tags=[*tags, KEPT] if kept else tags)


def truth(value: Any) -> bool:
    """Yes or no, of a form or of JSON."""
    return value in (True, "1", "true", "on", "yes")


def tags_of(value: Any) -> Any:
    """Tags with commas between them, or as a list."""
    return [tag for tag in value.split(",") if tag.strip()] if isinstance(value, str) else value


# -- routes ------------------------------------------------------------------------------------------------------------


async def one_by_one(work: Callable[[], A]) -> A:
    """The result of work that changes folders, which is done alone."""

    def inside() -> A:
        with alone:
            return work()

    return await asyncio.to_thread(inside)


def routes(app: FastAPI, studio: Studio) -> None:
    """Actions on runs, and the page of what was deleted."""
    notes: Mapping[str, Callable[[str, Mapping[str, Any]], Notes]] = {
        "tags": lambda name, given: say(studio, name, tags=tags_of(given.get("tags", ""))),
        "note": lambda name, given: say(studio, name, note=given.get("note", "")),
        "archive": lambda name, given: say(studio, name, archived=truth(given.get("archived", True))),
        "keep": lambda name, given: keep(studio, name, truth(given.get("kept", True))),
        "about": lambda name, given: say(studio, name, **{key: given[key] for key in ("intended", "licence")
                                                          if key in given}),
    }  # fmt: skip

    def page_of(given: Mapping[str, Any], name: str) -> str:
        where = given.get("page")
        if where == "compare":
            return f"/compare/{pages.address(name.split('/')[0])}"
        return f"/{where if where in PAGES else 'run'}/{pages.address(name)}"

    @app.post("/studio/runs/{name:path}/rename")
    async def call(request: Request, name: str) -> Response:
        """Call a run something else."""
        given = await pages.fields(request)
        new = await one_by_one(lambda: rename(studio, name, str(given.get("to", "")).strip()))
        return pages.done(request, {"name": new}, page_of(given, new))

    @app.post("/studio/runs/{name:path}/delete")
    async def throw_away(request: Request, name: str) -> Response:
        """Delete a run, which can be undone."""
        found = await one_by_one(lambda: delete(studio, name))
        return pages.done(request, {"id": found.id, "name": name}, "/trash" + pages.query(new=found.id))

    @app.post("/studio/runs/{name:path}/{action}")
    async def note(request: Request, name: str, action: str) -> Response:
        """Say something of a run: tags, note, archive, keep, about."""
        given = await pages.fields(request)
        if action not in notes:
            raise Refusal(404, "there is no such action", fix=f"known: rename, delete, {', '.join(notes)}")
        made = await one_by_one(lambda: notes[action](name, given))
        return pages.done(request, made.model_dump(), page_of(given, name))

    @app.post("/studio/trash/{identifier}/undo")
    async def bring_back(request: Request, identifier: str) -> Response:
        """Bring back what was deleted."""
        name = await one_by_one(lambda: undo(studio, identifier))
        where = "compare" if is_comparison(studio.root / name) else "run"
        return pages.done(request, {"name": name}, f"/{where}/{pages.address(name)}")

    @app.post("/studio/trash/{identifier}/remove")
    async def remove_for_good(request: Request, identifier: str) -> Response:
        """Remove for good what was deleted."""
        name = await one_by_one(lambda: remove(studio, identifier))
        return pages.done(request, {"name": name}, "/trash")

    @app.get("/trash")
    async def trash(request: Request, new: str = "") -> Response:
        """What was deleted, and can be brought back."""
        found = await asyncio.to_thread(deleted, studio.root)
        return pages.page(request, "trash.html.j2", deleted=found, new=new)
