"""Data: ways to bring some; and what was understood of a source, where it can be corrected. All that is chosen stands
in the address, so that a reload, a second tab and the pages behind it have it too.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, RedirectResponse

from quintet.core.errors import QuintetError
from quintet.core.typed import as_yaml, read_yaml
from quintet.data.archives import PACKED, TAR, ZIP, is_archive
from quintet.operations.previewing import Preview
from quintet.operations.requests import DataRequest
from quintet.operations.sources import data as listed
from quintet.operations.spoken import shell
from quintet.registry import MODALITIES
from quintet.runs.config import DataSettings
from quintet.server.problems import Refusal, said
from quintet.sources.files import KNOWN
from quintet.sources.hub import PREFIX
from quintet.sources.load import SOURCES
from quintet.studio import sending
from quintet.studio.forms import filled, of_schema
from quintet.studio.house import Studio
from quintet.studio.pages import language_of, page, query
from quintet.studio.previews import Previews, within
from quintet.studio.uploads import MOST_BYTES, MOST_FILES, Uploads
from quintet.studio.words import catalogue

DOORS = tuple(dict.fromkeys(modality.door for modality in MODALITIES.values()))
AT_ONCE, PATIENCE = 0.8, 5.0
"""Seconds that a page waits for its source, and that its script does before it asks again."""
SUGGESTED, LOOKED_AT = 30, 5000
"""Paths that are offered while one is typed, and names that are looked at for it."""
COLUMNS = 150
"""Columns on a page."""
ONWARDS = {"new": "one", "compare": "all"}
"""The pages that go on with a source, and which part of the form of a new run each is."""
HUB = "huggingface.co/datasets/"
PLAIN = re.compile(r"[^\W\d_][\w .()/+-]*")
"""Names that stand in NAME=TYPE without quotes."""


@dataclass(frozen=True)
class Chosen:
    """What an address asks: a source, how it is read (as it is typed), what is given, and what is modelled; None where
    it says nothing of these.
    """

    source: str
    reading: Mapping[str, str]
    condition: str | None
    target: str | None

    @property
    def request(self) -> DataRequest:
        """The same for operations. Raises ConfigError."""
        return filled(DataRequest, {f"data.{name}": text for name, text in self.reading.items()}, source=self.source)

    def fields(self, **other: str | None) -> dict[str, str]:
        """As the fields of an address, or `other` ones."""
        reading = {f"data.{name}": text for name, text in self.reading.items()}
        found = {"source": self.source, **reading, "condition": self.condition, "target": self.target} | other
        return {name: text for name, text in found.items() if text is not None}

    def read(self) -> str:
        """The query of what is read, whatever is given and modelled."""
        return query(**self.fields(condition=None, target=None))


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, what it shows of items, and what it is sent."""
    previews, uploads = Previews(), Uploads(studio.root / ".studio" / "uploads")
    sending.routes(app, uploads)

    @app.get("/data")
    async def data(request: Request) -> Response:
        """Ways to bring data, or one source."""
        given = request.query_params
        if not source_of(given):
            return page(request, "data.html.j2", **ways(given.get("door", ""), uploads))
        asked = asked_of(given)
        if (then := given.get("then")) in ONWARDS:
            return RedirectResponse(onwards(asked)[then], 303)
        wanted = query(**asked.fields())
        if "again" in given:
            previews.forget(asked.request)
        if sorted(given.multi_items()) != sorted(QueryParams(wanted[1:]).multi_items()):
            return RedirectResponse(f"/data{wanted}", 303)
        facts: dict[str, Any] = {"asked": asked, "known": None, "error": None}
        try:
            future = previews.of(asked.request)
            if await within(future, AT_ONCE):
                if future.exception() is not None:
                    previews.forget(asked.request)
                preview, notes = future.result()
                facts["known"] = known(preview, notes, asked, catalogue(language_of(request)))
        except QuintetError as error:
            facts["error"] = said(error, True)
        return page(request, "source.html.j2", **facts)

    @app.get("/studio/data/read")
    async def read(request: Request) -> Response:
        """Whether a source has been read, as soon as it is so; its page shows it then."""
        asked = asked_of(request.query_params)
        return JSONResponse({"done": await within(previews.of(asked.request), PATIENCE)})

    @app.get("/studio/data/items/{number}")
    async def item(request: Request, number: int, part: str = "") -> Response:
        """An item as a file; of `part` picture, the picture beside what is heard."""
        future = previews.of(asked_of(request.query_params).request)
        if not await within(future, PATIENCE):
            raise Refusal(503, "the source is being read", fix="load the page again")
        cards = future.result()[0].cards
        if not 0 <= number < len(cards):
            raise Refusal(404, "no such item")
        card, headers = cards[number], {"Cache-Control": "private, max-age=3600"}
        if part == "picture":
            return Response(card.picture, media_type="image/png", headers=headers)
        return Response(card.content, media_type=card.media, headers=headers)

    @app.get("/studio/data/paths")
    async def paths(begin: str = "") -> Response:
        """Folders and files that can be read and begin like this."""
        return JSONResponse({"paths": await asyncio.to_thread(suggested, begin)})


# -- bringing data -----------------------------------------------------------------------------------------------------


def ways(door: str, uploads: Uploads) -> dict[str, Any]:
    """What the page shows of ways to bring data: those of a door first."""
    door = door if door in DOORS else ""
    found: list[dict[str, Any]] = []
    missing: list[dict[str, Any]] = []
    collections: dict[str, dict[str, Any]] = {}
    for entry in listed(DataRequest(), lambda event: None).sources:  # type: ignore[union-attr]
        family, _, member = entry["name"].partition("/")
        entry = entry | {"door": MODALITIES[entry["modality"]].door, "members": []}
        if not member:
            (missing if "error" in entry else found).append(entry)
        elif family in collections:
            collections[family]["members"].append(entry)
        else:
            collections[family] = entry | {"name": family, "about": "", "members": [entry]}
            (missing if "error" in entry else found).append(collections[family])
    here = [entry for entry in found if not door or entry["door"] == door]
    return {"door": door, "doors": DOORS, "sets": here, "missing": missing, "uploads": uploads.listed(),
            "most": {"files": MOST_FILES, "bytes": MOST_BYTES}, "home": str(Path.home()),
            "readable": sorted({*KNOWN, *ZIP, *TAR, *PACKED})}  # fmt: skip


def suggested(begin: str) -> list[str]:
    """Paths that begin with what is typed: folders, archives, and files of a kind that is read; not hidden ones."""
    try:
        path = Path(begin).expanduser()
        path = path if path.is_absolute() else Path.home() / path
        folder, name = (path, "") if begin.endswith("/") or not begin else (path.parent, path.name)
        with os.scandir(folder) as entries:
            found = []
            for _, entry in zip(range(LOOKED_AT), entries, strict=False):
                if not entry.name.lower().startswith(name.lower()) or entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    found.append(entry.path + "/")
                elif is_archive(entry.name) or any(suffix in KNOWN for suffix in Path(entry.name).suffixes[-2:]):
                    found.append(entry.path)
    except (OSError, ValueError, RuntimeError):  # a NUL in it, or the home of nobody
        return []
    return sorted(found, key=lambda one: (not one.endswith("/"), one.lower()))[:SUGGESTED]


# -- the address -------------------------------------------------------------------------------------------------------


def asked_of(given: QueryParams) -> Chosen:
    """What an address asks, or a form without scripts, which has a field `type:COLUMN` for each column."""
    reading = {name[5:]: text.strip() for name, text in given.items() if name.startswith("data.") and text.strip()}
    types = {name[5:]: text for name, text in given.items() if name.startswith("type:")}
    if types:
        kinds = {**wishes_of(reading.pop("types", "")), **types}
        reading |= as_text({name: kind for name, kind in kinds.items() if kind})
    condition = [one for one in given.getlist("condition") if one] if "condition" in given else None
    return Chosen(source_of(given), reading,
                 None if condition is None else ",".join(condition), given.get("target") or None)  # fmt: skip


def source_of(given: QueryParams) -> str:
    """The source of an address; of `hub`, a data set of the hub by its name or its address there."""
    if hub := given.get("hub", "").strip():
        return PREFIX + hub.removeprefix(PREFIX).removeprefix("https://").removeprefix(HUB).strip("/")
    return settled(given.get("source", ""))


def wishes_of(text: str) -> dict[str, str]:
    """What was said of columns; nothing if that is no way to say it."""
    try:
        return DataSettings.model_validate({"source": "-", "types": read_yaml(text, "", "") or None}).wishes
    except (QuintetError, ValidationError):
        return {}


def as_text(kinds: Mapping[str, str]) -> dict[str, str]:
    """What is said of columns as the setting `types`, if there is something: NAME=TYPE,... or, of other names, YAML."""
    if not kinds:
        return {}
    if all(PLAIN.fullmatch(name) and name == name.strip() for name in kinds):
        return {"types": ",".join(f"{name}={kind}" for name, kind in kinds.items())}
    return {"types": as_yaml(kinds)}


def settled(source: str) -> str:
    """A source as it can be named anywhere: a path is made a full one, also one that is pasted with quotes or as the
    address of a file, or that begins in the folder of the user.
    """
    source = source.strip()
    if len(source) > 1 and source[0] == source[-1] and source[0] in "'\"":
        source = source[1:-1]
    if source in SOURCES or source.startswith(PREFIX) or not source:
        return source
    try:
        path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source).expanduser()
        found = next((one for one in (path.absolute(), Path.home() / path) if one.exists()), None)
    except (OSError, ValueError, RuntimeError):
        return source
    return source if found is None else str(found)


# -- a source ----------------------------------------------------------------------------------------------------------


def known(preview: Preview, notes: Iterable[str], asked: Chosen, words: Mapping[str, str]) -> dict[str, Any]:
    """What the page shows of a source."""
    found = preview.found
    given = preview.label if asked.condition is None else asked.condition
    dropped = [
        {"name": name, "dropped": True, "missing": 0}
        for name, kind in preview.wishes.items()
        if kind == "drop" and preview.typed
    ]
    columns = [*found.columns, *dropped]
    names = [one["name"] for one in [*columns, *found.labels] if not one.get("dropped")][:COLUMNS]
    schema = DataSettings.model_json_schema()["properties"]
    hidden = {"types"} if names or "types" in preview.options else {"types", "group", "time"}  # which name columns
    return {
        "found": found, "preview": preview, "columns": columns[:COLUMNS], "left": len(columns) - len(columns[:COLUMNS]),
        "given": [one.strip() for one in given.split(",") if one.strip()], "names": names,
        "facts": {words.get(f"data.fact.{key}", key): in_words(value) for key, value in found.understood.items()},
        "notes": [*found.notes, *(text for text in notes if text not in found.notes)],
        "options": [of_schema("data", name, schema[name], schema[name].get("default"), tuple(names))
                    for name in preview.options if name not in hidden],
        "read": asked.read(), "command": shell(asked.request), **onwards(replace(asked, condition=given)),
    }  # fmt: skip


def onwards(asked: Chosen) -> dict[str, str]:
    """The pages that go on with a source as it is read; all families are compared on whole items alone."""
    fields = {"new": asked.fields(), "compare": asked.fields(target=None)}
    return {then: f"/new{query(**fields[then])}#{part}" for then, part in ONWARDS.items()}


def in_words(value: Any) -> str:
    """A fact: a number, or several."""
    if isinstance(value, list):
        return " – ".join(in_words(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if isinstance(value, float) else str(value)
