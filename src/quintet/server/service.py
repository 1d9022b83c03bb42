"""What a server is made of: its runs, what it may use, and who may ask."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from quintet.core.errors import UsageError
from quintet.operations.requests import ServeRequest
from quintet.runs.folder import Run
from quintet.server.guards import LOOPBACK, Rules
from quintet.server.metrics import Metrics
from quintet.server.models import Models

TOKEN = "QUINTET_TOKEN"


@dataclass
class Service:
    """What routes need: the request that it was started with, models, figures, and whether it is about to stop."""

    request: ServeRequest
    models: Models
    metrics: Metrics
    rules: Rules
    stopping: bool = False


def service_of(request: ServeRequest, find: Callable[[str], Run] | None = None) -> Service:
    """The service that a request asks for, of its runs, and of those that `find` finds by names that are asked for.
    Raises UsageError for runs that are none, and for an address that others can reach without a token of the user's
    own.
    """
    if not request.run and find is None:
        raise UsageError("run is missing", why="a server needs at least one model", fix="quintet runs lists all runs")
    given, metrics = os.environ.get(TOKEN, ""), Metrics()
    local = is_loopback(request.host)
    if not given and not local:
        raise UsageError(f"{request.host} can be reached from other machines", why="then the server needs a token",
                         fix=f"set the environment variable {TOKEN} to a secret, or leave --host out")  # fmt: skip
    runs = [Run.open(name, request.runs) for name in request.run]
    memory = total_memory() / 2 if request.memory_limit is None else 1e6 * request.memory_limit
    models = Models(runs, device=request.device, threads=request.threads, memory=memory, queue=request.queue,
                    metrics=metrics, find=find)  # fmt: skip
    names = (*LOOPBACK, request.host.lower(), *(name.lower() for name in request.names))
    rules = Rules(given or secrets.token_urlsafe(24), names, not local, 1_000_000 * request.body_limit)
    return Service(request, models, metrics, rules)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def total_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
