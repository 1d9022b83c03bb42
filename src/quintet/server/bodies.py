"""What requests bring: strict JSON, or items in a file format beside fields in the query or in a form. Values are
checked by the request of their verb, and those that name files of this machine are not among its fields.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, Strict, ValidationError, create_model
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.requests import Request

from quintet.core.errors import UsageError
from quintet.core.settings import in_words
from quintet.operations import requests
from quintet.operations.answering import Verb
from quintet.server.formats import ARROW, JSON, SUFFIXES, media_of
from quintet.server.problems import Refusal

LARGE = 65_536
"""Bytes from which a body is read in another thread, so that others are answered meanwhile."""
FORM = "multipart/form-data"
FILES = {"items": "items", "conditions": "what each item is given, one for all or one an item"}
"""Fields that may come as files."""


@dataclass(frozen=True)
class Upload:
    """A file that was sent: its content, and the suffix that says how it is read."""

    content: bytes
    suffix: str


@dataclass(frozen=True)
class Sent:
    """What a request brought. `items` and `conditions` are lists of JSON values or uploads, None where there are none;
    `holes`: a picture in base64, white where the items have holes; `texts` are all that answers must not repeat.
    """

    model: str
    request: requests.Request
    items: Any
    conditions: Any
    texts: frozenset[str]
    holes: str | None = None


# -- the fields of a verb ----------------------------------------------------------------------------------------------

Condition = str | int | float | bool | dict[str, JsonValue] | None


class Body(BaseModel):
    """Base of all bodies: unknown fields and numbers that are none are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


def body_of(name: str, verb: Verb, models: list[JsonValue]) -> type[Body]:
    """The body of a verb: the fields of its request, one of these models, and what comes beside it."""
    told = "the name of a run: see /api/v1/models"
    fields: dict[str, Any] = {"model": (str, Field(description=told, json_schema_extra={"enum": models}))}
    for field, info in verb.request.model_fields.items():
        kind: Any = Condition if field == "condition" else info.annotation
        if get_origin(kind) is tuple:  # JSON has lists alone
            kind = Annotated[kind, Strict(False)]
        if field != "stream":
            fields[field] = (kind, info)
    values = list[JsonValue]
    if verb.needs == "items":
        told = "texts, rows as objects, numbers, or files of one item each in base64"
        fields["items"] = (values, Field(min_length=1, description=told))
    if verb.needs:
        told = "what each item is given, instead of one condition for all"
        if "condition" in verb.request.model_fields:
            fields["conditions"] = (values | None, Field(None, min_length=1, description=told))
        else:
            fields["conditions"] = (values, Field(min_length=1, description="what each item is given"))
    if "known" in verb.request.model_fields:
        told = "of pictures, instead of known: one in base64 in which the holes of all of them are white"
        fields["holes"] = (str | None, Field(None, description=told))
    return create_model(f"{name.capitalize()}Body", __base__=Body, __doc__=verb.request.__doc__, **fields)


def media_types(verb: Verb) -> list[str]:
    """In which formats the body of a verb may come."""
    return [JSON, *([FORM, ARROW, *SUFFIXES] if verb.needs else [])]


# -- reading -----------------------------------------------------------------------------------------------------------


async def received(request: Request, verb: Verb, body: type[Body]) -> Sent:
    """What a request brought. Raises Refusal: 400 for what is no JSON, 415 for other formats, 422 for its values."""
    media, parameters = media_of(request.headers.get("content-type", JSON))
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refusal(415, "only UTF-8 is read")
    if media == FORM and verb.needs:
        return await from_form(request, verb, body)
    content = await request.body()
    if media == JSON:
        return await aside(len(content), from_text, content, verb, body)
    if media not in (ARROW, *SUFFIXES) or not verb.needs:
        raise Refusal(415, "bodies of this format are not read", why=f"known: {', '.join(media_types(verb))}")
    name = "items" if verb.needs == "items" else "conditions"
    files = {name: Upload(content, SUFFIXES.get(media, ".arrow"))}
    return from_words(request.query_params.multi_items(), files, verb, body)


async def aside(size: int, work: Any, *given: Any) -> Any:
    """What `work` makes of what was given, in another thread where that is large."""
    return work(*given) if size < LARGE else await asyncio.to_thread(work, *given)


async def from_form(request: Request, verb: Verb, body: type[Body]) -> Sent:
    """Files in parts called items and conditions; fields in parts of their names, or in one called request, as JSON."""
    async with request.form(max_files=2, max_fields=64, max_part_size=LARGE) as form:
        files, words = {}, []
        for name, part in form.multi_items():
            if isinstance(part, UploadFile):
                if name not in FILES or name in files:
                    raise Refusal(422, "files are called items or conditions, one each")
                files[name] = Upload(await part.read(), suffix_of(part))
            else:
                words.append((name, part))
    if len(words) == 1 and words[0][0] == "request":
        return from_text(words[0][1].encode(), verb, body, files)
    return from_words(words, files, verb, body)


def suffix_of(part: UploadFile) -> str:
    """How a file is read: by its media type, or by its name."""
    media, _ = media_of(part.content_type or "")
    named = "." + (part.filename or "").rpartition(".")[2].lower()
    suffix = ".arrow" if media == ARROW else SUFFIXES.get(media) or (named if named in SUFFIXES.values() else "")
    if not suffix:
        raise Refusal(415, "files of this format are not read", why=f"known: {ARROW}, {', '.join(SUFFIXES)}")
    return suffix


def from_text(content: bytes, verb: Verb, body: type[Body], files: Mapping[str, Upload] | None = None) -> Sent:
    """Of JSON."""
    values = object_of(content)
    return checked(values, files or {}, verb, body, frozenset(texts_in(values)))


def object_of(content: bytes) -> dict[str, Any]:
    """The object that is JSON, in which numbers are finite and texts are Unicode."""
    try:
        values = from_json(content, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise Refusal(400, "this is no JSON", why=str(error)) from None
    if not isinstance(values, dict):
        raise Refusal(422, "a body is an object of fields")
    if not all(map(finite, leaves(values))):
        raise Refusal(400, "this is no JSON", why="a number is beyond those that can be computed with")
    return values


def from_words(words: Iterable[tuple[str, str]], files: Mapping[str, Upload], verb: Verb, body: type[Body]) -> Sent:
    """Of texts by the names of fields, sampling.FIELD for the settings of sampling; several of a name are a list."""
    values: dict[str, Any] = {}
    for name, word in words:
        section, dot, field = name.partition(".")
        if dot:
            values.setdefault(section, {})[field] = word
        elif name == "stop":
            values.setdefault(name, []).append(word)
        elif name in values:
            raise Refusal(422, "a field was given twice")
        else:
            values[name] = word
    return checked(values, files, verb, body, frozenset(texts_in(values)), strict=False)


def checked(
    values: dict[str, Any], files: Mapping[str, Upload], verb: Verb, body: type[Body], texts: frozenset[str],
    strict: bool | None = None,
) -> Sent:  # fmt: skip
    """The request of a verb from its fields. Raises Refusal 422 in words that do not repeat them."""
    stand_in = {name: [None] for name in files}
    try:
        given = body.model_validate(values | stand_in, strict=strict)
    except ValidationError as error:
        raise refused(error, body) from None
    fields = {name: value for name, value in given if name in verb.request.model_fields}
    if "condition" in fields:
        fields["condition"] = typed(fields["condition"])
        if fields["condition"] is not None and getattr(given, "conditions", None):
            raise UsageError("condition and conditions were both given", fix="give only one of them",
                             why="both say which conditions the items are made for")  # fmt: skip
    beside = {name: files.get(name, getattr(given, name, None)) for name in FILES}
    holes = getattr(given, "holes", None)
    return Sent(given.model, verb.request(**fields), **beside, texts=texts - set(body.model_fields), holes=holes)  # type: ignore[attr-defined]


def refused(error: ValidationError, body: type[BaseModel], status: int = 422) -> Refusal:
    """pydantic's first complaint: which field, and what it is to be."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] and first["loc"][0] in body.model_fields else ""
    if first["type"] == "missing":
        return Refusal(status, f"{name} is missing", where=name, why=body.model_fields[name].description or "")
    if first["type"] == "extra_forbidden" and not name:
        return Refusal(status, "an unknown field", why=f"known: {', '.join(body.model_fields)}")
    return Refusal(status, f"{name}: {in_words(first)}", where=name)


def typed(condition: Condition) -> str | None:
    """A condition as it is typed."""
    import json

    if condition is None or isinstance(condition, str):
        return condition
    return json.dumps(condition) if isinstance(condition, dict) else str(condition)


# -- JSON values -------------------------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """All that is no list and no object, and the names in objects."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        else:
            yield one


def texts_in(value: Any) -> Iterator[str]:
    """All texts."""
    return (one for one in leaves(value) if isinstance(one, str))


def finite(one: Any) -> bool:
    return not isinstance(one, float) or math.isfinite(one)
