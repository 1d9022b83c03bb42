"""Who may come in: a link that works once gives a browser its cookie. What is kept on disk are digests alone, in a
folder of the user's own, so that a tab that is open stays in when the studio is started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import quote

from quintet.core.errors import EnvironmentFault

LINK_LASTS = 3600.0
"""Seconds that a link waits to be opened."""
COOKIE_LASTS = 30 * 86_400
"""Seconds that a browser stays in."""


def state_folder() -> Path:
    """Where the studio keeps what belongs to the user and to no run: $XDG_STATE_HOME, or ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "quintet" / "studio"


class Door:
    """Links and cookies of one address; `port` keeps apart what studios on several ports give to one browser."""

    def __init__(self, folder: Path, port: int) -> None:
        self.keys, self.cookies, self.name = folder / "links", folder / "cookies", f"quintet-{port}"
        try:
            for one in (self.keys, self.cookies):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(
                "the studio cannot save which browsers have access",
                where=str(folder),
                why=str(error),
                fix="set XDG_STATE_HOME to a folder that can be written",
            ) from None

    def link(self, address: str, path: str = "/") -> str:
        """A link to a page that lets one browser in, once."""
        key = secrets.token_urlsafe(32)
        (self.keys / digest(key)).touch(0o600)
        return f"{address}/open?key={key}" + (f"&to={quote(path)}" if path != "/" else "")

    def open(self, key: str) -> str | None:
        """The value of a new cookie, if this key has not been used; None else."""
        file = self.keys / digest(key)
        try:
            late = time.time() - file.stat().st_mtime > LINK_LASTS
            file.unlink()  # of two that come with one key, the system lets one remove it
        except OSError:
            return None
        if late:
            return None
        cookie = secrets.token_urlsafe(32)
        (self.cookies / digest(cookie)).touch(0o600)
        return cookie

    def admits(self, header: str) -> bool:
        """Whether a header `Cookie` holds a cookie that was given."""
        try:
            given = SimpleCookie(header).get(self.name)
        except CookieError:
            return False
        if given is None:
            return False
        with contextlib.suppress(OSError):
            return time.time() - (self.cookies / digest(given.value)).stat().st_mtime < COOKIE_LASTS
        return False


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
