"""What requests of OpenAI's clients have in common: their fields are done or refused with the reason, none is passed
over in silence.
"""

from __future__ import annotations

import secrets
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from quintet.core.settings import LARGEST_NUMBER
from quintet.server.bodies import FORM, LARGE, Body, Upload, aside, object_of, refused, suffix_of, texts_in
from quintet.server.formats import JSON, media_of
from quintet.server.native import OURS
from quintet.server.problems import Refusal
from quintet.server.service import Service


class Undone(NamedTuple):
    """A field that is refused, and why, unless it has one of the values that ask for nothing."""

    why: str
    allowed: tuple[Any, ...] = ()


NOBODY = Undone("this server tells no users apart")
STREAM = Undone("this answer comes as a whole", (False,))


class Asked(BaseModel, ABC):
    """Base of bodies in which a field that is null is one that is not there."""

    model_config = Body.model_config
    undone: ClassVar[Mapping[str, Undone]] = {}
    model: str = Field(description="the name of a run: see /v1/models")


class Seeded(Asked, ABC):
    """Base of bodies that ask for something random."""

    seed: int | None = Field(None, ge=0, le=LARGEST_NUMBER, description="the same seed gives the same answer [any]")

    def chosen(self) -> int:
        """The seed, or one that nobody knows."""
        return secrets.randbelow(LARGEST_NUMBER) if self.seed is None else self.seed


B = TypeVar("B", bound=Asked)


async def asked(request: Request, service: Service, body: type[B]) -> B:
    """What JSON asks for. Raises Refusal: 400 for what is no JSON, unknown fields and their values, 415 otherwise."""
    media, parameters = media_of(request.headers.get("content-type", JSON))
    if media != JSON or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise Refusal(415, "bodies of this format are not read", why=f"known: {JSON} in UTF-8")
    content = await request.body()
    return checked(request, service, body, await aside(len(content), object_of, content), strict=True)


async def sent(request: Request, service: Service, body: type[B], file: str) -> tuple[B, Upload]:
    """What a form asks for, and the file in it."""
    if media_of(request.headers.get("content-type", ""))[0] != FORM:
        raise Refusal(415, "bodies of this format are not read", why=f"known: {FORM}")
    async with request.form(max_files=1, max_fields=32, max_part_size=LARGE) as form:
        words, upload = dict[str, Any](), None
        for name, part in form.multi_items():
            if isinstance(part, UploadFile) != (name == file):
                raise Refusal(400, f"{file} is a file, and nothing else is")
            if isinstance(part, UploadFile):
                upload = Upload(await part.read(), suffix_of(part))
            else:
                words[name] = part
    if upload is None:
        raise Refusal(400, f"{file} is missing", where=file)
    return checked(request, service, body, words, strict=False), upload


def checked(request: Request, service: Service, body: type[B], values: Mapping[str, Any], *, strict: bool) -> B:
    """A body of these values, which no answer and no line of the log repeats."""
    name = values.get("model")
    request.state.facts = {"model": name if isinstance(name, str) and name in service.models.served else None}
    given = {field: value for field, value in values.items() if value is not None}
    for field, (why, allowed) in body.undone.items():
        if field in given and given.pop(field) not in allowed:
            raise Refusal(400, f"{field} is not done here", where=field, why=why, fix=f"leave {field} out")
    try:
        made = body.model_validate(given, strict=strict)
    except ValidationError as error:  # its words are pydantic's and ours, none of what was sent
        raise refused(error, body, 400) from None
    request.state.hidden = frozenset(texts_in(values)) - OURS - body.model_fields.keys() - service.models.served.keys()
    return made
