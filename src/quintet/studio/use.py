"""/use/NAME: what a trained model can be asked, verb by verb, and files that quintet made, which lead back to it. The
scripts of the page ask the model, at the routes of the server.
"""

from __future__ import annotations

import asyncio
import glob
import io
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, RedirectResponse

from quintet.core.codec import Codec
from quintet.core.errors import DataError, QuintetError, UsageError
from quintet.core.plain import plain
from quintet.modalities.options import OPTIONS
from quintet.modalities.provenance import INSIDE, read_provenance, sidecar
from quintet.model.fitted import Fitted
from quintet.model.inputs import Found
from quintet.operations import requests
from quintet.operations.answering import VERBS, asked_by, own_items, refusals
from quintet.operations.sampling import writes
from quintet.operations.spoken import python, shell
from quintet.registry import MEASURES, MODALITIES, family_class
from quintet.runs.folder import Run, weights_in
from quintet.runs.restoring import codecs_of
from quintet.server.bodies import object_of, typed
from quintet.server.engine import Job
from quintet.server.formats import ARROW, JSON, MEDIA
from quintet.server.native import in_json, offered, unless_left
from quintet.server.problems import Refusal, said
from quintet.studio import forms
from quintet.studio.house import Studio, run_of
from quintet.studio.pages import address, language_of, page, query
from quintet.studio.sentences import in_words

SHOWN = 64
"""Items that are made or looked at first, where a preview of the data shows so many."""
WRITTEN = 4
"""Texts that are written at once, to be read as they grow."""
NOTE = 10_000_000
"""Bytes of a note that says where a file comes from, at most."""
LONG = 2_000
"""Letters of an own text that a page is given: a long one is a whole corpus."""


class Own(requests.Request):
    """Items of the data that a run was trained on."""

    run: str = Field(description="its name")
    split: str = Field("test", description="train, validation or test")
    n: int = Field(8, ge=1, le=1024, description="how many")
    seed: int = Field(0, ge=0, description="of the draw")


def routes(app: FastAPI, studio: Studio) -> None:
    """The page, and what it asks besides the server's own routes."""

    @app.get("/use/{name:path}")
    async def use(request: Request, name: str) -> Response:
        """What a trained model can be asked."""
        return await asyncio.to_thread(shown, request, studio, name)

    @app.post("/studio/use/load")
    async def load(request: Request) -> Response:
        """Load a model, so that the first answer need not wait; and what is known of it only then."""
        name = object_of(await request.body()).get("model")
        work = studio.service.models.ask(str(name), loaded, studio.service.request.deadline)
        return JSONResponse(await unless_left(request, work))

    @app.get("/studio/use/items")
    async def items(request: Request) -> Response:
        """Items of a run's own data, as the routes of the verbs take them."""
        wanted = Own.model_validate(dict(request.query_params))
        return JSONResponse(plain(await asyncio.to_thread(brought, studio.root, wanted)))

    @app.post("/studio/use/spoken")
    async def as_spoken(request: Request) -> Response:
        """The command, and the Python, that ask a model the same as a body of fields does."""
        wanted = request_of(studio.root, object_of(await request.body()))
        return JSONResponse({"command": shell(wanted), "python": python(wanted)})

    @app.post("/studio/use/file")
    async def restore(request: Request) -> Response:
        """The page of the run that made a file, with its seed and settings."""
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile) or not file.filename:
                raise Refusal(422, "no file", fix="choose one that quintet made")
            content, name = await file.read(), file.filename
        place = await asyncio.to_thread(found_again, studio.root, content, Path(name).name)
        if JSON in request.headers.get("accept", ""):
            return JSONResponse({"to": place})
        return RedirectResponse(place, 303)


def loaded(model: Fitted, job: Job) -> dict[str, Any]:
    """What is known of a model once it is loaded: `writes`, whether it writes texts symbol by symbol, and `longest`,
    how many of them a text has at most, if that is fixed.
    """
    writing, codec = writes(model, ""), model.codecs["x"]
    longest = None if not writing or getattr(codec, "stream", True) else model.family.space.dims
    return {"writes": writing, "longest": longest, "step": (used := model.run.used()) and used.step}


# -- the page ----------------------------------------------------------------------------------------------------------


def shown(request: Request, studio: Studio, name: str) -> Response:
    """The page of a run; of one that cannot be used yet, why."""
    run = run_of(studio.root, name)
    config, codecs = run.config(), codecs_of(run)
    refused = refusals(run, codecs)
    answered = [verb for verb, why in refused.items() if not why]
    given = dict(request.query_params)
    verb = given.get("verb", next(one for one in ("classify", "translate", "sample") if one in answered))
    if verb not in VERBS:
        raise UsageError("there is no such operation", why=f"known: {', '.join(VERBS)}")
    try:
        studio.service.models[name]
        trouble = None
    except QuintetError as error:
        trouble = said(error, True)
    family = family_class(config.family)
    own = family.Sampling(**config.sampling).model_dump(mode="json")
    settings = (
        forms.of_section("sampling", family.Sampling, own) if "sampling" in VERBS[verb].request.model_fields else []
    )
    return page(
        request, "use.html.j2", run=name, verb=verb, answered=answered, trouble=trouble, given=given, settings=settings,
        refused={one: why for one, why in refused.items() if why}, family=config.family, source=config.data.source,
        fields=fields_of(verb, codecs), conditioned=config.data.condition,
        facts=facts_of(name, verb, codecs, language_of(request)),
    )  # fmt: skip


def fields_of(verb: str, codecs: Mapping[str, Codec]) -> list[forms.Field]:
    """The fields of a verb's request that mean something for a model with these codecs."""
    kind, request = MODALITIES[codecs["x"].modality], VERBS[verb].request
    leave = {"stream", "sampling", "beside"}  # the page decides these
    if not kind.hole:
        leave |= {"prompt", "length", "stop", "regex", "n_best"}
    if not OPTIONS[kind.name].known:
        leave |= {"known"}
    if "cond" not in codecs or not typable(codecs["cond"]):
        leave |= {"condition"}
    if VERBS[verb].needs == "given" and verb != "sample":  # it is about what is brought
        leave |= {"n", "condition"}
    values = {name: field.default for name, field in request.model_fields.items()} | {"n": many(codecs["x"])}
    found = forms.of_section("", request, values, [name for name in request.model_fields if name not in leave])
    known = {"known": OPTIONS[kind.name].known, "n": "", "condition": example(codecs.get("cond"))}
    return [replace(one, about=known.get(one.name, one.about), default="" if one.default == "[]" else one.default)
            for one in found]  # fmt: skip


def example(codec: Codec | None) -> str:
    """How a row of several columns is typed; "" where one value is."""
    cells = [] if codec is None else MODALITIES[codec.modality].cells(codec)
    return "{" + ", ".join(f"{cell['name']}: ..." for cell in cells) + "}" if len(cells) > 1 else ""


def typable(codec: Codec) -> bool:
    """Whether a person can type such an item."""
    modality = MODALITIES[codec.modality]
    return bool(modality.hole or modality.cells(codec))


def many(codec: Codec) -> int:
    """How many items are made at first."""
    modality = MODALITIES[codec.modality]
    return WRITTEN if modality.hole else min(modality.previewed, SHOWN)


def facts_of(name: str, verb: str, codecs: Mapping[str, Codec], language: str) -> dict[str, Any]:
    """What the scripts of the page need to know: of the items that a model takes and makes, and of its conditions."""
    modality = MODALITIES[codecs["x"].modality]
    files = {media: suffix for suffix, media in MEDIA.items()} | {ARROW: ".arrow"}  # which fewest can open, and is last
    return {
        "run": name,
        "verb": verb,
        "items": about(codecs["x"]),
        "given": about(codecs["cond"]) if "cond" in codecs else None,
        "media": sorted((one for one in offered(verb, modality) if one in files), key=ARROW.__eq__),
        "results": sorted((one for one in offered(verb, modality, True) if one in files), key=ARROW.__eq__),
        "suffixes": files,
        "noted": [media for media, suffix in files.items() if suffix in INSIDE],
        "measures": {
            key: [in_words(language, one.name), in_words(language, one.note), one.percent]
            for key, one in MEASURES.items()
        },
    }


def about(codec: Codec) -> dict[str, Any]:
    """What is to be known of items: the media type of a file of one of them, "" where JSON holds them as they are;
    whether they are typed, and with which sign for a lost part; their columns, and whether they are rows of them.
    """
    modality = MODALITIES[codec.modality]
    return {
        "media": MEDIA.get(modality.single, ""),
        "typed": bool(modality.hole),
        "hole": modality.hole,
        "cells": plain(cells := modality.cells(codec)),
        "rows": bool(cells and modality.columned),
        "parts": modality.parts,
        "suffixes": [*modality.suffixes],
    }


# -- items of the run's own data ---------------------------------------------------------------------------------------


def brought(root: Path, wanted: Own) -> dict[str, Any]:
    """Items of a run's own data and what they are given, in the JSON that the routes of the verbs take."""
    run = run_of(root, wanted.run)
    codecs, reading = codecs_of(run), run.config().data.reading()
    found = own(run.path, wanted.split, (run.path / "config.yaml").stat().st_mtime_ns).some(wanted.n, wanted.seed)
    sides = {"items": ("x", found.items), "conditions": ("cond", found.given)}
    return {
        side: None if values is None else
        [one[:LONG] if isinstance(one, str) and not MODALITIES[codecs[key].modality].single else one
         for one in in_json(MODALITIES[codecs[key].modality], values, {}, codecs[key], reading)]
        for side, (key, values) in sides.items()
    }  # fmt: skip


@lru_cache(maxsize=2)
def own(path: Path, split: str, stamp: int) -> Found:
    """A split of a run's own data: a page draws from it again and again, and reading may take long. `stamp`: since when
    the run is what it is.
    """
    return own_items(Run(path), split)


SPOKEN: dict[str, tuple[type[requests.OfRun], dict[str, Any]]] = {
    "rank": (requests.ScoreRequest, {"rank": True}),
    "classify": (requests.ScoreRequest, {}),
    "translate": (requests.SampleRequest, {"sampling": {"temperature": 0.0}}),
}
"""Of verbs that are no word of the command line: what says the same there."""


def request_of(root: Path, fields: Mapping[str, Any]) -> requests.OfRun:
    """The request of the command line that asks the same; of fields that it lacks, nothing is said."""
    verb = fields.get("verb")
    if verb not in VERBS:
        raise UsageError("there is no such operation", why=f"known: {', '.join(VERBS)}")
    kind, more = SPOKEN.get(verb) or (getattr(requests, f"{verb.capitalize()}Request"), {})
    known = {name: value for name, value in fields.items() if name in kind.model_fields and value is not None}
    if isinstance(known.get("condition"), dict):
        known["condition"] = typed(known["condition"])
    return kind(**more | known | {"runs": root})


# -- files that quintet made -------------------------------------------------------------------------------------------


def found_again(root: Path, content: bytes, name: str) -> str:
    """The address of the page with the run, the seed and the settings that made a file. Raises DataError for one that
    quintet did not make, or whose run is not here.
    """
    with tempfile.TemporaryDirectory(prefix="quintet-") as folder:
        suffix = Path(name).suffix.lower()
        if suffix == ".zip":
            content, suffix = beside(content, name), ".json"
        path = Path(folder) / (f"file{suffix}" if suffix != ".json" else "file.provenance.json")
        path.write_bytes(content)
        try:
            note = plain(read_provenance(path if suffix != ".json" else path.with_name("file")))
        except QuintetError as error:
            raise DataError(error.what, where=name, why=error.why if folder not in error.why else "",
                            fix="give a picture, a recording or a table that quintet wrote, or its .provenance.json"
                            ) from None  # fmt: skip
    run, weights = note.get("run"), note.get("weights")
    if not isinstance(run, str) or not isinstance(weights, str | None):
        raise DataError("the file does not say how quintet made it", where=name)
    verb, fields = asked_by(note)
    simple: dict[str, Any] = {key: value for key, value in fields.items() if isinstance(value, str | int | float)}
    for key, name in (("condition", "conditions"), ("stop", "stop")):
        several = fields.get(key)
        if isinstance(several, list) and len(several) <= SHOWN and all(isinstance(one, str) for one in several):
            simple[name] = "\n".join(one.replace("\\", "\\\\").replace("\n", "\\n") for one in several)
    sampling = note.get("sampling")
    settings = {f"sampling.{key}": value for key, value in sampling.items()} if isinstance(sampling, dict) else {}
    simple |= {key: value for key, value in settings.items() if isinstance(value, str | int | float)}
    index = note.get("index")
    here = named(root, run, weights, name)
    return f"/use/{address(here)}" + query(verb=verb, **simple, weights=weights,
                                           index=index if isinstance(index, int) else None)  # fmt: skip


def beside(content: bytes, name: str) -> bytes:
    """The file of an archive that says where the other one comes from."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            note = next(one for one in archive.infolist() if one.filename.endswith(sidecar(Path("-")).name[1:]))
            return archive.read(note) if note.file_size <= NOTE else b""
    except (zipfile.BadZipFile, StopIteration, RuntimeError, NotImplementedError, ValueError, OSError, zlib.error):
        raise DataError("the file does not say how quintet made it", where=name) from None


def named(root: Path, name: str, weights: str | None, file: str) -> str:
    """The name, below the folder of runs, of the run of that name that has these weights; else of the first."""
    candidates = [name, *(str(Path(found).parent.relative_to(root)) for found in
                          sorted(root.glob(f"*/{glob.escape(name)}/config.yaml")))]  # fmt: skip
    here = []
    for candidate in candidates:
        try:
            here.append((candidate, run_of(root, candidate)))
        except UsageError:
            continue
    if not here:
        raise DataError(
            "the run that made this file is not in this folder of runs",
            where=file,
            why=f"the name of that run was {name}",
            fix=f"copy the folder of that run to {root}",
        )
    return next((candidate for candidate, run in here if weights in all_weights(run)), here[0][0])


def all_weights(run: Run) -> set[str]:
    """The digests of all weights that a run has."""
    found = set[str]()
    for folder in (*run.checkpoints.glob("step-*"), *run.bests.glob("step-*")):
        try:
            found.add(weights_in(folder).sha256)
        except (OSError, ValueError, LookupError, TypeError):  # removed meanwhile, or damaged
            continue
    return found
