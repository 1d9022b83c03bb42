"""The start page: the newest runs, and a door for each kind of data."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from quintet.studio.house import Studio
from quintet.studio.pages import page


def routes(app: FastAPI, studio: Studio) -> None:
    """The page."""

    @app.get("/")
    def home(request: Request) -> Response:
        """The newest runs, and where to begin."""
        return page(request, "home.html.j2", recent=studio.library.recent(8))
