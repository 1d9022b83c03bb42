"""`POST /api/v1/VERB` for every verb that a loaded model answers: routes, bodies and refusals are made of the verbs'
own requests.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from fastapi import FastAPI, Request, Response

from quintet.core.codec import Codec
from quintet.core.errors import DataError, QuintetError, UsageError
from quintet.core.plain import plain
from quintet.modalities import Choices
from quintet.modalities.protocol import Modality
from quintet.model.containers import raw_items
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found, read_items
from quintet.operations.answering import NEEDS, VERBS, Verb, answer
from quintet.operations.conditions import read_conditions, typed
from quintet.operations.events import Event, Note
from quintet.operations.fitted import Made
from quintet.registry import FAMILIES, MODALITIES, RESULTS
from quintet.server.arrow import arrow_of, feather
from quintet.server.bodies import Body, Sent, Upload, body_of, media_types, received
from quintet.server.engine import Job
from quintet.server.formats import ARROW, JSON, MEDIA, SUFFIXES, accepted
from quintet.server.limits import afford, few_lines
from quintet.server.logs import log
from quintet.server.problems import Refusal, answers
from quintet.server.service import Service

A = TypeVar("A")
API = "/api/v1/"
"""What the paths of these routes begin with."""
TABLES = ("score", "rank", "classify", "encode")
"""Verbs whose answer is a table of results, whatever kind the items are of."""
OURS = frozenset(field for family in FAMILIES.values() for field in family.Sampling.model_fields) | {"sampling"}
"""Words that answers may repeat."""
HEADER = 2048
"""Bytes of the header with the note of an answer that is a file; proxies allow 4,096 or more for all together."""
LEFT = 499
"""The status of a request whose client has left, which it does not see any more."""


def routes(app: FastAPI, service: Service) -> None:
    """A route for each verb."""
    for name, verb in VERBS.items():
        body = body_of(name, verb, list(service.models.served))
        app.post(f"{API}{name}", description=verb.request.__doc__, name=name, response_class=Response,
                 responses=answers(formats(name)), openapi_extra={"requestBody": described(verb, body)},
                 )(endpoint(service, name, verb, body))  # fmt: skip


def endpoint(service: Service, name: str, verb: Verb, body: type[Body]) -> Callable[[Request], Awaitable[Response]]:
    """What answers a verb."""

    async def ask(request: Request) -> Response:
        sent = await received(request, verb, body)
        request.state.hidden = sent.texts - OURS - service.models.served.keys()
        request.state.facts = {"model": sent.model if sent.model in service.models.served else None}
        accept = request.headers.get("accept", "")
        work = partial(answered, service, name, verb, sent, accept)
        return await unless_left(request, service.models.ask(sent.model, work, service.request.deadline))

    return ask


async def unless_left(request: Request, work: Awaitable[A]) -> A:
    """What `work` gives; it is cancelled as soon as the client leaves."""
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left(request))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Refusal(LEFT, "the client has left")
        return await doing
    finally:
        doing.cancel()
        leaving.cancel()


async def left(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# -- in the thread of the model ----------------------------------------------------------------------------------------


def answered(
    service: Service, name: str, verb: Verb, sent: Sent, accept: str, model: Fitted, job: Job
) -> Response:  # fmt: skip
    """The answer of a model to what was sent, in the format that is accepted."""
    rows = bool(getattr(sent.request, "n_best", None))
    media = accepted(accept, offered(name, MODALITIES[model.codecs["x"].modality], rows))
    notes: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        job.step()

    for operation in NEEDS.get(name, (name,)):
        model.able(operation)
    if sent.items is None and sent.conditions is None:
        found = Found(None)
    else:
        with tempfile.TemporaryDirectory(prefix="quintet-") as folder:
            found = read(verb, model, sent, Path(folder), service.request.most_items)
    afford(service.request, model, sent.request, found)
    made = answer(name, model, sent.request, found, on_event, steps=False)
    return written(made, media, model, {"model": sent.model, "notes": notes})


def offered(name: str, modality: Modality, results: bool = False) -> list[str]:
    """In which media types the answer to a verb can be given, about items of this kind; `results`: as a table of them,
    whatever the verb.
    """
    if name == "evaluate":
        return [JSON]
    modality = RESULTS if results or name in TABLES else modality
    rows = [ARROW] if modality is RESULTS else []
    return [JSON, *rows, *(MEDIA[suffix] for suffix in modality.formats if suffix in MEDIA)]


def written(made: Made, media: str, model: Fitted, more: Mapping[str, Any]) -> Response:
    """What was made, in a format."""
    note = plain(made.note)
    if isinstance(note.get("data"), str):  # where it lies on this machine is nobody's business
        note["data"] = Path(note["data"]).name
    form = RESULTS if isinstance(made.items, pa.Table) else MODALITIES[model.codecs["x"].modality]
    reading = model.config.data.reading()
    if media == JSON:
        facts = {**more, **made.facts}
        facts.pop("run", None)
        if made.items is not None:
            facts["items"] = in_json(form, made.items, note, model.codecs["x"], reading)
        return Response(json.dumps({**plain(facts), "provenance": note}, allow_nan=False), media_type=JSON)
    if media == ARROW:
        content = arrow_of(made.items, note)
    else:
        content = form.encoded(SUFFIXES[media], made.items, note, model.codecs["x"], reading)
    return Response(content, media_type=media, headers={"X-Quintet-Provenance": short(note)})


def short(note: Mapping[str, Any]) -> str:
    """A note as a header, which proxies refuse where it is long: without its longest fields, whose names it has."""
    kept, without = dict(note), list[str]()
    while len(text := json.dumps(kept | ({"left_out": without} if without else {}))) > HEADER:
        without.append(max(kept, key=lambda name: len(json.dumps(kept[name]))))
        del kept[without[-1]]
    return text


def in_json(form: Modality, items: Any, note: Mapping[str, Any], codec: Codec, reading: Choices) -> list[Any]:
    """Items as JSON: rows, texts, arrays of numbers, or files of one item each in base64."""
    if isinstance(items, pa.Table):
        return items.to_pylist()
    if form.single:
        files = form.singles(items, note, codec, reading)
        return [base64.b64encode(content).decode() for content in files]
    return list(items)


# -- what was sent, as raw items ---------------------------------------------------------------------------------------


def read(verb: Verb, model: Fitted, sent: Sent, folder: Path, most: int) -> Found:
    """`found_of`; whatever else is raised over what was sent is the fault of that."""
    try:
        return found_of(verb, model, sent, folder, most)
    except QuintetError:
        raise
    except Exception as error:
        log("items not read", logging.WARNING, error)
        raise DataError("these items cannot be read", why=type(error).__name__) from None


def found_of(verb: Verb, model: Fitted, sent: Sent, folder: Path, most: int) -> Found:
    """Items and conditions as a loaded model takes them."""
    given = None if sent.conditions is None else conditions_of(model, sent.conditions, folder, most)
    if verb.needs != "items":
        return Found(None, given)
    found = items_of(model, sent.items, folder, most)
    found = found if given is None else replace(found, given=given)
    return found if sent.holes is None else masked(model, found, sent, folder)


def masked(model: Fitted, found: Found, sent: Sent, folder: Path) -> Found:
    """Items with the holes that a picture shows."""
    path = folder / "holes"
    path.write_bytes(decoded(str(sent.holes), "holes"))
    modality, known = MODALITIES[model.codecs["x"].modality], getattr(sent.request, "known", None)
    try:
        items, mask = modality.known(found.items, known, hole=str(path), reading=model.config.data.reading())
    except DataError as error:  # it says where the file lies
        raise DataError(error.what, where="holes", why=error.why if str(folder) not in error.why else "",
                        fix="give a PNG in which the holes are white and the rest is black") from None  # fmt: skip
    return replace(found, items=items, known=mask)


def items_of(model: Fitted, items: Any, folder: Path, most: int) -> Found:
    """Raw items, with the conditions that stand beside them."""
    codec = model.codecs["x"]
    place = stored(items, codec, folder, "items", most)
    if not isinstance(place, Path):
        return Found(raw_items(place, codec, model.config.data.target, model.config.data.reading()))
    forms = {name: form for one in model.codecs.values() for name, form in getattr(one, "forms", {}).items()}
    return replace(read_items(model.config, str(place), None, like=model.codecs, forms=forms), source=None)


def conditions_of(model: Fitted, given: Any, folder: Path, most: int) -> Any:
    """Raw conditions."""
    if "cond" not in model.codecs:
        raise UsageError("this model takes no condition", why="it was trained without a condition",
                         fix="leave the condition out")  # fmt: skip
    codec = model.codecs["cond"]
    place = stored(given, codec, folder, "conditions", most)
    if isinstance(place, Path):
        return read_conditions(model, place)
    if isinstance(place[0], Path):
        return raw_items(place, codec)
    return [typed(codec, one) if isinstance(one, str) else one for one in place]


def stored(values: Any, codec: Codec, folder: Path, name: str, most: int) -> Path | list[Any]:
    """Where the files that were sent, or rows, now lie: a source; or a list of items, or of the paths of pictures.

    Raises Refusal for what has more than `most` items, as far as that is known before it is read.
    """
    modality = MODALITIES[codec.modality]
    if isinstance(values, Upload):
        few_lines(values, most)
        path = folder / f"{name}{values.suffix}"
        path.write_bytes(feather(values.content, most) if values.suffix == ".arrow" else values.content)
        return [path] if values.suffix in modality.opens else path
    if modality.single and all(isinstance(one, str) for one in values):
        (folder / name).mkdir()
        paths = [folder / name / f"{i:07d}{modality.single}" for i in range(len(values))]
        for i, (path, one) in enumerate(zip(paths, values, strict=True)):
            path.write_bytes(decoded(one, f"item {i + 1}"))
        return paths if modality.opens else folder / name
    if all(isinstance(one, dict) for one in values):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in values))
        return path
    return list(values)


def decoded(text: str, where: str) -> bytes:
    """The file that a text in base64 is."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("expected a file encoded in base64", where=where) from None


# -- the schema --------------------------------------------------------------------------------------------------------


def described(verb: Verb, body: type[Body]) -> dict[str, Any]:
    """The body of a verb in the schema."""
    schema = body.model_json_schema()
    file = {"schema": {"type": "string", "format": "binary"}}
    return {"required": True, "content": {media: {"schema": schema} if media == JSON else file
                                          for media in media_types(verb)}}  # fmt: skip


def formats(name: str) -> dict[str, Any]:
    """The formats of the answer to a verb in the schema."""
    file = {"schema": {"type": "string", "format": "binary"}}
    media = [] if name == "evaluate" else [ARROW, *MEDIA.values()]
    return {JSON: {"schema": {"type": "object"}}} | dict.fromkeys(media, file)
