"""New run: which family to train, or all of them, on which data and with which settings; and the command for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse, RedirectResponse

from quintet.core.errors import QuintetError
from quintet.core.plain import plain
from quintet.operations.requests import CompareRequest, TrainRequest
from quintet.operations.results import Result
from quintet.operations.spoken import command, python, shell
from quintet.registry import COMPARED, FAMILIES, MODALITIES
from quintet.runs.config import Preset, RunConfig
from quintet.runs.folder import runs_root
from quintet.server.problems import Refusal, said
from quintet.studio import forms
from quintet.studio.house import Studio, run_of
from quintet.studio.pages import address, language_of, page, query
from quintet.studio.source import Looked, looked_at
from quintet.studio.words import meaning

T = TypeVar("T")
Form = Mapping[str, str]
BUDGETS = ("60s", "5m", "15m", "1h")
"""Times for a run that can be had by one click."""
ACTION = "do"
"""The name of the buttons: what is to be done with the form."""


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, and what a browser sends of it."""

    @app.get("/new")
    async def new(request: Request, source: str = "", like: str = "") -> Response:
        """The form: for a source, as a run was made, or with what else of it stands in the address."""
        begin = made_like(studio, like) if like else {"data": source}
        begin |= {name: text for name, text in request.query_params.items()
                  if "." in name or name in TrainRequest.model_fields or name in ("seeds", "families")}  # fmt: skip
        families = {name: family.about for name, family in FAMILIES.items()}
        return page(request, "new.html.j2", begin=begin, like=like, families=families, compared=COMPARED,
                    presets=get_args(Preset), budgets=BUDGETS)  # fmt: skip

    @app.post("/new")
    async def begin(request: Request) -> Response:
        """Add to the queue what the form of a browser without scripts asks for."""
        sent = await request.form()
        form = {name: ",".join(map(str, sent.getlist(name))) for name in sent}
        return RedirectResponse(await asyncio.to_thread(added, studio, form), 303)

    @app.post("/studio/new/add")
    async def add(request: Request) -> Response:
        """The same for the script, which is told where to go then."""
        form = await sent(request)
        return JSONResponse(await asyncio.to_thread(tried, lambda: {"to": added(studio, form)}))

    @app.post("/studio/new/spoken")
    async def spoken(request: Request) -> Response:
        """The command and the Python of a comparison and of one training, or why there is none."""
        form = await sent(request)
        return JSONResponse(await asyncio.to_thread(in_words, studio, form))

    answers(app, studio)


def answers(app: FastAPI, studio: Studio) -> None:
    """What the script asks of the data, which takes long: in threads, a piece at a time."""
    busy = asyncio.Lock()

    async def told(request: Request, form: Form, ask: Callable[[Looked], Any]) -> Response:
        """What is found out of the source of a form, once what was asked before is done."""

        def find() -> Any:
            found = ask(looked_at(train(studio, form)))
            return found.facts() if isinstance(found, Result) else found

        async with busy:
            if await request.is_disconnected():
                raise Refusal(499, "the client has left")
            return JSONResponse(plain(await asyncio.to_thread(tried, find)))

    @app.post("/studio/new/data")
    async def data(request: Request) -> Response:
        """What can be modelled and given, and which families cannot do it."""
        return await told(request, await sent(request), Looked.facts)

    @app.post("/studio/new/advice")
    async def advice(request: Request) -> Response:
        """Which family to begin with for each purpose, and why."""
        form = await sent(request)
        return await told(request, form, partial(Looked.advice, budget=form.get("budget") or BUDGETS[0]))

    @app.post("/studio/new/fields")
    async def fields(request: Request) -> Response:
        """Every setting, with the value that holds without a change."""
        form = await sent(request)
        language = language_of(request)
        usual = {name: text for name, text in form.items() if "." not in name or name.startswith("data.")}

        def found(look: Looked) -> list[dict[str, Any]]:
            asks = train(studio, usual)
            return [asdict(one) | {"key": one.key, "means": meaning(language, one.about)} for one in look.fields(asks)]

        return await told(request, form, found)

    @app.post("/studio/new/check")
    async def check(request: Request) -> Response:
        """What a training will take of this machine, or why it is refused."""
        form = await sent(request)
        return await told(request, form, lambda look: look.estimate(train(studio, form)))

    @app.get("/studio/new/like")
    async def like(request: Request, run: str) -> Response:
        """The settings of a run that are not those of its preset, as the form has them."""
        begin, config = made_like(studio, run), config_of(studio, run)
        return await told(request, begin, lambda look: look.changes(train(studio, begin), config))


async def sent(request: Request) -> Form:
    """What the script sends of the form: texts by name."""
    try:
        form = await request.json()
    except ValueError:
        form = None
    if not isinstance(form, dict) or not all(isinstance(value, str) for value in form.values()):
        raise Refusal(422, "a form is an object of texts")
    return form


# -- from the form to what it asks for ---------------------------------------------------------------------------------


def train(studio: Studio, form: Form) -> TrainRequest:
    """One training, of a form with settings."""
    return forms.train_request(form, runs=folder_of(studio))


def compare(studio: Studio, form: Form) -> CompareRequest:
    """All families, of the same form."""
    return forms.compare_request(form, runs=folder_of(studio))


def folder_of(studio: Studio) -> Path | None:
    """The folder of runs, where the command line must be told."""
    return None if studio.root == runs_root().absolute() else studio.root


def in_words(studio: Studio, form: Form) -> dict[str, Any]:
    """Each request of a form in words, or what is wrong with it."""

    def words(ask: Callable[[Studio, Form], TrainRequest | CompareRequest]) -> dict[str, str]:
        request = ask(studio, form)
        return {"command": shell(request), "python": python(request)}

    return {"compare": tried(partial(words, compare)), "train": tried(partial(words, train))}


def tried(work: Callable[[], Any]) -> Any:
    """What some work gives, or {"problem"}: what is typed is refused all the time, and no failure of the page."""
    try:
        return work()
    except QuintetError as error:
        return {"problem": said(error, True)}


def added(studio: Studio, form: Form) -> str:
    """Add what a form asks for to the queue. Returns the address where it can be watched. What is wrong with it is said
    here, not when its turn comes.
    """
    source = Path(form.get("data", "")).name
    if form.get(ACTION) == "compare":
        contest = compare(studio, form)
        looked_at(contest).check(contest)
        job = studio.queue.add(command(contest), f"compare {source}", None)
        return f"/compare/{address(job.run)}"
    request = train(studio, form)
    looked_at(request).plan(request)
    job = studio.queue.add(command(request), f"{request.family} {source}", request.run)
    return "/queue" + query(job=job.id)


def made_like(studio: Studio, run: str) -> dict[str, str]:
    """The form with which a run was made, but its settings."""
    asked = config_of(studio, run)
    found = {"data": asked.data.source, "target": asked.data.target, "condition": asked.data.condition,
             "family": asked.family, "preset": asked.preset, "seed": asked.seed, "steps": asked.steps,
             "codec": None if asked.codec in MODALITIES else asked.codec,
             "budget": None if asked.budget is None else f"{asked.budget:g}s"}  # fmt: skip
    return {name: str(value) for name, value in found.items() if value is not None}


def config_of(studio: Studio, run: str) -> RunConfig:
    """What was asked for when a run was made, before a budget became steps."""
    found = run_of(studio.root, run)
    asked = found.manifest().get("asked")
    return RunConfig(**asked) if isinstance(asked, dict) else found.config()
