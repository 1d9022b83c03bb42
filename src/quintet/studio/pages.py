"""Templates become pages, in the language and the colours that a browser has chosen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from quintet import __version__
from quintet.core.plain import plain
from quintet.server.bodies import object_of
from quintet.server.formats import JSON, media_of
from quintet.server.problems import Refusal
from quintet.studio.sentences import in_words, marked
from quintet.studio.words import LANGUAGES, chosen, for_scripts, meaning, say

THEMES = ("auto", "light", "dark")
YEAR = 365 * 86_400
MOST_TEXTS = 200


@cache
def templates() -> Environment:
    """All that is put into a template is escaped; a name that it does not know is a fault of ours."""
    made = Environment(loader=PackageLoader("quintet.studio", "templates"), autoescape=True, trim_blocks=True,
                       lstrip_blocks=True, undefined=StrictUndefined)  # fmt: skip
    made.filters["address"] = address
    made.filters["json_script"] = json_script
    made.filters["clock"] = clock
    made.filters["time_of_day"] = time_of_day
    made.filters["parsed"] = json.loads
    made.filters["size"] = size
    made.filters["moment"] = moment
    made.globals["query"] = query
    return made


def address(text: Any) -> str:
    """A name as a part of an address; slashes stay."""
    return quote(str(text), safe="/")


def moment(seconds: float) -> str:
    """Seconds since 1970 as programs read a time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def query(**fields: Any) -> str:
    """Fields as a query behind an address; those that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    return "?" + urlencode(known, doseq=True) if known else ""


def clock(seconds: float | None) -> str:
    """Seconds as 4:05 or 1:02:03, as core.js writes them."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def time_of_day(moment: float) -> str:
    """A time as 19:05, with its date if that is not today."""
    then = time.localtime(moment)
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", then)


def attachment(name: str) -> dict[str, str]:
    """The header with which a browser keeps an answer as a file of this name (RFC 6266), in whatever script it is."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}


def size(count: int) -> str:
    """Bytes in words."""
    unit = max(0, min(4, (len(str(count)) - 1) // 3))
    return f"{count / 1000**unit:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[unit]}"


def json_script(value: Any) -> Markup:
    """A value as the content of a script element of JSON, which no text in it can end."""
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def language_of(request: Request) -> str:
    """The language of a page."""
    return chosen(request.cookies.get("language"), request.headers.get("accept-language", ""))


def page(request: Request, template: str, status: int = 200, **facts: Any) -> HTMLResponse:
    """A page. Templates know `t("key", n=3)`, `meaning(description)` of a field, `tell(text)` of an
    operation, `language`, `theme`, `path` and the `facts`.
    """
    language, theme = language_of(request), request.cookies.get("theme", "auto")
    known: dict[str, Any] = {
        "t": partial(say, language), "meaning": partial(meaning, language), "tell": partial(marked, language),
        "language": language,
        "languages": LANGUAGES, "version": __version__,
        "theme": theme if theme in THEMES else "auto", "path": request.url.path, "script_words": for_scripts(language),
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""), "now": time.time(),
    }  # fmt: skip
    return HTMLResponse(templates().get_template(template).render(**known | facts), status)


def wants_page(request: Request) -> bool:
    """Whether a browser shows the answer to this as a page."""
    return "text/html" in request.headers.get("accept", "")


async def fields(request: Request) -> dict[str, Any]:
    """What a form or a script has sent: a text for each field, of a field that may be repeated (`NAME[]`) a list; or
    JSON as it is.
    """
    if media_of(request.headers.get("content-type", ""))[0] == JSON:
        return dict(object_of(await request.body()))
    form, found = await request.form(), dict[str, Any]()
    for name, value in form.multi_items():
        if isinstance(value, str):
            found[name] = [*found.get(name, []), value] if name.endswith("[]") else value
    return found


def done(request: Request, said: Mapping[str, Any], to: str) -> Response:
    """The answer to an action: what was done, for a script; the next page, for a form."""
    if wants_page(request):
        return RedirectResponse(to, 303)
    return JSONResponse({**plain(said), "to": to})


def choose(name: str, value: str, back: str) -> Response:
    """Remember a choice, and go back to the page on which it was made."""
    local = back.startswith("/") and not back.startswith(("//", "/\\"))
    answer = RedirectResponse(back if local else "/", 303)
    answer.set_cookie(name, value, max_age=YEAR, samesite="strict")
    return answer


def routes(app: FastAPI) -> None:
    """The choices that hold for every page, and its words."""

    for name, known in {"language": tuple(LANGUAGES), "theme": THEMES}.items():
        app.post(f"/studio/{name}", name=name)(choosing(name, known))

    @app.post("/studio/words")
    async def words(request: Request) -> Response:
        """Texts of operations, which scripts have been told, in the words of pages."""
        texts = object_of(await request.body()).get("texts")
        if not isinstance(texts, list) or len(texts) > MOST_TEXTS or not all(isinstance(one, str) for one in texts):
            raise Refusal(422, f"{MOST_TEXTS} texts at most are meant", where="texts")
        language = language_of(request)
        return JSONResponse({"texts": await asyncio.to_thread(lambda: [in_words(language, one) for one in texts])})


def choosing(name: str, known: Sequence[str]) -> Callable[[Request], Awaitable[Response]]:
    """What remembers one of the known values."""

    async def remember(request: Request) -> Response:
        form = await request.form()
        value = str(form.get("value", ""))
        if value not in known:
            raise Refusal(422, f"there are no pages in this {name}", fix=f"known: {', '.join(known)}")
        return choose(name, value, str(form.get("back", "/")))

    return remember
