"""What the pages share: the folder of runs, the service that answers for their models, and who may come in."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request

from quintet.core.errors import UsageError
from quintet.operations.requests import ServeRequest, StudioRequest
from quintet.runs.folder import Run, runs_root
from quintet.server.service import Service, service_of
from quintet.studio.curves import Curves
from quintet.studio.door import Door
from quintet.studio.library import Library
from quintet.studio.queue import Queue

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data: blob:",
    "media-src 'self' data: blob:", "connect-src 'self'", "form-action 'self'", "frame-src 'self'",
    "base-uri 'none'", "frame-ancestors 'none'",
))  # fmt: skip
"""What pages may load: what this server sends, and pictures and sounds that their scripts were given."""

Look = Callable[[str, str], tuple[list[Any], str]]
"""(argument, cursor) -> (what is new behind that cursor, as JSON values; the cursor behind it). The first one is ""."""


@dataclass
class Studio:
    """What routes need. `topics`: what pages can follow, by name: see `studio/events.py`."""

    root: Path
    service: Service
    door: Door
    queue: Queue
    library: Library
    curves: Curves = field(default_factory=Curves)
    topics: dict[str, Look] = field(default_factory=dict)


def studio_of(request: StudioRequest, port: int, state: Path, queue: Queue | None = None) -> Studio:
    """The studio of a folder of runs; `state`: where it keeps who has been let in."""
    root = runs_root(request.runs).absolute()
    door = Door(state, port)
    service = service_of(ServeRequest(port=port, runs=root, deadline=3600), find=lambda name: run_of(root, name))
    service.rules = type(service.rules)(
        secrets.token_urlsafe(24), policy=POLICY, cookie=door.admits, doors=("/open",), body=service.rules.body
    )
    return Studio(root, service, door, queue or Queue(root), Library(root))


def run_of(root: Path, name: str) -> Run:
    """The run of a name below the folder of runs, which is the only place where a page finds one."""
    path = next((path for path in Run.places(name, root)[:2] if (path / "config.yaml").is_file()), root / name)
    parts = Path(name).parts
    if not name or len(parts) > 2 or ".." in parts or Path(name).is_absolute() or "\0" in name:
        raise UsageError("there is no run of this name", fix="the page of runs lists them all")
    if not (path / "config.yaml").is_file() or not path.resolve().is_relative_to(root.resolve()):
        raise UsageError("there is no run of this name", fix="the page of runs lists them all")
    return Run(path)


def studio(request: Request) -> Studio:
    """The studio that a request came to."""
    found: Studio = request.app.state.studio
    return found
