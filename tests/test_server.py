"""The server from outside: who may ask, what is refused and how, and what becomes of a request."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from httpx2 import Client, Response, TimeoutException
from PIL import Image
from pydantic import BaseModel
from serving import KEY, MARK, TOKEN, by_schema, client, faults, hostile, running, service, wait, wrong
from starlette.testclient import TestClient

import quintet
from quintet.core.errors import UsageError
from quintet.fit import fitting
from quintet.modalities.provenance import read_provenance
from quintet.operations.answering import VERBS
from quintet.operations.requests import ServeRequest
from quintet.operations.warm import bytes_of
from quintet.runs.folder import Run
from quintet.server import guards, limits, native
from quintet.server.app import create_app
from quintet.server.engine import Job
from quintet.server.formats import accepted
from quintet.server.logs import LOG, Lines
from quintet.server.metrics import resident
from quintet.server.models import Models
from quintet.server.problems import MEDIA_TYPE, OPENAI, Refusal, problem, without
from quintet.server.service import Service, service_of
from quintet.server.transport import Patient
from quintet.training import checkpoint

SOURCE = str(Path(quintet.__file__).parents[1])
RUNS = ("vae", "flow", "gan", "text", "label")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps: images, rows, images given their label, texts, and labels given an image."""
    found = tmp_path_factory.mktemp("runs")
    texts = [f"the {word} number {i}" for i in range(60) for word in ("red", "green", "blue")]
    tiny: dict[str, Any] = {"preset": "tiny", "steps": 2, "runs": found}
    fitting.train("vae", data="digits", run="vae", **tiny)
    fitting.train("flow", data="moons", run="flow", **tiny)
    fitting.train("gan", data="digits", condition="label", run="gan", **tiny)
    fitting.train("autoregressive", data=texts, run="text", **tiny)
    fitting.train("autoregressive", data="digits", target="label", condition="image", run="label", **tiny)
    return found


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)


@pytest.fixture
def made(root: Path) -> Iterator[Service]:
    found = service(root, *RUNS)
    yield found
    found.models.close(5.0)


@pytest.fixture
def ask(made: Service) -> TestClient:
    return client(made)


def paths(made: Service) -> list[tuple[str, str]]:
    """(method, path) of every route there is, whoever registered it."""
    app: Any = create_app(made).app  # type: ignore[attr-defined]
    found = []
    for route in app.routes:
        for method in route.methods or ():
            found.append((method, route.path.replace("{model}", "vae")))
    assert len(found) > 15
    return found


# -- what is answered --------------------------------------------------------------------------------------------------


def test_every_verb_of_a_loaded_model_has_a_route(made: Service) -> None:
    posts = {path for method, path in paths(made) if method == "POST" and not path.startswith(OPENAI)}
    assert posts == {f"/api/v1/{verb}" for verb in VERBS}


def test_samples_are_those_of_the_model_in_every_format(ask: TestClient, root: Path, tmp_path: Path) -> None:
    model = quintet.load("flow", runs=root)
    expected = model.sample(3, seed=5)
    body = {"model": "flow", "n": 3, "seed": 5}
    found = ask.post("/api/v1/sample", json=body).json()
    assert found["items"] == expected.to_pylist()
    assert found["provenance"]["weights"] == model.run.used().sha256  # type: ignore[union-attr]
    got: dict[str, Response] = {}
    for media in ("text/csv", "application/x-npz", "application/vnd.apache.arrow.stream"):
        got[media] = ask.post("/api/v1/sample", json=body, headers={"accept": media})
        assert got[media].headers["content-type"].split(";")[0] == media
    assert pa.ipc.open_stream(got["application/vnd.apache.arrow.stream"].content).read_all().equals(expected)
    (tmp_path / "x.arrow").write_bytes(got["application/vnd.apache.arrow.stream"].content)
    assert read_provenance(tmp_path / "x.arrow") == found["provenance"]
    assert got["text/csv"].text.splitlines()[0] == "x0,x1"
    assert np.allclose(np.load(io.BytesIO(got["application/x-npz"].content))["x0"], expected["x0"].to_numpy())


def test_an_image_comes_and_goes_as_a_png(ask: TestClient) -> None:
    picture = ask.post("/api/v1/sample", json={"model": "vae", "n": 4}, headers={"accept": "image/*"})
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    items = ask.post("/api/v1/sample", json={"model": "vae", "n": 2}).json()["items"]
    file, png = base64.b64decode(items[0]), {"content-type": "image/png"}
    sent = [
        ask.post("/api/v1/encode", json={"model": "vae", "items": items[:1]}),
        ask.post("/api/v1/encode?model=vae", content=file, headers=png),
        ask.post("/api/v1/encode", data={"model": "vae"}, files={"items": ("a.png", file)}),
    ]
    assert [one.status_code for one in sent] == [200, 200, 200], [one.text for one in sent]
    assert sent[0].json()["items"] == sent[1].json()["items"] == sent[2].json()["items"]


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_photograph_is_read_as_cameras_and_pages_write_it(ask: TestClient, kind: str) -> None:
    sink = io.BytesIO()
    Image.new("L", (8, 8), 200).save(sink, kind)
    file, media = sink.getvalue(), {"content-type": f"image/{kind}"}
    one = ask.post("/api/v1/encode?model=vae", content=file, headers=media)
    other = ask.post(
        "/api/v1/encode", data={"model": "vae"}, files={"items": (f"a.{kind}", file, media["content-type"])}
    )
    assert [one.status_code, other.status_code] == [200, 200], one.text
    assert one.json()["items"] == other.json()["items"]


def test_the_note_of_a_file_is_a_header_that_proxies_let_through(
    ask: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"model": "gan", "n": 60, "conditions": [i % 10 for i in range(60)]}
    monkeypatch.setattr(native, "HEADER", 500)
    found = ask.post("/api/v1/sample", json=asked, headers={"accept": "application/x-npz"})
    assert found.status_code == 200, found.text
    text = found.headers["x-quintet-provenance"]
    assert len(text) <= native.HEADER
    note = json.loads(text)
    assert (note["run"], note["n"], note["left_out"]) == ("gan", 60, ["condition"])
    short = ask.post("/api/v1/sample", json={"model": "gan", "n": 1}, headers={"accept": "image/png"})
    assert "left_out" not in json.loads(short.headers["x-quintet-provenance"])


def test_no_folder_is_made_where_nothing_was_sent(ask: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made, folder = list[str](), tempfile.TemporaryDirectory

    def makes(**given: Any) -> Any:
        made.append(given["prefix"])
        return folder(**given)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", makes)
    assert ask.post("/api/v1/sample", json={"model": "flow", "n": 1}).status_code == 200
    assert not made
    assert ask.post("/api/v1/score", json={"model": "flow", "items": [{"x0": 1, "x1": 1}]}).status_code == 200
    assert made


def test_rows_come_as_json_csv_and_arrow(ask: TestClient) -> None:
    rows = ask.post("/api/v1/sample", json={"model": "flow", "n": 3}).json()["items"]
    table, text = pa.Table.from_pylist(rows), "x0,x1\n" + "".join(f"{row['x0']},{row['x1']}\n" for row in rows)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    as_json = ask.post("/api/v1/score", json={"model": "flow", "items": rows})
    as_csv = ask.post("/api/v1/score?model=flow&seed=0", content=text, headers={"content-type": "text/csv"})
    arrow = {"content-type": "application/vnd.apache.arrow.stream"}
    as_arrow = ask.post("/api/v1/score?model=flow", content=sink.getvalue(), headers=arrow)
    assert as_json.status_code == 200, as_json.text
    assert as_json.json()["likelihood"]["kind"] == "exact"
    nats = [[row["nats"] for row in one.json()["items"]] for one in (as_json, as_csv, as_arrow)]
    assert nats[0] == pytest.approx(nats[1])
    assert nats[0] == pytest.approx(nats[2])


def test_conditions_are_typed_given_one_an_item_or_sent_as_files(ask: TestClient, root: Path) -> None:
    model = quintet.load("gan", runs=root)
    expected = model.sample(2, condition=[3, 7], seed=1)
    found = ask.post("/api/v1/sample", json={"model": "gan", "seed": 1, "conditions": [3, "7"]},
                     headers={"accept": "application/x-npz"})  # fmt: skip
    assert np.array_equal(np.load(io.BytesIO(found.content))["images"].reshape(expected.shape), expected)
    one, two = (ask.post("/api/v1/sample", json={"model": "gan", "n": 2, "condition": value}) for value in (3, "3"))
    assert one.json()["items"] == two.json()["items"]
    both = ask.post("/api/v1/sample", json={"model": "gan", "condition": 3, "conditions": [3]})
    assert both.status_code == 422
    pictures = ask.post("/api/v1/sample", json={"model": "vae", "n": 2}).json()["items"]
    labels = ask.post("/api/v1/classify", json={"model": "label", "conditions": pictures}).json()
    assert "items" in labels, labels
    assert len(labels["items"]) == 2
    assert sum(value for name, value in labels["items"][0].items() if name.startswith("p_")) == pytest.approx(
        1, abs=1e-4
    )


def test_texts_are_continued(ask: TestClient, root: Path) -> None:
    body = {"model": "text", "prompt": "the red", "n": 2, "length": 8, "seed": 4, "stop": ["q"]}
    found = ask.post("/api/v1/sample", json=body)
    texts = quintet.load("text", runs=root).write("the red", 2, length=8, seed=4, stop=["q"])
    assert found.json()["items"] == texts
    assert ask.post("/api/v1/sample", json=body, headers={"accept": "text/plain"}).text.startswith("the red")


def test_holes_are_filled_and_paths_and_ranks_are_given(ask: TestClient) -> None:
    filled = ask.post("/api/v1/complete", json={"model": "flow", "items": [{"x0": 0.5, "x1": None}],
                                                "sampling": {"starts": 2, "moves": 1}})  # fmt: skip
    assert filled.json()["items"][0]["x0"] == 0.5
    assert isinstance(filled.json()["items"][0]["x1"], float)
    rows = ask.post("/api/v1/sample", json={"model": "flow", "n": 4}).json()["items"]
    for verb in ("interpolate", "reconstruct", "rank", "encode"):
        found = ask.post(f"/api/v1/{verb}", json={"model": "flow", "items": rows})
        assert found.status_code == 200, found.text
        assert len(found.json()["items"]) == (16 if verb == "interpolate" else 4)


def test_what_a_family_lacks_is_refused_with_its_reason(ask: TestClient) -> None:
    found = ask.post("/api/v1/encode", json={"model": "text", "items": ["the red"]})
    assert found.status_code == 422
    assert "no latent" in found.json()["detail"]
    assert ask.post("/api/v1/score", json={"model": "gan", "items": [[[0] * 8] * 8]}).json()["error"] == "Unsupported"
    assert ask.post("/api/v1/classify", json={"model": "flow", "conditions": ["x"]}).json()["error"] == "Unsupported"


def test_what_a_request_says_is_checked_by_the_verbs_own_request(ask: TestClient) -> None:
    """Each bound of each field, and one past it, in words that do not repeat the value."""
    for body, said in (({"n": 0}, "n: at least 1"), ({"seed": -1}, "seed: at least 0"), ({"n": "2"}, "n: "),
                       ({"n": 2.5}, "n: "), ({"n": True}, "n: "), ({MARK: 1}, "an unknown field"),
                       ({"stop": "x"}, "stop"), ({"runs": "/"}, "an unknown field"),
                       ({"output": "/x.csv"}, "an unknown field")):  # fmt: skip
        found = ask.post("/api/v1/sample", json={"model": "flow", **body})
        assert found.status_code == 422
        assert said in found.json()["title"]
        assert not faults(found)
    for verb, lacks in (("score", "items"), ("classify", "conditions")):
        assert ask.post(f"/api/v1/{verb}", json={"model": "flow"}).json()["title"] == f"{lacks} is missing"


def test_refusals_speak_of_fields_and_of_no_options_or_arguments(ask: TestClient) -> None:
    """The words of an error are for whichever door a request came through."""
    for verb, body, said in (
        ("score", {"model": "label", "items": [3]}, "give one condition"),
        ("sample", {"model": "flow", "prompt": "x"}, "a prompt can only be given for texts"),
        ("complete", {"model": "text", "items": ["the"], "known": "top"}, "known"),
        ("sample", {"model": "text", "length": 500}, "a smaller length"),
        ("evaluate", {"model": "flow", "samples": 20, "split": "holdout"}, "split test"),
        ("evaluate", {"model": "flow", "samples": 20, "features": "inceptions"}, "features pca"),
        ("sample", {"model": "flow", "condition": 3}, "no condition"),
    ):
        found = ask.post(f"/api/v1/{verb}", json=body)
        assert found.status_code == 422, found.text
        assert said in found.text
        assert not re.search(r"--(?!coding|condition COLUMN|model|training)|\bpass |\w+=(?!\S)", found.text), found.text


def test_no_field_names_a_file_of_this_machine(ask: TestClient, tmp_path: Path) -> None:
    """Neither by a field, nor in an item, nor as what is known of a picture."""
    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8)).save(secret)
    for verb in VERBS:
        schema = ask.get("/openapi.json").json()["paths"][f"/api/v1/{verb}"]["post"]["requestBody"]
        fields = set(schema["content"]["application/json"]["schema"]["properties"])
        assert not fields & {"run", "runs", "output", "data", "conditions_file", "mask"}
    picture = ask.post("/api/v1/sample", json={"model": "vae", "n": 1}).json()["items"]
    known = ask.post("/api/v1/complete", json={"model": "vae", "items": picture, "known": str(secret)})
    assert known.status_code == 422
    assert "only one colour" not in known.text  # which is what the file would be
    assert ask.post("/api/v1/encode", json={"model": "vae", "items": [str(secret)]}).status_code == 422


def test_formats_are_chosen_by_quality_and_by_the_more_special_range() -> None:
    offered = ("application/json", "text/csv", "image/png")
    assert accepted("", offered) == accepted("*/*", offered) == "application/json"
    assert accepted("text/*;q=0.4, image/png;q=0.6", offered) == "image/png"
    assert accepted("*/*;q=0.1, application/json;q=0", offered) == "text/csv"
    for nothing in ("audio/wav", "x", "text/csv;q=0"):
        with pytest.raises(Refusal, match="no such format"):
            accepted(nothing, offered)


# -- who may ask -------------------------------------------------------------------------------------------------------

STRANGERS: dict[str, tuple[dict[str, str], int]] = {
    "no token": ({"authorization": ""}, 401),
    "wrong token": ({"authorization": f"Bearer {TOKEN}x"}, 401),
    "a part of the token": ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401),
    "wrong password": ({"authorization": "Basic " + base64.b64encode(b"x:y").decode()}, 401),
    "no base64": ({"authorization": "Basic %%"}, 401),
    "another scheme": ({"authorization": f"Digest {TOKEN}"}, 401),
    "foreign host": ({"host": "evil.example"}, 403),
    "a host that begins like ours": ({"host": "localhost.evil.example"}, 403),
    "no such host": ({"host": "[::1"}, 403),
    "an address that is not ours": ({"host": "192.168.0.7"}, 403),
    "foreign origin": ({"origin": "http://evil.example"}, 403),
    "no origin": ({"origin": "null"}, 403),
    "an origin with our name in it": ({"origin": "http://localhost@evil.example"}, 403),
    "origin of a file": ({"origin": "file://localhost"}, 403),
}


def let_in(app: Any, made: Service, headers: dict[str, str], status: int) -> list[str]:
    """Routes that answer strangers otherwise than by a problem of this status."""
    one = TestClient(app, "http://localhost", headers={**KEY, **headers}, raise_server_exceptions=False)
    found = []
    for method, path in [*paths(made), ("GET", "/nowhere"), ("POST", "/health")]:
        answer = one.request(method, path, json={"model": "flow", "n": 1} if method == "POST" else None)
        if answer.status_code != status or (method != "HEAD" and faults(answer)):
            found.append(f"{method} {path}: {answer.status_code}")
    return found


@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_are_refused_on_every_route(stranger: str, made: Service) -> None:
    assert let_in(create_app(made), made, *STRANGERS[stranger]) == []


def test_a_browser_is_asked_for_a_password(ask: TestClient) -> None:
    """Chromium reads a line of challenges as the first of them alone, and asks nobody for a bearer token."""
    answer = ask.get("/docs", headers={"authorization": ""})
    assert answer.headers["www-authenticate"].startswith('Basic realm="quintet", charset="UTF-8", Bearer ')


def test_a_route_without_its_guard_is_found(made: Service) -> None:
    """The control: the app within its guards, and a guard that forgets one path."""
    app: Any = create_app(made)
    assert len(let_in(app.app, made, *STRANGERS["no token"])) > 15

    async def forgets(scope: Any, receive: Any, send: Any) -> None:
        await (app.app if scope["path"] == "/metrics" else app)(scope, receive, send)

    assert let_in(forgets, made, *STRANGERS["foreign host"]) == ["GET /metrics: 200"]


def test_a_form_of_another_site_is_refused(ask: TestClient) -> None:
    crossing = {"sec-fetch-site": "cross-site"}
    assert ask.post("/api/v1/sample", json={"model": "flow"}, headers=crossing).status_code == 403
    assert ask.get("/docs", headers=crossing).status_code == 200  # a link to it


def test_friends_are_let_in(made: Service, ask: TestClient) -> None:
    password = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    for headers in ({}, {"authorization": password}, {"host": "127.0.0.1:8000"}, {"host": "LOCALHOST"},
                    {"host": "[::1]:80"}, {"origin": "http://localhost:3000"}):  # fmt: skip
        assert ask.get("/health", headers=headers).status_code == 200, headers
    assert "access-control-allow-origin" not in ask.get("/health", headers={"origin": "http://localhost"}).headers


def test_another_address_needs_a_token_of_the_users_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = ServeRequest(run=("vae",), runs=root, host="0.0.0.0", names=("models.example.org",))
    rules = service_of(open_to_all).rules
    assert (rules.token, rules.addresses) == (TOKEN, True)
    assert "models.example.org" in rules.hosts
    monkeypatch.delenv("QUINTET_TOKEN")
    with pytest.raises(UsageError, match="can be reached from other machines"):
        service_of(open_to_all)
    made = [service_of(ServeRequest(run=("vae",), runs=root)).rules.token for _ in range(2)]
    assert made[0] != made[1]
    assert min(map(len, made)) >= 32


# -- what is refused, and how ------------------------------------------------------------------------------------------


def test_hostile_requests_are_refused_as_problems_that_repeat_nothing(made: Service, ask: TestClient) -> None:
    assert wrong(ask, hostile(paths(made), RUNS, 300, 0)) == []


@pytest.mark.slow
def test_ten_thousand_hostile_requests_of_every_route(made: Service, ask: TestClient) -> None:
    assert wrong(ask, hostile(paths(made), RUNS, 10_000, 1)) == []


class Planted(BaseModel):
    model: str
    n: int = 1


@pytest.mark.parametrize(("path", "shape"), [("/api/v1/sample", "as application/json"),
                                             ("/v1/completions", "an error without words")])  # fmt: skip
def test_a_route_that_leaves_values_to_its_framework_is_found(path: str, shape: str) -> None:
    """The control: what such a route answers is repeated input, no problem, and faults of the server."""
    app = FastAPI()

    @app.post(path)
    async def planted(body: Planted) -> dict[str, Any]:
        return {}

    one = TestClient(app, "http://localhost", raise_server_exceptions=False)
    found = " ".join(wrong(one, hostile([("POST", path)], ("flow",), 1000, 0)))
    for fault in ("status 5", shape, "the input is repeated", "no identifier"):
        assert fault in found


@pytest.mark.slow
def test_the_schema_holds_whatever_is_asked(made: Service) -> None:
    """Every operation of the schema, by schemathesis."""
    seen = by_schema(made)
    assert {200, 422} <= seen
    assert not seen & {401, 403}


def test_errors_of_the_framework_are_problems(ask: TestClient) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/health", 405), ("GET", "/api/v1/sample", 405),
                                 ("GET", "/api/v1/models/none", 404), ("OPTIONS", "/api/v1/sample", 405)):  # fmt: skip
        found = ask.request(method, path)
        assert (found.status_code, found.headers["content-type"]) == (status, MEDIA_TYPE)
    assert ask.put("/health").headers["allow"] == "GET"


def test_a_fault_of_ours_is_a_problem_that_says_nothing(made: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"secret {MARK}")

    monkeypatch.setattr("quintet.server.native.answer", broken)
    found = client(made).post("/api/v1/sample", json={"model": "flow", "n": 1})
    assert (found.status_code, found.headers["content-type"]) == (500, MEDIA_TYPE)
    assert MARK not in found.text
    monkeypatch.setattr("quintet.server.native.found_of", broken)
    found = client(made).post("/api/v1/score", json={"model": "flow", "items": [{"x0": 1, "x1": 1}]})
    assert (found.status_code, found.json()["title"]) == (422, "these items cannot be read")


def test_a_client_that_has_left_is_no_fault_of_ours() -> None:
    """Its status has no name in HTTP."""
    assert problem(Refusal(native.LEFT, "the client has left"), "1").status_code == native.LEFT


def test_hidden_texts_are_left_out_as_they_are_and_as_they_are_quoted() -> None:
    assert without("no column \"it's\" here, it's gone", ["it's"]) == 'no column "..." here, ... gone'
    assert without("unknown " + repr("a\nb\nc"), ["a\nb\nc"]) == "unknown '...'"
    assert without("a of ab", ["a", "ab"]) == "a of ab"  # too short to tell from other words


def escapes(one: TestClient, tries: int) -> list[str]:
    """Names of models that reach something else than 404."""
    steps = ("..", "%2e%2e", "....", "%252e%252e", "..%5c", "%c0%ae", "vae/..", "vae%00", ".", "~", "C:", "file:")
    found = []
    for i in range(tries):
        name = "/".join(steps[(i // 12**depth) % 12] for depth in range(1 + i % 3)) + ("/etc/passwd" if i % 2 else "")
        quoted = quote(name, safe="").replace(".", "%2E")
        for answer in (one.get(f"/api/v1/models/{quoted}"), one.post("/api/v1/sample", json={"model": name})):
            if answer.status_code not in (404, 405):
                found.append(f"{name}: {answer.status_code}")
    return found


def test_names_of_models_are_no_paths(
    made: Service, ask: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert escapes(ask, 300) == []
    (root / "etc").mkdir(exist_ok=True)

    def opens(self: Models, name: str) -> Any:  # the control: what takes a name for a path
        return self.served["vae"] if (root / name).exists() else self.served[name]

    monkeypatch.setattr(Models, "__getitem__", opens)
    assert escapes(ask, 24)


# -- limits ------------------------------------------------------------------------------------------------------------


LIMITS: list[tuple[str, dict[str, Any], str, Any, Any]] = [
    ("sample", {"model": "flow"}, "n", 64, 65),
    ("sample", {"model": "gan"}, "conditions", [1] * 64, [1] * 65),
    ("sample", {"model": "flow", "n": 1}, "sampling", {"moves": 50}, {"moves": 51}),
    ("interpolate", {"model": "flow", "items": [{"x0": 0.1, "x1": 0.2}] * 2}, "steps", 32, 33),
    ("complete", {"model": "flow", "items": [{"x0": 0.5, "x1": 0.5}] * 4}, "draws", 16, 17),
    ("sample", {"model": "text", "n": 2, "stop": ["e"]}, "length", 50_000, 50_001),
    ("score", {"model": "flow"}, "items", [{"x0": 0.1, "x1": 0.2}] * 64, [{"x0": 0.1, "x1": 0.2}] * 65),
]


@pytest.mark.parametrize(
    ("verb", "body", "field", "most", "more"), LIMITS, ids=[f"{one[0]}-{one[2]}" for one in LIMITS]
)
def test_limits_hold_at_the_bound_and_one_past_it(
    verb: str, body: dict[str, Any], field: str, most: Any, more: Any, made: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond is refused before any work begins; without the limit it would be done."""
    began: list[str] = []

    def answer(name: str, *_: Any, **__: Any) -> Any:
        began.append(name)
        raise UsageError("enough")

    monkeypatch.setattr("quintet.server.native.answer", answer)
    one = client(made)
    assert one.post(f"/api/v1/{verb}", json={**body, field: most}).json()["title"] == "enough"
    assert began == [verb]
    found = one.post(f"/api/v1/{verb}", json={**body, field: more})
    assert (found.status_code, "at most" in found.json()["title"]) == (422, True)
    assert began == [verb]
    made.request = made.request.model_copy(update={"most_items": 100, "most_steps": 1000, "most_work": 10**9})
    one.post(f"/api/v1/{verb}", json={**body, field: more})
    assert began == [verb, verb]  # the control


def test_files_that_stand_for_more_than_they_are_are_refused_before_they_are_read(ask: TestClient) -> None:
    def stream(table: pa.Table, **options: Any) -> bytes:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as one:
            one.write_table(table)
        return sink.getvalue()

    few, many = (pa.table({"x0": np.zeros(n), "x1": np.zeros(n)}) for n in (3, 4_000_000))
    words = pa.table({"x0": pa.array(["1", "2"]).dictionary_encode(), "x1": pa.array([1.0, 2.0])})
    none = pa.table({"x0": pa.nulls(10**9), "x1": pa.nulls(10**9)})
    for content, said in ((stream(many, compression="zstd"), "compressed"), (stream(none), "items: at most"),
                          (stream(words, compression="lz4"), "compressed"), (b"x0,x1\n" + b"1,2\n" * 40_000, "at most"),
                          (stream(few)[:-30], "not a valid Arrow stream")):  # fmt: skip
        media = "text/csv" if content.startswith(b"x0") else "application/vnd.apache.arrow.stream"
        found = ask.post("/api/v1/score?model=flow", content=content, headers={"content-type": media})
        assert found.status_code == 422
        assert said in found.json()["title"], found.text
    arrow = {"content-type": "application/vnd.apache.arrow.stream"}
    assert ask.post("/api/v1/score?model=flow", content=stream(few), headers=arrow).status_code == 200  # the control


def test_a_regular_expression_of_billions_of_states_is_refused(ask: TestClient) -> None:
    """Its automaton could not be stopped once it was begun."""
    for regex, status in (("[a-z ]{1,8}", 200), ("(a{1,1000}){1,1000}", 422), ("(a|b)*a(a|b){30}", 422), ("(", 422)):
        found = ask.post("/api/v1/sample", json={"model": "text", "n": 1, "length": 10, "regex": regex})
        assert found.status_code == status, found.text
        assert ("too large" in found.text) == (len(regex) > 12)


def test_an_expression_that_nobody_tries_is_found(made: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without the trial the model itself would be asked for an automaton that nothing can stop."""
    began: list[str] = []

    def answer(verb: str, model: Any, request: Any, *_: Any, **__: Any) -> Any:
        began.append(request.regex)
        raise UsageError("enough")

    monkeypatch.setattr("quintet.server.native.answer", answer)
    monkeypatch.setattr(limits, "small_enough", lambda regex: None)
    body = {"model": "text", "n": 1, "length": 10, "regex": "(a{1,1000}){1,1000}"}
    assert "too large" not in client(made).post("/api/v1/sample", json=body).text
    assert began == [body["regex"]]


def test_expressions_are_tried_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take a gigabyte for seconds."""
    now, most, counting = 0, 0, threading.Lock()

    def run(*words: Any, **options: Any) -> Any:
        nonlocal now, most
        with counting:
            now += 1
            most = max(now, most)
        time.sleep(0.02)
        with counting:
            now -= 1
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(limits.subprocess, "run", run)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(limits.small_enough, ["a"] * 8))
    assert most == 2


def test_a_length_that_is_no_number_is_no_fault_of_ours(made: Service) -> None:
    """A square is a digit to Python, but no number."""

    async def main() -> None:
        for said in (b"\xb2", b"x", b"-1"):
            guards.Body({"type": "http", "headers": [(b"content-length", said)]}, nothing, made.rules)
        with pytest.raises(Refusal, match="bytes"):
            guards.Body({"type": "http", "headers": [(b"content-length", b"9" * 12)]}, nothing, made.rules)

    async def nothing() -> Any:
        """No message."""

    asyncio.run(main())


def large(root: Path) -> list[int]:
    """The statuses of answers to bodies of three megabytes, where one is allowed: one that says its size, one that does
    not.
    """
    body = b" " * 3_000_000 + b'{"model":"flow","n":1}'
    with running(service(root, "flow")) as one:
        answers = [one.post("/api/v1/sample", content=content) for content in (body, iter([body[:-9], body[-9:]]))]
    assert all(answer.headers["content-type"] == MEDIA_TYPE for answer in answers if answer.status_code >= 400)
    return [answer.status_code for answer in answers]


def test_bodies_are_limited_whether_or_not_they_say_their_size(root: Path, made: Service) -> None:
    most = made.rules.body
    with running(made) as one:
        before = one.post("/api/v1/sample", content=b" " * (most - 30) + b'{"model":"flow","n":1}')
        assert before.status_code == 200
    assert large(root) == [413, 413]


def test_a_server_that_takes_bodies_of_any_size_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without any limit, and with one on what is said alone."""
    true = guards.Body.__init__
    for body, found in ((10**9, [200, 200]), (10**6, [413, 200])):

        def lenient(self: Any, scope: Any, receive: Any, rules: Any, body: int = body) -> None:
            true(self, scope, receive, replace(rules, body=body))
            self.rules = replace(rules, body=10**9)

        monkeypatch.setattr(guards.Body, "__init__", lenient)
        assert large(root) == found


# -- slow and absent clients -------------------------------------------------------------------------------------------


class Hasty(Patient):
    head_within, linger, read_within = 0.4, 0.4, 0.5


def talk(one: Client, *parts: bytes, pause: float = 0.0, within: float = 5.0) -> bytes:
    """What comes back for these bytes until the server closes; b"open" at the end if it does not in time."""
    with socket.create_connection((one.base_url.host, one.base_url.port), 5) as line:
        got = b""
        line.settimeout(within)
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(pause)
            while more := line.recv(65536):
                got += more
        except TimeoutError:
            return got + b"open"
        except OSError:
            return got
        return got


HEAD = f"POST /api/v1/sample HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


def test_slow_clients_are_told_and_closed_and_health_answers_meanwhile(root: Path) -> None:
    made = service(root, "flow")
    made.rules = replace(made.rules, patience=0.5)
    with running(made, Hasty) as one:
        slow = [threading.Thread(target=talk, args=(one, HEAD)) for _ in range(100)]
        for thread in slow:
            thread.start()
        began = time.monotonic()
        assert one.get("/health").status_code == 200
        assert time.monotonic() - began < 0.5
        assert b" 408 " in talk(one, b"POST /api/v1/sample HTTP/1.1\r\nHost:")
        assert talk(one) == b""
        body = talk(one, HEAD + b"Content-Length: 10\r\n\r\n", b"{", pause=0.1)
        assert b" 408 " in body
        assert MEDIA_TYPE.encode() in body
        assert not body.endswith(b"open")
        for thread in slow:
            thread.join()


def test_a_server_of_endless_patience_is_found(root: Path) -> None:
    """The control."""
    with running(service(root, "flow")) as one:
        assert talk(one, HEAD, within=1.0).endswith(b"open")
        assert talk(one, HEAD + b"Content-Length: 10\r\n\r\n", b"{", within=1.0).endswith(b"open")


def test_what_is_no_http_is_a_problem(root: Path) -> None:
    with running(service(root, "flow")) as one:
        for nonsense in (
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            b"GET\r\n\r\n",
            HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        ):
            found = talk(one, nonsense)
            assert b" 400 " in found.split(b"\r\n")[0]
            assert MEDIA_TYPE.encode() in found


def test_a_client_that_leaves_frees_its_slot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a step: what it had asked for is given up, what waits is done, and what does not step is found."""
    steps: list[int] = []

    def long(verb: str, model: Any, request: Any, found: Any, on_event: Any, **_: Any) -> Any:
        from quintet.operations.events import Step

        for i in range(2000):
            time.sleep(0.005)
            steps.append(i)
            on_event(Step(i, 2000))
        raise UsageError("done")

    monkeypatch.setattr("quintet.server.native.answer", long)
    made = service(root, "flow")
    body = b'{"model": "flow", "n": 1}'
    request = HEAD + f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def leaves(one: Client) -> None:
        line = socket.create_connection((one.base_url.host, one.base_url.port))
        line.sendall(request)
        before = len(steps)
        wait(lambda: len(steps) > before)
        line.close()

    with running(made) as one:
        queue = made.models["flow"].engine
        for _ in range(20):
            leaves(one)
            assert wait(lambda: queue.idle) < 1.0
        monkeypatch.setattr(Job, "step", lambda self, *_: None)  # the control
        leaves(one)
        with pytest.raises(AssertionError, match="never came to pass"):
            wait(lambda: queue.idle, 1.5)
        monkeypatch.undo()
        queue.cancel()


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_where_no_model_takes_another_request_none_is_read(root: Path) -> None:
    made = service(root, "flow", "text")
    one, bad = client(made), {"content": b"no JSON", "headers": {"content-type": "application/json"}}
    made.models["flow"].engine.limit = 0
    assert one.post("/api/v1/sample", **bad).status_code == 400  # the other model may be meant
    made.models["text"].engine.limit = 0
    found = one.post("/api/v1/sample", **bad)
    assert (found.status_code, found.headers["retry-after"], faults(found)) == (429, "1", [])
    assert one.post("/v1/completions", **bad).json()["error"]["type"] == "rate_limit_error"
    assert one.get("/api/v1/models").status_code == 200
    assert 'quintet_requests_total{method="POST",route="/api/v1/sample",status="429"} 1.0' in one.get("/metrics").text
    assert TestClient(create_app(made)).post("/api/v1/sample").status_code in (401, 403)  # strangers learn nothing


@pytest.mark.slow
def test_four_times_the_load_is_refused_beyond_the_queue_and_leaves_nothing_behind(root: Path) -> None:
    """And a third of the clients leave before they are answered."""
    made = service(root, "text", queue=4)
    statuses: list[int] = []
    longest, end = 0, time.monotonic() + 20

    def asks(number: int, address: Any) -> None:
        chance = random.Random(number)
        with Client(base_url=address, headers=KEY) as one:
            while time.monotonic() < end:
                patience = chance.uniform(0.005, 0.1) if number % 3 == 0 else 30
                with contextlib.suppress(TimeoutException):
                    answer = one.post("/api/v1/sample", json={"model": "text", "n": 8}, timeout=patience)
                    statuses.append(answer.status_code)
                    assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1

    with running(made) as one:
        threads = [threading.Thread(target=asks, args=(number, one.base_url)) for number in range(24)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            longest = max(longest, len(made.models["text"].engine.queue))
            time.sleep(0.002)
        for thread in threads:
            thread.join()
        assert wait(lambda: made.models["text"].engine.idle) < 2
        assert one.post("/api/v1/sample", json={"model": "text", "n": 1}).status_code == 200
        assert "quintet_requests_open 1.0" in one.get("/metrics").text
    assert set(statuses) == {200, 429}
    assert 0 < longest <= 4


@pytest.mark.slow
def test_memory_is_flat_over_thousands_of_requests(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(service(root, "flow")) as one:

        def growth(requests: int) -> float:
            before = resident()
            for seed in range(requests):
                assert one.post("/api/v1/sample", json={"model": "flow", "n": 1, "seed": seed}).status_code == 200
            return resident() - before

        growth(1000)
        assert growth(4000) < 10e6
        kept, answer = [], native.answer

        def leaks(*given: Any, **more: Any) -> Any:
            kept.append(b"x" * 10_000)
            return answer(*given, **more)

        monkeypatch.setattr(native, "answer", leaks)
        assert growth(4000) > 20e6  # the control


# -- requests that are done together -----------------------------------------------------------------------------------


def test_requests_that_wait_are_answered_together_and_each_with_its_own(
    made: Service, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made.models.ready(made.models["flow"])
    true, sizes, go = model.family.sample, list[int](), threading.Event()

    def sample(n: int, *given: Any, **options: Any) -> Any:
        sizes.append(n)
        go.wait(5)
        return true(n, *given, **options)

    monkeypatch.setattr(model.family, "sample", sample)
    expected = [quintet.load("flow", runs=root).sample(2, seed=seed).to_pylist() for seed in range(9)]

    def post(seed: int) -> Any:
        return one.post("/api/v1/sample", json={"model": "flow", "n": 2, "seed": seed}).json()["items"]

    with running(made) as one, ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(post, seed) for seed in range(9)]
        wait(lambda: len(made.models["flow"].engine.running) == 9)
        time.sleep(0.1)
        go.set()
        found = [answer.result() for answer in answers]
    assert len(sizes) < 9
    assert sum(sizes) == 18
    for some, others in zip(found, expected, strict=True):
        for row, other in zip(some, others, strict=True):
            assert row == pytest.approx(other, abs=1e-5)


# -- models ------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_trained_further_is_swapped(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "flow", tmp_path / "flow")
    made = service(tmp_path, "flow")
    one = client(made)
    before = one.post("/api/v1/sample", json={"model": "flow", "n": 2}).json()
    again = one.post("/api/v1/sample", json={"model": "flow", "n": 2}).json()
    assert before["items"] == again["items"]
    run = Run.open("flow", tmp_path)
    newest = run.latest()
    assert newest is not None
    tensors = {name: {key: 1.5 * each for key, each in group.items()} for name, group in newest.tensors.items()}
    for place in (run.checkpoints, run.bests):
        if place.is_dir():
            checkpoint.save(place, 4, tensors, {**newest.state, "step": 4}, keep=2)
    after = one.post("/api/v1/sample", json={"model": "flow", "n": 2}).json()
    assert (before["provenance"]["step"], after["provenance"]["step"]) == (2, 4)
    assert before["items"] != after["items"]
    made.models.close(2)


def test_what_is_in_memory_is_looked_at_by_one_thread_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for one model may load it, or make another give way, while a request for another looks."""
    made = service(root, "vae", "flow").models
    table = made.warm.table

    class Guarded(OrderedDict[Path, Any]):
        """Models that nobody may list without the lock."""

        def values(self) -> Any:
            assert table.locked()
            return super().values()

    monkeypatch.setattr(made.warm, "kept", Guarded())
    for name in ("vae", "flow", "vae"):
        assert made.batcher(made[name]).model is made.warm(made[name].run)
    with pytest.raises(AssertionError):  # the control
        made.warm.kept.values()
    made.close(2)


def test_models_give_way_to_each_other_under_a_limit(root: Path) -> None:
    sizes = [bytes_of(fitting.load(root / name)) for name in ("vae", "flow")]
    made = service(root, "vae", "flow")
    made.models.warm.limit = max(sizes) + min(sizes) // 2
    one = client(made)
    for name, other in (("vae", "flow"), ("flow", "vae"), ("vae", "flow")):
        assert one.post("/api/v1/sample", json={"model": name, "n": 1}).status_code == 200
        loaded = {found["id"]: found["loaded"] for found in one.get("/api/v1/models").json()["models"]}
        assert loaded == {name: True, other: False}
    made.models.close(2)


def test_a_damaged_model_is_named_and_the_server_is_not_ready(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "flow", tmp_path / "flow")
    for path in (tmp_path / "flow").rglob("*.safetensors"):
        path.write_bytes(b"\0" * 100)
    made = service(tmp_path, "flow")
    one = client(made)
    assert one.get("/ready").status_code == 200
    found = one.post("/api/v1/sample", json={"model": "flow"})
    assert (found.status_code, found.json()["error"]) == (503, "CheckpointError")
    assert str(tmp_path) not in found.text
    assert one.get("/ready").status_code == 503
    assert one.get("/health").status_code == 200
    made.models.close(2)


# -- seen from outside -------------------------------------------------------------------------------------------------


def test_figures_count_what_was_asked(made: Service, ask: TestClient) -> None:
    ask.post("/api/v1/sample", json={"model": "flow", "n": 1})
    ask.get(f"/{MARK}")
    text = ask.get("/metrics").text
    assert 'quintet_requests_total{method="POST",route="/api/v1/sample",status="200"} 1.0' in text
    assert 'quintet_queue{model="flow"} 0.0' in text
    assert 'quintet_batch_requests_count{model="flow"} 1.0' in text
    assert re.search(r'quintet_model_bytes\{model="flow"\} [1-9]', text)
    assert re.search(r"quintet_resident_bytes [1-9]", text)
    assert MARK not in text


def test_each_request_has_a_line_with_its_identifier_and_no_token(made: Service, ask: TestClient) -> None:
    import logging

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        answer = ask.post("/api/v1/sample", json={"model": "flow", "n": 1})
        ask.get("/x%0a%7b%22forged%22:1%7d?token=" + TOKEN, headers={"x-request-id": MARK})
    finally:
        LOG.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    asked = [line for line in lines if line["event"] == "request"]
    assert len(asked) == 2
    assert asked[0]["request"] == answer.headers["x-request-id"]
    assert asked[0] | {"model": "flow", "status": 200, "route": "/api/v1/sample", "method": "POST"} == asked[0]
    assert TOKEN not in stream.getvalue()
    assert MARK not in stream.getvalue()


def test_the_page_comes_from_here_alone_and_says_every_field(ask: TestClient) -> None:
    page = ask.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "<script" not in page.text
    assert "style=" not in page.text
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)
    schema = ask.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        assert path in page.text
        for told in methods.values():
            body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            assert all(f"<code>{name}</code>" in page.text for name in body.get("properties", {}))
    assert ask.get("/docs.css").headers["content-type"].startswith("text/css")


def test_the_page_says_in_which_format_each_other_page_comes(ask: TestClient) -> None:
    for path, methods in ask.get("/openapi.json").json()["paths"].items():
        if "get" in methods and "{" not in path:
            (said,) = methods["get"]["responses"]["200"]["content"]
            assert ask.get(path).headers["content-type"].split(";")[0] == said, path


def test_a_run_that_is_removed_does_not_hide_the_others(root: Path, tmp_path: Path) -> None:
    for name in ("flow", "text"):
        shutil.copytree(root / name, tmp_path / name)
    with running(service(tmp_path, "flow", "text")) as one:
        shutil.rmtree(tmp_path / "text")
        for path in ("/v1/models", "/api/v1/models"):
            assert one.get(path).status_code == 200
        assert one.post("/api/v1/sample", json={"model": "flow", "n": 1}).status_code == 200
        assert 400 <= one.post("/api/v1/sample", json={"model": "text", "n": 1}).status_code < 504


# -- the whole program -------------------------------------------------------------------------------------------------


@contextmanager
def program(root: Path, *words: str, fault: str = "", **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`quintet serve` on a free port, and its address; with a `fault` that is planted before it begins."""
    known = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "QUINTET_TOKEN": TOKEN, **env}
    start = (
        ["-c", f"{fault}\nfrom quintet.cli.main import main\nraise SystemExit(main())"] if fault else ["-m", "quintet"]
    )
    command = [sys.executable, *start, "serve", *words, "--runs", str(root), "--port", "0"]
    one = subprocess.Popen(command, env=known, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert one.stderr is not None
        first = one.stderr.readline()
        assert "http://" in first, first + one.stderr.read()
        yield one, first.split()[-1]
    finally:
        one.kill()
        one.wait()


def interrupted(process: subprocess.Popen[str], address: str, received: signal.Signals) -> list[int]:
    """The statuses of the answers to three requests that are at work, or wait for it, when the signal comes."""
    found: list[Response] = []
    with Client(base_url=address, headers=KEY, timeout=60) as one:
        assert one.post("/api/v1/sample", json={"model": "text", "n": 1, "length": 1}).status_code == 200
        body = {"model": "text", "n": 600, "seed": 1}
        threads = [
            threading.Thread(target=lambda: found.append(one.post("/api/v1/sample", json=body))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        with Client(base_url=address, headers=KEY) as other:
            wait(lambda: "quintet_requests_open 4.0" in other.get("/metrics").text)
        process.send_signal(received)
        for thread in threads:
            thread.join(60)
    return [one.status_code for one in found]


@pytest.mark.parametrize(("received", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_accepted_requests_finish(received: signal.Signals, code: int, root: Path) -> None:
    """Although nobody reads what the server has to say: a full pipe must not hold it up."""
    with program(root, "text", "--json") as (process, address):
        assert interrupted(process, address, received) == [200, 200, 200]
        out, err = process.communicate(timeout=40)
        assert process.returncode == code, err
        assert json.loads(out)["error"] == "Stopped"
        assert TOKEN not in err


def test_a_server_that_gives_up_what_it_accepted_is_found(root: Path) -> None:
    """The control: one that has no time for it."""
    with program(root, "text", fault="import quintet.server.app\nquintet.server.app.GRACE = 0.0") as (process, address):
        assert 503 in interrupted(process, address, signal.SIGTERM)


def test_a_token_is_made_and_shown_once(root: Path) -> None:
    with program(root, "flow", QUINTET_TOKEN="") as (process, address):
        assert process.stderr is not None
        token = process.stderr.readline().split()[-1]
        with Client(base_url=address) as one:
            assert one.get("/health").status_code == 401
            assert one.get("/health", headers={"authorization": f"Bearer {token}"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=40)
        assert token not in err


def test_a_port_that_is_taken_is_the_machines_fault(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = partial(subprocess.run, capture_output=True, text=True, timeout=60)
        env = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
        found = command([sys.executable, "-m", "quintet", "serve", "flow", "--runs", str(root), "--port",
                         str(taken.getsockname()[1])], env=env)  # fmt: skip
    assert found.returncode == 4
    assert "cannot listen at this address" in found.stderr


def test_a_server_begins_without_libraries_that_it_may_never_need() -> None:
    """Measuring models takes them, which is loaded when it is first asked for: a second of the start."""
    code = "import sys, quintet.server.app; print(*(name.split('.')[0] for name in sys.modules), *sys.modules)"
    env = {**os.environ, "PYTHONPATH": SOURCE}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120).stdout
    assert "torch" in out.split()
    assert not {"sklearn", "pandas", "scipy.stats", "datasets", "sacrebleu", "tokenizers"} & set(out.split())
