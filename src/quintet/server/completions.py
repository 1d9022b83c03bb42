"""`POST /v1/completions`: texts that go on from prompts, whole or piece by piece as they are written."""

from __future__ import annotations

import asyncio
import codecs
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from quintet.core.errors import QuintetError
from quintet.core.settings import LARGEST_NUMBER
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.model.writing import Text, Wanted, Writer
from quintet.operations import requests
from quintet.operations.conditions import one
from quintet.server.asked import NOBODY, Seeded, Undone, asked
from quintet.server.bodies import Body
from quintet.server.engine import Job
from quintet.server.limits import afford
from quintet.server.native import unless_left
from quintet.server.problems import Refusal, problem
from quintet.server.service import Service

SYMBOLS = 16
"""How many new symbols a text has at most where nobody says it."""

Stop = Annotated[str, Field(min_length=1)]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = Body.model_config
    include_usage: bool = Field(False, description="one more piece says how many symbols were read and written")


class Completion(Seeded):
    """Texts that go on from prompts."""

    undone: ClassVar[Mapping[str, Undone]] = {
        "suffix": Undone("texts are written from left to right, up to no given end", ("",)),
        "best_of": Undone("every text that is written is given", (1,)),
        "logit_bias": Undone("symbols are chosen as the model likes them", ({},)),
        "frequency_penalty": Undone("symbols are chosen as the model likes them", (0,)),
        "presence_penalty": Undone("symbols are chosen as the model likes them", (0,)),
        "user": NOBODY,
    }
    prompt: str | list[str] = Field("", description="a text, or several")
    condition: str | None = Field(None, description="what the texts are given, of a model of texts given something")
    max_tokens: int | None = Field(
        None, ge=1, le=LARGEST_NUMBER, description=f"symbols behind the prompt at most [{SYMBOLS}]"
    )
    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the likeliest symbol [the run's own]")
    top_p: float | None = Field(None, gt=0, le=1, description="the smallest set of this mass [the run's own]")
    n: int = Field(1, ge=1, le=1024, description="texts of each prompt")
    stop: Stop | list[Stop] = Field([], max_length=4, description="a text ends before one of these")
    echo: bool = Field(False, description="with the prompt before the text")
    logprobs: int | None = Field(None, ge=0, le=5, description="the so many likeliest symbols at each step")
    stream: bool = Field(False, description="piece by piece")
    stream_options: StreamOptions | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _of_texts(cls, given: Any) -> Any:
        if isinstance(given, list) and any(isinstance(one, int | list) for one in given):
            raise PydanticCustomError("symbols", "symbols are each run's own, so that a prompt is a text")
        return given

    @property
    def reads(self) -> bool:
        """Whether the likelihood of the prompts is wanted too."""
        return self.echo and self.logprobs is not None


# -- the answer --------------------------------------------------------------------------------------------------------


class Logprobs(BaseModel):
    """Symbols with their log-probabilities in nats; offsets are places in the text of the answer."""

    tokens: list[str] = []
    token_logprobs: list[float] = []
    top_logprobs: list[dict[str, float]] = []
    text_offset: list[int] = []


class Choice(BaseModel):
    """A text, or its next piece."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None


class Usage(BaseModel):
    """How many symbols were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Writing:
    """A text on its way: what of it was not told yet."""

    def __init__(self, index: int, writer: Writer, text: Text, prefix: str, likely: bool) -> None:
        self.index, self.text, self.likely, self.pieces = index, text, likely, writer.pieces
        self.blank = writer.blank[index]  # the first symbol begins with the blank that the prompt ends in
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.prefix, self.place, self.end = prefix, len(text.prompt), len(prefix)
        self.read = len(text.continuation.forced)  # symbols of the prompt that are told
        self.told, self.offset = 0, 0  # symbols, and where in the answer the next one begins

    @property
    def done(self) -> bool:
        """Whether it is at its end, and neither failed nor given up."""
        return self.text.finished and self.text.ended in ("stop", "length")

    def more(self) -> Choice | None:
        """What is new of it, None for nothing."""
        return self._choice(None) if self.prefix or len(self.text.text) > self.place else None

    def last(self) -> Choice:
        """What is new of it at its end, and why it ended."""
        return self._choice(self.text.ended)

    def _choice(self, reason: Any) -> Choice:
        now = self.text.text
        piece = self.prefix + now[self.place :]
        self.end += len(now) - self.place
        self.place, self.prefix = len(now), ""
        return Choice(index=self.index, text=piece, logprobs=self._symbols() if self.likely else None,
                      finish_reason=reason)  # fmt: skip

    def _symbols(self) -> Logprobs:
        """The symbols that the text so far is made of; those of a stop text are not of it."""
        out, one = Logprobs(), self.text.continuation
        while self.told < len(self.text.tokens) and self.offset < self.end:
            token, symbol = self.text.tokens[self.told], one.symbols[one.start - self.read + self.told]
            strip = " " if self.blank and self.told == self.read else ""
            self.offset += len(strip) if self.read else 0
            out.tokens.append(token.text.removeprefix(strip))
            out.token_logprobs.append(token.log_prob)
            best: dict[str, float] = {}
            for spelt, log_prob in (*token.best, (token.text, token.log_prob)):
                best.setdefault(spelt.removeprefix(strip), log_prob)
            out.top_logprobs.append(best)
            out.text_offset.append(self.offset)
            self.offset += len(self.decoder.decode(self.pieces[symbol].removeprefix(strip.encode())))
            self.told += 1
        return out


# -- in the thread of the model ----------------------------------------------------------------------------------------

Tell = Callable[[str, Choice], None]
"""Told each piece, and which weights write it."""


def written(
    service: Service, body: Completion, tell: Tell, model: Fitted, job: Job
) -> tuple[str, list[Choice], Usage]:  # fmt: skip
    """(which weights wrote, the texts, usage). Of a stream, `tell` is told each piece as soon as it is certain, the
    last of a text as soon as that ends, and only what was not told is left.
    """
    writer = writer_of(service, body, model)
    texts, mark = writer.begin(body.logprobs, prompts=body.reads), weights_of(model)
    all_of = [Writing(i, writer, text, text.prompt if body.echo else "", body.logprobs is not None)
              for i, text in enumerate(texts)]  # fmt: skip
    left = all_of
    for _ in writer.run(texts, steps=body.stream):
        job.step()
        if body.stream:
            for writing in left:
                piece = writing.last() if writing.done else writing.more()
                if piece is not None:
                    tell(mark, piece)
            left = [writing for writing in left if not writing.done]
    read, wrote = int(writer.begins.sum()), sum(text.progress[0] for text in texts)
    usage = Usage(prompt_tokens=read, completion_tokens=wrote, total_tokens=read + wrote)
    return mark, [writing.last() for writing in left], usage


def writer_of(service: Service, body: Completion, model: Fitted) -> Writer:
    """The model at work on what is asked for, which is within the limits. Text i is the i-th of its seed."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    prompts = [prompt for prompt in prompts for _ in range(body.n)]
    if not prompts:
        raise Refusal(400, "prompt: at least one text", where="prompt")
    stop = [body.stop] if isinstance(body.stop, str) else body.stop
    length = body.max_tokens or SYMBOLS
    if not model.codecs["x"].stream:  # then a text has so many symbols at most, however many are allowed
        length = min(length, model.family.space.dims)
    chosen = {"temperature": body.temperature, "top_p": body.top_p}
    drawn = {"beams": 1} if "beams" in model.family.Sampling.model_fields else {}  # these clients search for no text
    sampling = drawn | {name: value for name, value in chosen.items() if value is not None}
    model.able("complete")
    condition = None if body.condition is None else one(model, body.condition)
    wanted = Wanted(prompts, condition, length, stop, seed=body.chosen(), sampling=sampling)
    read = max(len(prompt.encode()) for prompt in prompts) if body.reads else 0
    afford(service.request, model, requests.Sample(n=len(prompts), length=length + read), Found(None))
    return Writer(model, wanted)


def weights_of(model: Fitted) -> str:
    """By which weights an answer was made, in a word."""
    used = model.run.used()
    return "none" if used is None else used.sha256[:12]


# -- the route ---------------------------------------------------------------------------------------------------------


async def complete(request: Request, service: Service) -> Response:
    """The answer to a request for texts."""
    body = await asked(request, service, Completion)
    if body.stream_options is not None and not body.stream:
        raise Refusal(400, "stream_options without stream", where="stream_options")
    head = {"id": f"cmpl-{request.state.identifier}", "object": "text_completion", "created": int(time.time()),
            "model": body.model}  # fmt: skip
    if body.stream:
        return await streamed(request, service, body, head)
    work = partial(written, service, body, lambda *_: None)
    mark, choices, usage = await unless_left(request, service.models.ask(body.model, work, service.request.deadline))
    return JSONResponse(head | {"system_fingerprint": mark, "choices": [one.model_dump() for one in choices],
                                "usage": usage.model_dump()})  # fmt: skip


async def streamed(request: Request, service: Service, body: Completion, head: Mapping[str, Any]) -> Response:
    """The answer piece by piece. What fails before the first piece is an answer like any other."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()
    counts = body.stream_options is not None and body.stream_options.include_usage

    def piece(mark: str, choices: Sequence[Choice], usage: Usage | None = None) -> str:
        told = {"usage": usage and usage.model_dump()} if counts else {}
        choices_now = [choice.model_dump() for choice in choices]
        return event({**head, "system_fingerprint": mark, "choices": choices_now, **told})

    def tell(mark: str, choice: Choice) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece(mark, [choice]))

    work = partial(written, service, body, tell)
    doing = asyncio.ensure_future(service.models.ask(body.model, work, service.request.deadline))
    doing.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        first = await unless_left(request, pieces.get())
        if first is None:
            await doing
    except BaseException:
        doing.cancel()
        raise

    async def events() -> AsyncIterator[str]:
        now = first
        try:
            while now is not None:
                yield now
                now = await pieces.get()
            mark, last, usage = await doing
        except QuintetError as error:
            told = problem(error, request.state.identifier, request.state.hidden, request.url.path)
            yield f"data: {bytes(told.body).decode()}\n\n"
            return
        for choice in last:
            yield piece(mark, [choice])
        if counts:
            yield piece(mark, [], usage)
        yield "data: [DONE]\n\n"

    return Events(events(), doing)


def event(value: Mapping[str, Any]) -> str:
    """A value as an event of a stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


class Events(StreamingResponse):
    """Events as they come; whatever becomes of the answer, nothing is done for it afterwards."""

    def __init__(self, events: AsyncIterator[str], doing: asyncio.Future[Any]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self.doing = doing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.doing.cancel()
