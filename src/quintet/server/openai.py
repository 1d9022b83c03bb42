"""Routes that OpenAI's clients ask: models, completions, and images, speech and transcriptions where the task of a run
is that. What these models cannot do is refused with the reason.
"""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from quintet.core.codec import Codec
from quintet.core.errors import Unsupported, UsageError
from quintet.evaluation.tasks import made_with
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations import requests
from quintet.operations.answering import answer
from quintet.operations.fitted import Made
from quintet.registry import MODALITIES
from quintet.server.asked import NOBODY, STREAM, Asked, Seeded, Undone, asked, sent
from quintet.server.bodies import FORM, Upload
from quintet.server.completions import Completion, complete
from quintet.server.engine import Job
from quintet.server.formats import JSON, MEDIA
from quintet.server.limits import afford
from quintet.server.models import Served
from quintet.server.native import conditions_of, unless_left
from quintet.server.problems import Refusal, answers
from quintet.server.service import Service

PICTURES, SOUNDS = "image/", "audio/"
"""What the media types of items begin with."""


class Images(Seeded):
    """Images of a prompt, by a model of images given something, or of none."""

    undone: ClassVar[Mapping[str, Undone]] = {
        "response_format": Undone("nothing is kept here that an address could lead to", ("b64_json",)),
        "output_format": Undone("images are lossless", ("png",)),
        "output_compression": Undone("images are lossless", (100,)),
        "quality": Undone("a model has one", ("auto", "standard")),
        "style": Undone("a model has one"),
        "background": Undone("a model has one", ("auto",)),
        "moderation": Undone("prompts are what the model was trained on", ("auto", "low")),
        "partial_images": Undone("this answer comes as a whole", (0,)),
        "stream": STREAM,
        "user": NOBODY,
    }
    prompt: str = Field("", description="what the images are given: a label, a caption [drawn from the training data]")
    n: int = Field(1, ge=1, le=10_000_000, description="how many")
    size: str = Field("auto", description="WIDTHxHEIGHT, which is the model's own")


class Speech(Seeded):
    """The sound of a text, by a model of recordings given texts or labels."""

    undone: ClassVar[Mapping[str, Undone]] = {
        "voice": Undone("a model has one voice, called default", ("default",)),
        "speed": Undone("a model has one speed", (1,)),
        "instructions": Undone("a model is given the text alone", ("",)),
    }
    input: str = Field(description="the text")
    response_format: str = Field("wav", description="wav or flac")


class Transcription(Asked):
    """The text of a recording, by a model of texts given recordings."""

    undone: ClassVar[Mapping[str, Undone]] = {
        "response_format": Undone("the answer is JSON", (JSON.partition("/")[2],)),
        "stream": Undone("this answer comes as a whole", (False, "false", "False")),
        "language": Undone("a model knows the languages that it was trained on"),
        "prompt": Undone("a model is given the recording alone", ("",)),
    }
    temperature: float = Field(0, ge=0, le=1, description="0 takes the likeliest symbol at each step")
    seed: int = Field(0, ge=0, description="of a temperature above 0")


class Transcribed(BaseModel):
    """What a recording says."""

    text: str


# -- routes ------------------------------------------------------------------------------------------------------------


def routes(app: FastAPI, service: Service) -> None:
    """What OpenAI's clients ask, under the paths that they know."""

    @app.get("/v1/models")
    async def list_models() -> Response:
        """The models that can be asked, for OpenAI's clients."""
        return JSONResponse({"object": "list", "data": [listed(one) for one in service.models.served.values()]})

    @app.get("/v1/models/{model}")
    async def retrieve_model(model: str) -> Response:
        """One of them."""
        return JSONResponse(listed(service.models[model]))

    def post(path: str, ask: Callable[[Request, Service], Awaitable[Response]], body: type[Asked], media: str) -> None:
        async def route(request: Request) -> Response:
            return await ask(request, service)

        app.post(path, description=body.__doc__, name=body.__name__.lower(), response_class=Response,
                 responses=answers({media: {}}, JSON),
                 openapi_extra={"requestBody": described(body, list(service.models.served))},
                 )(route)  # fmt: skip

    post("/v1/completions", complete, Completion, JSON)
    post("/v1/images/generations", images, Images, JSON)
    post("/v1/audio/speech", speech, Speech, MEDIA[".wav"])
    post("/v1/audio/transcriptions", transcriptions, Transcription, JSON)

    @app.post("/v1/chat/completions", responses=answers({JSON: {}}, JSON))
    async def chat() -> Response:
        """Refused: no model here was taught to hold conversations."""
        raise Refusal(422, "models here hold no conversations", fix="POST /v1/completions with a prompt",
                      why="they go on from a text as those of their training data, and know no roles")  # fmt: skip


def listed(served: Served) -> dict[str, Any]:
    """A model as these clients know it."""
    return {"id": served.run.name, "object": "model", "created": served.created, "owned_by": "quintet"}


async def images(request: Request, service: Service) -> Response:
    """The answer to a request for images."""
    body = await asked(request, service, Images)
    work = partial(pictures, service, body)
    files = await unless_left(request, service.models.ask(body.model, work, service.request.deadline))
    data = [{"b64_json": base64.b64encode(file).decode()} for file in files]
    return JSONResponse({"created": int(time.time()), "output_format": "png", "data": data})


async def speech(request: Request, service: Service) -> Response:
    """The answer to a request for a sound."""
    body = await asked(request, service, Speech)
    suffix = f".{body.response_format}"
    if not MEDIA.get(suffix, "").startswith(SOUNDS):
        raise Refusal(400, "response_format: this format is not written", where="response_format", fix="wav or flac")
    work = partial(spoken, service, body, suffix)
    content = await unless_left(request, service.models.ask(body.model, work, service.request.deadline))
    return Response(content, media_type=MEDIA[suffix])


async def transcriptions(request: Request, service: Service) -> Response:
    """The answer to a request for the text of a recording."""
    body, file = await sent(request, service, Transcription, "file")
    work = partial(heard, service, body, file)
    text = await unless_left(request, service.models.ask(body.model, work, service.request.deadline))
    return JSONResponse(Transcribed(text=text).model_dump())


# -- in the thread of the model ----------------------------------------------------------------------------------------


def pictures(service: Service, body: Images, model: Fitted, job: Job) -> list[bytes]:
    """Images as files."""
    codec: Any = model.codecs["x"]
    wants(media_of(codec).startswith(PICTURES), model, "makes no images")
    height, width = getattr(codec, "inner", codec).shape[:2]
    if body.size not in ("auto", f"{width}x{height}"):
        raise UsageError("the model makes no images of this size", where="size",
                         fix=f"ask for {width}x{height}, or leave size out")  # fmt: skip
    if body.prompt and "cond" not in model.codecs:
        raise UsageError("this model takes no prompt", where="prompt", fix="send an empty prompt",
                         why="it was trained on images alone")  # fmt: skip
    request = requests.Sample(n=body.n, seed=body.chosen(), condition=body.prompt or None)
    made = sampled(service, request, Found(None), model, job)
    form = MODALITIES[codec.modality]
    return list(form.singles(made.items, made.note, codec, model.config.data.reading()))


def spoken(service: Service, body: Speech, suffix: str, model: Fitted, job: Job) -> bytes:
    """A sound as a file."""
    codec = model.codecs["x"]
    wants(media_of(codec).startswith(SOUNDS) and "cond" in model.codecs, model, "makes no sounds of texts")
    request = requests.Sample(n=1, seed=body.chosen(), condition=body.input)
    made = sampled(service, request, Found(None), model, job)
    return MODALITIES[codec.modality].encoded(suffix, made.items, made.note, codec, model.config.data.reading())


def heard(service: Service, body: Transcription, file: Upload, model: Fitted, job: Job) -> str:
    """The text of a recording."""
    given = model.codecs.get("cond")
    listens = given is not None and media_of(given).startswith(SOUNDS)
    wants(listens and model.codecs["x"].vocabulary is not None, model, "makes no texts of recordings")
    with tempfile.TemporaryDirectory(prefix="quintet-") as folder:
        found = Found(None, conditions_of(model, file, Path(folder), service.request.most_items))
    asked = {"temperature": body.temperature} if body.temperature else {}
    request = requests.Sample(n=1, seed=body.seed, sampling=made_with(model, asked))
    return str(sampled(service, request, found, model, job).items[0])


def sampled(service: Service, request: requests.Sample, found: Found, model: Fitted, job: Job) -> Made:
    """What a model makes, within the limits."""
    model.able("sample")
    afford(service.request, model, request, found)
    return answer("sample", model, request, found, job.step, steps=False)


def media_of(codec: Codec) -> str:
    """Of which media type a file with one item is; "" where no file holds one item."""
    return MEDIA.get(MODALITIES[codec.modality].single, "")


def wants(able: bool, model: Fitted, what: str) -> None:
    """Raise Unsupported for a model whose task is another."""
    if not able:
        given = model.config.data.condition
        task = f"its task is {model.config.data.target}" + (f" given {given}" if given else "")
        raise Unsupported(f"this model {what}", where=model.run.name, why=task, fix="POST /api/v1/sample")


# -- the schema --------------------------------------------------------------------------------------------------------


def described(body: type[Asked], models: list[str]) -> dict[str, Any]:
    """A body in the schema, of one of these models."""
    schema = body.model_json_schema()
    schema["properties"]["model"]["enum"] = models
    if body is not Transcription:
        return {"required": True, "content": {JSON: {"schema": schema}}}
    schema["properties"]["file"] = {"type": "string", "format": "binary"}
    schema["required"] = [*schema.get("required", []), "file"]
    return {"required": True, "content": {FORM: {"schema": schema}}}
