"""What OpenAI's own client gets of the server, and what it is refused."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pyarrow as pa
import pytest
import soundfile
from httpx2 import Client, Request, Response, TransportError
from openai import OpenAI
from PIL import Image
from serving import MARK, RAW, TOKEN, VALUES, by_schema, client, faults, hostile, running, service, wait, wrong

from quintet.fit import fitting
from quintet.modalities.audio.recordings import Recordings
from quintet.model.writing import Wanted, Writer
from quintet.nets.continuing import Continuations
from quintet.registry import MODALITIES
from quintet.server import completions
from quintet.server.problems import Refusal, problem
from quintet.server.service import Service
from quintet.sources import load as sources

RUNS = ("letters", "stream", "plain", "digits", "labels", "speaker", "listener", "points")
WORDS = ("ah", "oh")
BEAMS = {"sampling": {"beams": 4}}
"""The run's own, which no request of these clients can mean."""
TEXTS = {"given": {"codec": "text"}}


def hums() -> Any:
    rng = np.random.default_rng(0)
    sounds = Recordings([0.1 * rng.standard_normal(800).astype(np.float32) for _ in range(40)], 8000)
    splits = dict(zip(sources.SPLITS, (np.arange(24), np.arange(24, 32), np.arange(32, 40)), strict=True))
    return sources.Dataset("hums", "audio", sounds, splits, pa.table({"word": [*WORDS] * 20}), source="hums")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of few steps: texts, one long text, images with and without labels, rows, and sounds of words."""
    found = tmp_path_factory.mktemp("runs")
    texts = [f"the {word} number {i}, über €" for i in range(60) for word in ("red", "green", "blue")]
    tiny: dict[str, Any] = {"preset": "tiny", "steps": 2, "runs": found}
    fitting.train("autoregressive", data=texts, run="letters", **{**tiny, "steps": 40})
    fitting.train("autoregressive", data=[" ".join(texts)], run="stream", config=BEAMS, **tiny)
    fitting.train("vae", data="digits", run="plain", **tiny)
    fitting.train("gan", data="digits", condition="label", run="digits", **tiny)
    fitting.train("autoregressive", data="digits", target="label", condition="image", run="labels", **tiny)
    fitting.train("flow", data="moons", run="points", **tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "hums", hums)
        given = {"data": "hums", **tiny}
        fitting.train("autoregressive", target="word", condition="audio", codec="text", run="listener", **given)
        fitting.train(
            "vae", target="audio", condition="word", config={"given": {"codec": "text"}}, run="speaker", **given
        )
    return found


@pytest.fixture(scope="module")
def made(root: Path) -> Service:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUINTET_TOKEN", TOKEN)
        found = service(root, *RUNS, most_work=10_000_000)
    return found


@pytest.fixture(scope="module")
def address(made: Service) -> Iterator[str]:
    with running(made) as one:
        yield str(one.base_url)


@pytest.fixture(scope="module")
def ai(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=30)


def text_of(ai: OpenAI, **asked: Any) -> str:
    return ai.completions.create(**{"model": "letters", "prompt": "the ", "seed": 3, **asked}).choices[0].text


# -- models ------------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_found(ai: OpenAI) -> None:
    assert [one.id for one in ai.models.list()] == [*RUNS]
    one = ai.models.retrieve("letters")
    assert (one.id, one.object, one.owned_by) == ("letters", "model", "quintet")
    with pytest.raises(openai.NotFoundError, match="no such model"):
        ai.models.retrieve("nothing")


# -- texts -------------------------------------------------------------------------------------------------------------


def test_a_completion_is_what_the_model_writes(ai: OpenAI, root: Path) -> None:
    model = fitting.load("letters", runs=root)
    (own,) = Writer(model, Wanted(["the "], length=12, seed=3)).write()
    found = ai.completions.create(model="letters", prompt="the ", max_tokens=12, seed=3)
    assert found.object == "text_completion"
    assert found.model == "letters"
    assert "the " + found.choices[0].text == own
    assert found.system_fingerprint == model.run.used().sha256[:12]  # type: ignore[union-attr]
    assert found.usage is not None
    assert found.usage.prompt_tokens == len(b"the ")
    assert 0 < found.usage.completion_tokens <= 12
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert text_of(ai, max_tokens=12, echo=True) == own
    assert ai.completions.create(model="stream", prompt="the ", max_tokens=40).choices[0].finish_reason == "length"
    assert text_of(ai, max_tokens=10_000) == text_of(ai, max_tokens=model.family.space.dims), "at most is no wish"


def test_a_stream_is_the_same_text_in_pieces(ai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "stream", "prompt": ["the ", "red"], "max_tokens": 20, "n": 2, "seed": 5}
    whole = ai.completions.create(**asked, logprobs=2)
    pieces = list(ai.completions.create(**asked, logprobs=2, stream=True, stream_options={"include_usage": True}))
    assert len(pieces) > 20
    assert pieces[-1].usage == whole.usage
    assert pieces[-1].choices == []
    for choice in whole.choices:
        own = [part for piece in pieces for part in piece.choices if part.index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        assert [part.finish_reason for part in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == choice.finish_reason
        offsets = [offset for part in own for offset in part.logprobs.text_offset]  # type: ignore[union-attr]
        assert offsets == choice.logprobs.text_offset  # type: ignore[union-attr]


def test_a_stream_tells_the_end_of_a_text_when_that_ends(ai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "stream", "prompt": ["the ", "red"], "max_tokens": 40, "seed": 5}
    first, second = (one.text for one in ai.completions.create(**asked).choices)
    stop = next(first[i : i + 2] for i in range(2, 30) if first[i : i + 2] not in second)
    told = [piece.choices[0] for piece in ai.completions.create(**asked, stop=stop, stream=True)]
    end = next(i for i, one in enumerate(told) if one.finish_reason)
    assert (told[end].index, told[end].finish_reason) == (0, "stop")
    assert {one.index for one in told[end + 1 :]} == {1}
    assert sum(bool(one.text) for one in told[end + 1 :]) > 3
    assert [one.index for one in told if one.finish_reason] == [0, 1]


def test_a_stream_ends_in_done(made: Service) -> None:
    asked = {"model": "letters", "prompt": "the ", "stream": True}
    answer = client(made).post("/v1/completions", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_a_text_ends_before_a_stop_text(ai: OpenAI) -> None:
    text = text_of(ai, model="stream", max_tokens=40)
    stop = text[5:7]
    found = ai.completions.create(model="stream", prompt="the ", seed=3, max_tokens=40, stop=[stop, "☃"], logprobs=0)
    choice = found.choices[0]
    assert choice.text == text[: text.index(stop)]
    assert choice.finish_reason == "stop"
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    pieces = ai.completions.create(model="stream", prompt="the ", seed=3, max_tokens=40, stop=stop, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == choice.text
    with pytest.raises(openai.BadRequestError, match="stop"):
        text_of(ai, stop=["a", "b", "c", "d", "e"])


def test_the_same_seed_is_the_same_text_alone_or_among_others(ai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "stream", "prompt": "the ", "max_tokens": 24}
    alone = [text_of(ai, **asked, seed=seed) for seed in range(4)]
    assert len(set(alone)) == 4
    among: dict[int, str] = {}
    threads = [threading.Thread(target=lambda i=i: among.update({i: text_of(ai, **asked, seed=i)})) for i in range(4)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [among[i] for i in range(4)] == alone
    several = [one.text for one in ai.completions.create(**asked, n=3, seed=2).choices]
    assert several[0] == alone[2]
    assert len(set(several)) == 3
    assert len({ai.completions.create(**asked).choices[0].text for _ in range(3)}) > 1, "without a seed each is new"


def test_temperature_and_top_p_are_those_of_sampling(ai: OpenAI, root: Path) -> None:
    model = fitting.load("letters", runs=root)
    for given in ({"temperature": 0}, {"temperature": 0.3, "top_p": 0.5}):
        (own,) = Writer(model, Wanted(["the "], length=10, seed=3, sampling=given)).write()
        assert text_of(ai, max_tokens=10, echo=True, **given) == own


def test_log_probabilities_are_those_of_the_model(ai: OpenAI, root: Path) -> None:
    model = fitting.load("stream", runs=root)
    found = ai.completions.create(model="stream", prompt="the", max_tokens=6, temperature=0, logprobs=3).choices[0]
    told = found.logprobs
    assert told is not None
    assert "".join(told.tokens or []) == found.text
    assert told.text_offset == [sum(map(len, (told.tokens or [])[:i])) for i in range(6)]
    writer = Writer(model, Wanted(["the"], length=6, sampling={"temperature": 0, "beams": 1}))
    (text,) = writer.begin(3)
    for _ in writer.run([text]):
        pass
    assert told.token_logprobs == pytest.approx([token.log_prob for token in text.tokens], abs=1e-5)
    for token, log_p, best in zip(told.tokens or [], told.token_logprobs or [], told.top_logprobs or [], strict=True):
        assert best[token] == pytest.approx(log_p)
        assert max(best.values()) == pytest.approx(log_p), "the likeliest symbol was taken"
        assert len(best) == 3


@pytest.mark.parametrize("prompt", ["blue the", "number "])
def test_the_prompt_is_told_its_own_log_probabilities(prompt: str, ai: OpenAI, root: Path) -> None:
    model = fitting.load("letters", runs=root)
    asked: dict[str, Any] = {"model": "letters", "prompt": prompt, "max_tokens": 8, "seed": 3, "echo": True}
    found = ai.completions.create(**asked, logprobs=2)
    told, text = found.choices[0].logprobs, found.choices[0].text
    assert text == text_of(ai, **asked)
    assert told is not None
    assert told.tokens is not None
    x = model.codecs["x"].encoded([prompt]).x
    own = model.family.log_prob_each(x)[0, : len(prompt)].tolist()
    assert told.token_logprobs is not None
    assert told.token_logprobs[: len(prompt)] == pytest.approx(own, abs=1e-4)
    assert [
        text[at : at + len(token)] for at, token in zip(told.text_offset or [], told.tokens, strict=True)
    ] == told.tokens
    assert "".join(told.tokens) == text
    pieces = list(ai.completions.create(**asked, logprobs=2, stream=True))
    assert [token for piece in pieces for token in piece.choices[0].logprobs.tokens] == told.tokens  # type: ignore[union-attr]
    assert found.usage is not None
    assert found.usage.prompt_tokens == len(prompt)
    assert found.usage.completion_tokens == len(told.tokens) - len(prompt)


REFUSED = (
    ({"suffix": "end"}, "left to right"), ({"best_of": 3}, "every text"), ({"logit_bias": {"5": 1}}, "as the model"),
    ({"presence_penalty": 1}, "as the model"), ({"user": "me"}, "no users"), ({"logprobs": 6}, "at most 5"),
    ({"max_tokens": 0}, "at least 1"), ({"n": 0}, "at least 1"), ({"temperature": 3}, "at most 2"),
    ({"prompt": []}, "at least one"), ({"prompt": [5, 6]}, "symbols are"), ({"prompt": [[5]]}, "symbols are"),
    ({"extra_body": {MARK: 1}}, "unknown field"),
)  # fmt: skip


@pytest.mark.parametrize(("asked", "why"), REFUSED)
def test_what_is_not_done_is_refused_with_the_reason(ai: OpenAI, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(openai.BadRequestError, match=why) as found:
        text_of(ai, **asked)
    assert found.value.type == "invalid_request_error"
    assert MARK not in found.value.response.text
    field = next(iter(asked))
    assert found.value.param in (field, "logprobs", None)


def test_what_asks_for_nothing_is_no_reason_to_refuse(ai: OpenAI) -> None:
    plain = text_of(ai)
    assert text_of(ai, best_of=1, presence_penalty=0, frequency_penalty=0.0, logit_bias={}, suffix=None) == plain


def test_a_model_of_another_task_is_refused_with_the_reason(ai: OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=r"symbol by symbol|not text"):
        text_of(ai, model="plain")
    with pytest.raises(openai.UnprocessableEntityError, match="makes no images"):
        ai.images.generate(model="letters", prompt="")
    with pytest.raises(openai.UnprocessableEntityError, match="makes no sounds"):
        ai.audio.speech.create(model="plain", voice="default", input="ah")
    with pytest.raises(openai.UnprocessableEntityError, match="makes no texts of recordings"):
        ai.audio.transcriptions.create(model="letters", file=("a.wav", wav()))
    with pytest.raises(openai.UnprocessableEntityError, match="no conversations"):
        ai.chat.completions.create(model="letters", messages=[{"role": "user", "content": MARK}])


# -- images and sounds -------------------------------------------------------------------------------------------------


def test_images_are_those_of_the_model(ai: OpenAI, root: Path) -> None:
    model = fitting.load("digits", runs=root)
    found = ai.images.generate(model="digits", prompt="3", n=2, size="8x8", response_format="b64_json",  # type: ignore[call-overload]
                               extra_body={"seed": 4})  # fmt: skip
    assert len(found.data) == 2
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.data[0].b64_json))))
    assert first.shape == (8, 8)
    again = ai.images.generate(model="digits", prompt="3", n=1, extra_body={"seed": 4})
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(base64.b64decode(again.data[0].b64_json)))))  # type: ignore[index,arg-type]
    codec = model.codecs["x"]
    assert np.array_equal(first, MODALITIES[codec.modality].view(model.draw(1, condition=3, seed=4), codec)[0, ..., 0])
    assert len(ai.images.generate(model="plain", prompt="", n=3).data or []) == 3
    with pytest.raises(openai.BadRequestError, match="nothing is kept"):
        ai.images.generate(model="plain", prompt="", response_format="url")
    with pytest.raises(openai.UnprocessableEntityError, match=r"no images of this size.*8x8"):
        ai.images.generate(model="plain", prompt="", size="1024x1024")
    with pytest.raises(openai.UnprocessableEntityError, match="takes no prompt"):
        ai.images.generate(model="plain", prompt="a cat")


def test_a_text_is_spoken(ai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "speaker", "voice": "default", "input": "oh"}
    spoken = ai.audio.speech.create(**asked, response_format="wav", extra_body={"seed": 1}).read()
    samples, rate = soundfile.read(io.BytesIO(spoken))
    assert rate == 8000
    assert len(samples) > 100
    assert ai.audio.speech.create(**asked, response_format="wav", extra_body={"seed": 1}).read() == spoken
    assert ai.audio.speech.create(**asked, response_format="flac").read()[:4] == b"fLaC"
    for other in ({"response_format": "mp3"}, {"voice": "alloy"}, {"speed": 2}, {"instructions": "softly"}):
        with pytest.raises(openai.BadRequestError) as found:
            ai.audio.speech.create(**{**asked, **other})
        assert found.value.param == next(iter(other))


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, hums().items[0], 8000, format="WAV")
    return file.getvalue()


def test_a_recording_is_transcribed(ai: OpenAI, root: Path) -> None:
    model = fitting.load("listener", runs=root)
    own = model.draw(1, condition=hums().items[:1], sampling={"temperature": 0})
    assert ai.audio.transcriptions.create(model="listener", file=("a.wav", wav())).text == own[0]
    with pytest.raises(openai.BadRequestError, match="the answer is JSON"):
        ai.audio.transcriptions.create(model="listener", file=("a.wav", wav()), response_format="srt")
    with pytest.raises(openai.APIStatusError, match="format"):
        ai.audio.transcriptions.create(model="listener", file=("a.mp3", b"nothing"))


# -- the page ----------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
THERE = "http://127.0.0.1:8000"
"""Where the page's server is."""
Command = tuple[str, str]
"""What is typed, and what the page shows of the answer."""


def commands(page: str) -> list[Command]:
    """Every `$ curl` of the page's console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            match = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL)
            assert match is not None
            if match[1].startswith("curl "):
                found.append((match[1], match[2]))
    return found


def differs(command: Command, address: str, folder: Path) -> str:
    """What is wrong with the answer to a command; "" for nothing. Dots on the page stand for anything."""
    typed, shown = command
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    space = {**os.environ, "CURL_HOME": str(folder), "QUINTET_TOKEN": TOKEN}
    done = subprocess.run(["bash", "-c", typed.replace(THERE, address)], cwd=folder, env=space, timeout=30,
                          capture_output=True, text=True)  # fmt: skip
    pattern = r".*".join(re.escape(part) for part in shown.strip().split("..."))
    if (done.returncode != 0) != ('"error":' in shown) or not re.fullmatch(pattern, done.stdout.strip(), re.DOTALL):
        return f"{typed}\n{done.returncode} {done.stdout[:400]} {done.stderr}"
    return ""


def test_the_commands_of_the_page_do_what_it_shows(address: str, tmp_path: Path) -> None:
    found = commands(PAGE.read_text())
    assert len(found) >= 12
    for command in found:
        assert differs(command, address, tmp_path) == ""
    assert Image.open(tmp_path / "threes.png").format == "PNG"
    assert soundfile.read(tmp_path / "oh.wav")[1] == 8000
    assert np.load(tmp_path / "latents.npz").files


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("curl -H 'Authorization: Bearer no' http://127.0.0.1:8000/v1/models", ""),
     ('curl -H "Authorization: Bearer $QUINTET_TOKEN" http://127.0.0.1:8000/v1/models/plain', '{"id":"other",...}'),
     ('curl -H "Authorization: Bearer $QUINTET_TOKEN" http://127.0.0.1:8000/v1/models', '{"error":...}')],
)  # fmt: skip
def test_a_command_that_does_something_else_is_noticed(typed: str, shown: str, address: str, tmp_path: Path) -> None:
    assert differs((typed, shown), address, tmp_path)


def test_the_program_of_the_page_runs(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(source.replace(THERE, address), str(PAGE), "exec"), {})
    told = capsys.readouterr().out
    assert "'letters'" in told
    assert "CompletionUsage" in told
    assert told.endswith("characters of base64\n")


def test_the_pages_nginx_hands_streams_on_as_they_come(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block as it stands but for ports and the certificate; the control: with buffers, pieces come together."""
    nginx, openssl = shutil.which("nginx"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx")
    (block,) = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    pem, key = tmp_path / "models.pem", tmp_path / "models.key"
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=models.example.org",
                    "-keyout", key, "-out", pem], check=True, capture_output=True)  # fmt: skip
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)
    true = Continuations.step

    def slow(self: Continuations) -> None:
        time.sleep(0.04)
        true(self)

    monkeypatch.setattr(Continuations, "step", slow)
    with running(service(root, "stream", names=("models.example.org",))) as one:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        block = block.replace("    server 127.0.0.1:8001;\n", "").replace(":8000", f":{one.base_url.port}")
        block = block.replace("443", f"127.0.0.1:{port}").replace("/etc/ssl", str(tmp_path))
        assert spread(nginx, block, port, tmp_path) > 0.2
        buffered = block.replace("proxy_http_version", "proxy_ignore_headers X-Accel-Buffering; proxy_http_version")
        assert spread(nginx, buffered, port, tmp_path) < 0.1


def spread(nginx: str, block: str, port: int, folder: Path) -> float:
    """Seconds between the first and the last piece of a text that come through nginx with this block."""
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"daemon off;\npid {folder}/pid;\nerror_log {folder}/log;\nevents {{}}\n"
                                       f"http {{\naccess_log off;\n{paths}{block}}}\n")  # fmt: skip
    words = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", f"{folder}/log"]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(words)
    try:
        told = {"model": "stream", "prompt": "the ", "max_tokens": 12, "seed": 1, "stream": True}
        head = {"Authorization": f"Bearer {TOKEN}", "Host": "models.example.org"}
        with Client(base_url=f"https://127.0.0.1:{port}", headers=head, verify=False, timeout=30) as one:
            wait(lambda: answers(one))
            with one.stream("POST", "/v1/completions", json=told) as answer:
                assert answer.status_code == 200
                times = [time.monotonic() for _ in answer.iter_raw()]
                return times[-1] - times[0]
    finally:
        process.terminate()
        process.wait(10)


def answers(one: Client) -> bool:
    try:
        return one.get("/health").status_code == 200
    except TransportError:
        return False


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_an_error_that_the_client_knows(address: str) -> None:
    stranger = OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="token") as found:
        stranger.models.list()
    assert found.value.type == "authentication_error"
    assert found.value.request_id
    with pytest.raises(openai.AuthenticationError):
        stranger.completions.create(model="letters", prompt="the ")


def test_too_many_are_told_when_to_come_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)
    small = service(root, "letters", queue=1)
    monkeypatch.setattr(small.models["letters"].engine, "limit", 0)
    with running(small) as one:
        ai = OpenAI(base_url=f"{one.base_url}/v1", api_key=TOKEN, max_retries=0)
        with pytest.raises(openai.RateLimitError) as found:
            text_of(ai)
    assert found.value.response.headers["retry-after"]
    assert found.value.type == "rate_limit_error"


def test_a_client_that_leaves_frees_its_slot(made: Service, ai: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a stream whose work nobody cancels is still at work."""
    engine = made.models["stream"].engine
    asked: dict[str, Any] = {"model": "stream", "prompt": "the ", "max_tokens": 100_000, "stream": True}
    made.request = made.request.model_copy(update={"most_work": 10**12})
    for fault in (False, True):
        if fault:
            monkeypatch.setattr(completions, "Events", Forgetful)
        stream = ai.completions.create(**asked)
        for _ in range(3):
            next(stream)
        assert not engine.idle
        stream.close()
        if fault:
            with pytest.raises(AssertionError):
                wait(lambda: engine.idle, 1.0)
        else:
            assert wait(lambda: engine.idle, 5.0) < 5
    engine.cancel()
    wait(lambda: engine.idle, 5.0)


def test_what_fails_behind_the_first_piece_is_told_in_the_stream(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINTET_TOKEN", TOKEN)
    hasty, pieces = service(root, "stream", most_work=10**12, deadline=1), list[str]()
    with running(hasty) as one:
        ai = OpenAI(base_url=f"{one.base_url}/v1", api_key=TOKEN, max_retries=0)
        ai.completions.create(model="stream", prompt="the ", max_tokens=1)  # reads the model
        stream = ai.completions.create(model="stream", prompt="the ", max_tokens=100_000, stream=True)
        with pytest.raises(openai.APIError, match="this took too long"):
            pieces.extend(piece.choices[0].text for piece in stream)
    assert len(pieces) > 3


class Forgetful(completions.Events):
    """A stream that forgets to end its work."""

    def __init__(self, events: Any, doing: Any) -> None:
        kept = threading.local()
        super().__init__(events, kept)
        kept.cancel = lambda: None  # type: ignore[attr-defined]


def test_hostile_requests_are_refused_and_nothing_is_repeated(made: Service) -> None:
    """Control: an answer that repeats what was sent is found."""
    ask = client(made)
    paths = {"completions": "letters", "images/generations": "plain", "audio/speech": "speaker"}
    fields = {"prompt", "max_tokens", "n", "seed", "stop", "logprobs", "temperature", "input", "size", "condition"}
    for path, model in paths.items():
        for field in sorted(fields):
            for value in VALUES:
                body = {"model": model, "prompt": "a", "input": "a", field: value}
                body = {key: one for key, one in body.items() if key != "input" or path == "audio/speech"}
                body = {key: one for key, one in body.items() if key != "prompt" or path != "audio/speech"}
                found = ask.post(f"/v1/{path}", content=json.dumps(body), headers={"content-type": "application/json"})
                assert not faults(found), (path, body, found.text)
    for raw in RAW:
        found = ask.post("/v1/completions", content=b'{"model": "letters", "n": ' + raw + b"}")
        assert found.status_code in (400, 422), raw
        assert not faults(found), (raw, found.text)
    telling = problem(Refusal(400, f"{MARK} is wrong"), "1", path="/v1/completions")
    answer = Response(400, content=bytes(telling.body), headers={"x-request-id": "1"},
                                request=Request("POST", "http://localhost/v1/completions"))  # fmt: skip
    assert faults(answer) == ["the input is repeated"]


ROUTES = [("POST", f"/v1/{path}") for path in ("completions", "images/generations", "audio/speech",
          "audio/transcriptions", "chat/completions")]  # fmt: skip


@pytest.mark.slow
def test_ten_thousand_hostile_requests_of_these_clients(made: Service) -> None:
    """With models that answer each of these routes."""
    assert wrong(client(made), hostile(ROUTES, RUNS, 10_000, 2)) == []


@pytest.mark.slow
def test_the_schema_holds_whatever_these_clients_ask(made: Service) -> None:
    seen = by_schema(made, "/v1/")
    assert {200, 400, 422} <= seen
    assert not seen & {401, 403}
