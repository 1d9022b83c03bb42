"""Runs on the hub: against a local endpoint that speaks as much of the hub's protocol as its client uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

import quintet
from quintet.cli.main import main
from quintet.core.errors import CheckpointError, DataError, UsageError
from quintet.runs import hub
from quintet.runs.digests import Digests

pytest.importorskip("huggingface_hub")


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory: create, preupload, commit, list, download."""

    files: dict[str, dict[str, bytes]] = {}
    revisions: dict[str, str] = {}
    private: dict[str, bool] = {}
    tokens: list[str] = []

    def log_message(self, *args: Any) -> None:
        return

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        Hub.tokens.append(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            Hub.files.setdefault(name, {})
            Hub.revisions.setdefault(name, "0" * 40)
            Hub.private.setdefault(name, bool(asked.get("private")))
            return self.json({"url": f"http://{self.headers['Host']}/{name}", "name": name, "id": name})
        if self.path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        name = re.sub(r"^/api/models/([^/]+/[^/]+)/.*", r"\1", self.path)
        if "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for one in json.loads(body)["files"]]  # fmt: skip
            return self.json({"files": files})
        assert "/commit/" in self.path
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                Hub.files[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                del Hub.files[name][entry["value"]["path"]]
        Hub.revisions[name] = hashlib.sha1(body).hexdigest()
        url = f"http://{self.headers['Host']}/{name}/commit/{Hub.revisions[name]}"
        return self.json({"success": True, "commitOid": Hub.revisions[name], "commitUrl": url})

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        api = re.match(r"^/api/models/([^/]+/[^/]+)(/.*)?$", path)
        found = re.match(r"^/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path)
        match = api or found
        if match is None or match[1] not in Hub.files:
            return self.answer(404, X_Error_Code="RepoNotFound")
        name = match[1]
        files, revision = Hub.files[name], Hub.revisions[name]
        if found:
            content = files.get(found[3])
            if content is None:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=revision)
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self.answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=revision)
        if "/tree/" in path:
            return self.json([{"type": "file", "path": one, "size": len(content),
                               "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}
                              for one, content in files.items()])  # fmt: skip
        return self.json({"id": name, "modelId": name, "sha": revision, "private": False, "tags": [], "downloads": 0,
                          "likes": 0, "siblings": [{"rfilename": one} for one in files]})  # fmt: skip

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> quintet.Model:
    folder = tmp_path_factory.mktemp("hub")
    secret = folder / "secretfolder"
    secret.mkdir()
    rows = "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(200))
    (secret / "people.csv").write_text("age,kind\n" + rows)
    return quintet.train("vae", data=secret / "people.csv", steps=3, run="people", runs=folder / "runs")


class Said(NamedTuple):
    """What the command line answered."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """The command line of a user who is logged in, with an empty cache of the hub's client."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capfd.readouterr())

    return call


def test_a_run_goes_to_the_hub_and_comes_back(model: quintet.Model, command: Command, tmp_path: Path) -> None:
    done = command("push", model.run.path, "hf:me/people", "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    files = Hub.files["me/people"]
    assert set(said["files"]) == set(files)
    assert "Bearer hf_secret_token" in Hub.tokens
    assert "hf_secret_token" not in done.out + done.err
    everything = b"".join(files.values())
    assert b"secretfolder" not in everything  # where the data lie is nobody's business
    assert b"hf_secret_token" not in everything
    assert not any("optim" in name or "cursor" in name for name in files)

    loaded = quintet.load("hf:me/people")
    assert (loaded.run.name, loaded.run.address) == ("people", "hf:me/people")
    assert loaded.sample(5, seed=3).equals(model.sample(5, seed=3))
    weights = quintet.load(model.run.path).run.used()
    assert weights is not None
    assert weights.sha256.encode() in everything  # provenance names the same weights

    sampled = command("sample", "hf:me/people", "-n", 4, "-o", tmp_path / "x.csv")
    assert sampled.code == 0, sampled.err
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 5

    # pushed again: weights of another step take the place of these
    older = [name for name in files if name.startswith("checkpoints/")]
    files["checkpoints/step-00000001/model.safetensors"] = b"of long ago"
    assert command("push", model.run.path, "hf:me/people").code == 0
    assert [name for name in Hub.files["me/people"] if name.startswith("checkpoints/")] == older


def test_where_the_data_of_an_autoencoder_lie_stays_at_home(command: Command, tmp_path: Path) -> None:
    secret = tmp_path / "secretfolder"
    secret.mkdir()
    np.save(secret / "noise.npy", np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8))
    tiny: dict[str, Any] = {"data": secret / "noise.npy", "steps": 2, "preset": "tiny", "runs": tmp_path / "runs"}
    quintet.train("vae", run="codec", config={"model": {"grid": 4}}, **tiny)
    model = quintet.train("diffusion", run="latents", codec="codec", **tiny)
    assert command("push", model.run.path, "hf:me/latents").code == 0
    files = Hub.files["me/latents"]
    assert any("stage1" in name for name in files)
    assert b"secretfolder" not in b"".join(files.values())
    assert np.array_equal(quintet.load("hf:me/latents").sample(2, seed=1), model.sample(2, seed=1))


def test_the_hub_reads_the_card(model: quintet.Model, command: Command, tmp_path: Path) -> None:
    assert command("evaluate", model.run.path, "--samples", 40).code == 0
    assert command("push", model.run.path, "hf:me/card").code == 0
    text = Hub.files["me/card"]["README.md"].decode()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "quintet"
    assert head["tags"] == ["vae", "table"]
    assert "quintet sample hf:me/card" in text
    from huggingface_hub import ModelCard

    found = ModelCard(text).data.eval_results
    assert found
    assert {one.metric_type for one in found} >= {"auc", "log-likelihood, nats an item"}
    assert {one.dataset_name for one in found} == {"people.csv"}


@pytest.mark.parametrize("damage", ["flipped", "lost", "outside", "not json", "not quintet"])
def test_what_was_not_pushed_is_not_loaded(damage: str, model: quintet.Model, command: Command, tmp_path: Path) -> None:
    if "me/people" not in Hub.files:
        assert command("push", model.run.path, "hf:me/people").code == 0
    name = f"me/{damage.replace(' ', '-')}"
    files = Hub.files[name] = dict(Hub.files["me/people"])
    Hub.revisions[name] = hashlib.sha1(damage.encode()).hexdigest()
    weights = next(one for one in files if one.endswith("model.safetensors"))
    if damage == "flipped":
        files["config.yaml"] = files["config.yaml"].replace(b"seed: 0", b"seed: 1")
    elif damage == "lost":
        del files[weights]
    elif damage == "outside":
        files["digests.json"] = json.dumps({"../../evil": "0" * 64}).encode()
    elif damage == "not json":
        files["digests.json"] = b"[" * 100_000
    else:
        del files["digests.json"]
    done = command("sample", f"hf:{name}", "-o", tmp_path / "x.csv")
    assert done.code == 3, done.out + done.err
    assert "Traceback" not in done.err
    expected = {"flipped": "config.yaml", "lost": weights, "outside": "evil", "not json": "digests",
                "not quintet": "quintet push"}[damage]  # fmt: skip
    assert expected in done.err


def test_no_such_repository_and_no_network(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("sample", "hf:me/none")
    assert done.code == 3
    assert "check the name" in done.err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client tries again, and waits in between
    with pytest.raises(DataError, match="hub"):
        quintet.load("hf:me/none")
    for wrong in ("hf:", "hf:me", "hf:me/../x y", "hf:me/a/b"):
        with pytest.raises(UsageError, match="owner/name"):
            hub.repository(wrong)
    assert hub.repository("hf:me/a-b.c@v1") == ("me/a-b.c", "v1")


def test_weights_of_a_listing_are_checked(tmp_path: Path) -> None:
    """The control: the same files with the listing that fits are taken."""
    (tmp_path / "a").write_bytes(b"content")
    Digests({"a": hashlib.sha256(b"content").hexdigest()}, {}).verify(tmp_path, "")
    with pytest.raises(CheckpointError, match="damaged"):
        Digests({"a": hashlib.sha256(b"another").hexdigest()}, {}).verify(tmp_path, "")
    with pytest.raises(CheckpointError, match="missing"):
        Digests({"b": hashlib.sha256(b"content").hexdigest()}, {}).verify(tmp_path, "")
    with pytest.raises(DataError, match="hub"), hub.reaching("hf:a/b"):
        raise OSError("no route")
