"""The page of all runs: searched, sorted, and several of them chosen to be compared or laid over each other."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from starlette.responses import RedirectResponse

from quintet.server.problems import Refusal
from quintet.studio.house import Studio
from quintet.studio.library import SORTS
from quintet.studio.pages import address, page, query

MOST_CHOSEN = 12
"""Runs whose curves are laid over each other."""


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, and where its choice leads."""

    @app.get("/runs")
    def runs(request: Request, q: str = "", sort: str = "changed", up: bool = False, archived: bool = False,
             at: int = 1) -> Response:  # fmt: skip
        """A page of the runs that have every word of `q`, those first that `sort` says."""
        sort = sort if sort in SORTS else "changed"
        found = studio.library.search(q, at, sort=sort, down=not up, archived=archived)
        asked = {"q": q or None, "sort": sort, "up": up or None, "archived": archived or None}
        return page(request, "runs.html.j2", found=found, asked=asked, turned=lambda at: query(**asked, at=at))

    @app.get("/runs/curves")
    def curves(run: Annotated[list[str] | None, Query()] = None) -> Response:
        """The page of the first of some runs, with the curves of the others over its own."""
        first, *others = run or [""]
        if not first or len(others) >= MOST_CHOSEN:
            raise Refusal(422, f"from 1 to {MOST_CHOSEN} runs are meant", fix="choose them on the page of runs")
        return RedirectResponse(f"/run/{address(first)}{query(**{'with': others or None})}", 303)
