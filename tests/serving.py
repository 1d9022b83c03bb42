"""What tests of the server share: runs of few steps, a server of them, and what is wrong with its answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from httpx2 import Client, Response
from starlette.testclient import TestClient

from quintet.operations.requests import ServeRequest
from quintet.server.app import create_app, listen
from quintet.server.problems import MEDIA_TYPE, OPENAI
from quintet.server.service import Service, service_of
from quintet.server.transport import Graceful, Patient

TOKEN = "a-token-of-tests"
KEY = {"Authorization": f"Bearer {TOKEN}"}
MARK = "zqmarkerqz"
"""A text that no answer repeats."""


def service(root: Path, *names: str, **limits: Any) -> Service:
    """A service of runs, with small limits."""
    small = {"most_items": 64, "most_steps": 50, "most_work": 100_000, "deadline": 30, "body_limit": 1}
    return service_of(ServeRequest(run=names, runs=root, **{**small, **limits}))


def client(made: Service, **headers: str) -> TestClient:
    """A client in this process that has the token."""
    return TestClient(create_app(made), "http://localhost", headers={**KEY, **headers}, raise_server_exceptions=False)


@contextlib.contextmanager
def running(made: Service, protocol: type[Patient] = Patient) -> Iterator[Client]:
    """The service on a free port of this machine, and a client of it."""
    door = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(made), http=protocol, ws="none", lifespan="off", log_config=None,
                            access_log=False, timeout_graceful_shutdown=5)  # fmt: skip
    server = Graceful(config, lambda: None)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([door])), daemon=True)
    thread.start()
    try:
        wait(lambda: server.started)
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        with Client(base_url=address, headers=KEY, timeout=30) as one:
            yield one
    finally:
        server.should_exit = True
        made.models.close(2.0)
        thread.join(10)


def wait(until: Any, seconds: float = 10.0) -> float:
    """Wait until something holds; how many seconds that took. AssertionError where it does not come to pass."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < seconds, "this never came to pass"
        time.sleep(0.005)
    return time.monotonic() - began


# -- what is wrong with answers ----------------------------------------------------------------------------------------


def faults(answer: Response, mark: str = MARK) -> list[str]:
    """What no answer may be: a fault of the server, an error that is no problem, or one that repeats what was sent."""
    found = []
    if answer.status_code >= 500:
        found.append(f"status {answer.status_code}")
    if answer.status_code >= 400:
        if answer.url.path.startswith(OPENAI):
            found += [] if json.loads(answer.content)["error"]["message"] else ["an error without words"]
        elif answer.headers.get("content-type") != MEDIA_TYPE:
            found.append(f"{answer.status_code} as {answer.headers.get('content-type')}")
        elif json.loads(answer.content).get("status") != answer.status_code:
            found.append("a problem of another status")
        if mark.encode() in answer.content:
            found.append("the input is repeated")
    if not answer.headers.get("x-request-id"):
        found.append("no identifier")
    return found


# -- hostile requests --------------------------------------------------------------------------------------------------

VALUES: Sequence[Any] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**32, 2**63, 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308, "", " ", "\0",
    MARK, "1", "NaN", "../../etc/passwd", "/etc/passwd", "<script>", "☃", "\u202e" + MARK, "a" * 300, MARK * 40, [], {},
    [[]], [None], [MARK], [1, "x"], [[1], [1, 2]], [{}], [{MARK: MARK}], [{"x0": 1, "x1": MARK}], {"a": {"b": MARK}},
    ["█"], [{"x0": 1.5, "x1": None}], [{"x0": "2024-01-01"}], [[[0] * 8] * 8], [[[[0]] * 8] * 8], ["aGVsbG8="],
    ["not base64"], {"steps": 10**9}, {"steps": MARK}, {"temperature": -1}, {"temperature": 1e308}, {MARK: 1}, "(a|b",
    "a{1000}", "(a*)*b",
)  # fmt: skip
RAW: Sequence[bytes] = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xff\xfe"', b"'x'",
    b"01", b'"\xed\xa0\x80"', b"[" * 3000, b"[" * 150 + b"]" * 150, b'{"a":' * 3000, b"1" * 5000, b"0x10",
    b"nul", b"+1", b"/**/1",
)  # fmt: skip
TYPES = ("application/json", "application/json; charset=utf-16", "text/csv", "image/png", "application/x-npz",
         "application/vnd.apache.arrow.stream", "audio/wav", "multipart/form-data", "multipart/form-data; boundary=x",
         "application/xml", "", "text/plain; x=☃", "text/plain", "application/x-ndjson")  # fmt: skip
FIELDS = ("model", "items", "conditions", "condition", "n", "seed", "sampling", "prompt", "length", "stop", "regex",
          "n_best", "known", "draws", "beside", "steps", "split", "samples", "output", "runs", "data",
          MARK)  # fmt: skip


def hostile(verbs: Iterable[str], models: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests (path, arguments of a client): bodies with any value in any field, bytes that are no JSON, bodies in
    other encodings and formats, media types and paths that are none.
    """
    chance, paths = random.Random(seed), list(verbs)
    for _ in range(count):
        verb, kind = chance.choice(paths), chance.random()
        body = {"model": chance.choice(models)} if chance.random() < 0.95 else {}
        body |= {name: chance.choice(VALUES) for name in chance.sample(FIELDS, chance.randint(0, 3))}
        text = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        if kind < 0.15:
            text = text.replace(b"}", b', "n": ' + chance.choice(RAW) + b"}", 1)
        elif kind < 0.22:
            text = chance.choice(RAW)
        elif kind < 0.3:
            text = json.dumps(body, ensure_ascii=False).encode(
                chance.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))
            )
        elif kind < 0.4:
            text = chance.randbytes(chance.randint(0, 200))
        elif kind < 0.5:
            headers["content-type"] = chance.choice(TYPES)
        elif kind < 0.55:
            headers["accept"] = chance.choice(("image/png", "text/csv", MARK, "*/*;q=x", ",;=", "image/*", "audio/wav"))
        elif kind < 0.6:
            verb = chance.choice(("..", MARK, "%00", f"{verb}/{MARK}", "%2e%2e%2fetc", f"{verb}?n={MARK}"))
        elif kind < 0.64:
            text = text[: chance.randint(0, len(text))]
        yield f"/api/v1/{verb}", {"content": text, "headers": {key: one.encode() for key, one in headers.items()}}
