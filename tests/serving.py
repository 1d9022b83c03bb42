"""What tests of the server share: runs of few steps, a server of them, and what is wrong with its answers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import threading
import time
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        if answer.url.path.startswith(OPENAI):
            found += [] if worded(answer.content) else ["an error without words"]
        elif answer.headers.get("content-type") != MEDIA_TYPE:
            found.append(f"{answer.status_code} as {answer.headers.get('content-type')}")
        elif json.loads(answer.content).get("status") != answer.status_code:
            found.append("a problem of another status")
        if mark.encode() in answer.content:
            found.append("the input is repeated")
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        told = [
            event.removeprefix("data: ") for event in answer.text.split("\n\n") if event.startswith('data: {"error"')
        ]
        found += [f"in the stream: {event[:200]}" for event in told if "server_error" in event or mark in event]
    if not answer.headers.get("x-request-id"):
        found.append("no identifier")
    return found


def worded(content: bytes) -> bool:
    """Whether this is an error as OpenAI's clients read it."""
    try:
        return bool(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return False


def wrong(one: Client | TestClient, requests: Iterable[Hostile]) -> list[str]:
    """What is wrong with the answers to these requests."""
    found = []
    for method, path, request in requests:
        answer = one.request(method, path, **request)
        if bad := faults(answer):
            told = f"{request['content'][:300]!r} {request['headers']}"
            found.append(f"{method} {path}: {told} -> {bad} {answer.text[:200]}")
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
          "n_best", "known", "draws", "beside", "steps", "split", "samples", "output", "runs", "data", MARK,
          "max_tokens", "temperature", "top_p", "echo", "logprobs", "stream", "stream_options", "suffix", "best_of",
          "logit_bias", "user", "size", "response_format", "input", "voice", "speed", "language",
          "messages")  # fmt: skip
FILES = ("file", "items", "conditions", "model", MARK)
NAMES = ("a.wav", "a.csv", "a.png", "a.arrow", "a", "", MARK, "../../a.wav", "a.wav\0")
QUERIES = (
    "",
    f"?{MARK}={MARK}",
    "?model=%00",
    "?n=1e999&n=2",
    f"?model={MARK}",
    "?sampling.steps=%ff",
    "?" + "a=1&" * 80,
)
Hostile = tuple[str, str, dict[str, Any]]
"""(method, path, arguments of a client)."""


def sound() -> bytes:
    """A tenth of a second of silence as WAV."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    return sink.getvalue()


def form(body: Mapping[str, Any], chance: random.Random) -> bytes:
    """A form of these fields and one file, which may be what it says."""
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{word}'.encode() for name, word in words.items()]
    file, name, media = chance.choice(FILES), chance.choice(NAMES), chance.choice(TYPES)
    head = f'Content-Disposition: form-data; name="{file}"; filename="{name}"\r\nContent-Type: {media}\r\n\r\n'.encode()
    content = chance.choice(
        (sound(), sound()[:60], b"x0,x1\n1,2\n", b"\x89PNG\r\n\x1a\n", b"", chance.randbytes(80), *RAW)
    )
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in [*parts, head + content]) + b"--x--\r\n"


def hostile(routes: Sequence[tuple[str, str]], models: Sequence[str], count: int, seed: int) -> Iterator[Hostile]:
    """Requests of these (method, path): bodies with any value in any field, bytes that are no JSON, forms, bodies in
    other encodings and formats, media types, methods and paths that are none.
    """
    chance = random.Random(seed)
    for _ in range(count):
        method, path = chance.choice(routes)
        kind = chance.random()
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
        elif kind < 0.38:
            text = chance.randbytes(chance.randint(0, 200))
        elif kind < 0.46:
            headers["content-type"] = chance.choice(TYPES)
        elif kind < 0.5:
            headers["accept"] = chance.choice(("image/png", "text/csv", MARK, "*/*;q=x", ",;=", "image/*", "audio/wav"))
        elif kind < 0.55:
            path = "/api/v1/" + chance.choice(("..", MARK, "%00", "%2e%2e%2fetc", f"models/{MARK}", f"sample/{MARK}"))
        elif kind < 0.58:
            text = text[: chance.randint(0, len(text))]
        elif kind < 0.7:
            text, headers["content-type"] = form(body, chance), "multipart/form-data; boundary=x"
        elif kind < 0.73:
            method = chance.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", MARK))
        path += chance.choice(QUERIES) if kind > 0.9 or method == "GET" else ""
        yield method, path, {"content": text, "headers": {key: one.encode() for key, one in headers.items()}}


def by_schema(made: Service, begins: str = "/") -> set[int]:
    """The statuses of the answers to what schemathesis makes of every operation whose path begins so, of which none is
    a fault of the server.
    """
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_dict(client(made).get("/openapi.json").json())
    schema.app, seen = create_app(made), set[int]()
    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.path.startswith(begins):
            continue

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck),
                  phases=[Phase.explicit, Phase.generate])  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.headers = {**(case.headers or {}), **KEY, "host": "localhost"}
            answer = case.call(base_url="http://localhost")
            seen.add(answer.status_code)
            assert answer.status_code < 500, answer.text

        check()
    return seen
