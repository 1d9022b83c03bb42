"""The page on which a model is used: which verbs it shows, what its scripts are told, and files that lead back."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from typing import Any

import pytest
from in_browser import client, studio
from starlette.testclient import TestClient

import quintet
from quintet.fit import fitting
from quintet.operations.answering import VERBS, asked_by, refusals
from quintet.runs.folder import Run
from quintet.runs.restoring import codecs_of
from quintet.studio.house import Studio

NAMES = ("pictures", "compare-1/drawn", "letters", "labels", "flower", "hours")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Runs of two steps, one of them below a comparison."""
    folder = tmp_path_factory.mktemp("studio")
    runs = folder / "runs"
    tiny: dict[str, Any] = {"preset": "tiny", "steps": 2, "runs": runs}
    texts = [f"the {word} number {i}" for i in range(60) for word in ("red", "green", "blue")]
    fitting.train("vae", data="digits", run="pictures", **tiny)
    fitting.train("gan", data="digits", condition="label", run="drawn", **{**tiny, "runs": runs / "compare-1"})
    fitting.train("autoregressive", data=texts, run="letters", **tiny)
    fitting.train("autoregressive", data="digits", target="label", condition="image", run="labels", **tiny)
    fitting.train("flow", data="iris", condition="label", run="flower", **tiny)
    fitting.train("diffusion", data="days", run="hours", **tiny)
    fitting.train("vae", data="iris", target="petal_length_cm", condition="label,petal_width_cm", run="petals", **tiny)
    return studio(folder)


@pytest.fixture(scope="module")
def browser(made: Studio) -> TestClient:
    return client(made)


def facts(text: str) -> dict[str, Any]:
    """What the scripts of a page are told."""
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', text)
    assert found
    told: dict[str, Any] = json.loads(found[1])
    return told


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_each_verb_or_why_not(browser: TestClient, made: Studio, name: str) -> None:
    run = Run(made.root / name)
    refused = refusals(run, codecs_of(run))
    page = browser.get(f"/use/{name}").text
    for verb, why in refused.items():
        assert (f"/use/{name}?verb={verb}" in page) == (not why)
        assert re.search(r"\w", why) is None or why.split("'")[0] in page
        answer = browser.get(f"/use/{name}?verb={verb}")
        assert answer.status_code == 200
        assert ('id="ask"' in answer.text) == (not why)


@pytest.mark.parametrize("name", NAMES)
def test_verbs_are_refused_as_the_loaded_model_refuses_them(made: Studio, name: str) -> None:
    run = Run(made.root / name)
    refused = refusals(run, codecs_of(run))
    model = fitting.load(run.path)
    for verb, operation in (
        ("score", "log_prob"),
        ("complete", "complete"),
        ("encode", "encode"),
        ("classify", "classify"),
    ):
        if refused[verb]:
            with pytest.raises(quintet.QuintetError):
                model.able(operation)
        else:
            model.able(operation)
    assert not refused["sample"]


def test_fields_are_those_of_the_request_and_of_the_family(browser: TestClient) -> None:
    pictures, letters = browser.get("/use/pictures?verb=sample").text, browser.get("/use/letters?verb=sample").text
    assert "pixel_temperature" in pictures
    for name in ("prompt", "regex", "n_best"):
        assert f'name="{name}"' not in pictures
        assert f'name="{name}"' in letters
    assert '<option value="" data-every' in browser.get("/use/compare-1/drawn").text
    assert 'name="condition"' not in pictures
    assert "{label: ..., petal_width_cm: ...}" in browser.get("/use/petals").text
    assert 'name="condition"' not in browser.get("/use/labels?verb=sample").text  # a picture is not typed


def test_an_address_fills_the_form(browser: TestClient) -> None:
    page = browser.get("/use/pictures?verb=sample&seed=77&sampling.temperature=0.5&n=%22%3E%3Cscript%3E").text
    assert 'value="77"' in page
    assert 'value="0.5"' in page
    assert "<script>" not in page


def test_scripts_are_told_media_types(browser: TestClient) -> None:
    told = {name: facts(browser.get(f"/use/{name}?verb=sample").text) for name in NAMES}
    assert told["pictures"]["items"]["media"] == told["labels"]["given"]["media"] == "image/png"
    assert told["letters"]["items"]["typed"]
    assert told["flower"]["media"][0] == "text/csv"
    assert [cell["name"] for cell in told["flower"]["given"]["cells"]] == ["label"]
    assert sorted(map(str, told["compare-1/drawn"]["given"]["cells"][0]["values"])) == [str(i) for i in range(10)]


def test_a_run_without_weights_says_so(browser: TestClient, made: Studio) -> None:
    import shutil

    shutil.copytree(made.root / "pictures", made.root / "young", ignore=shutil.ignore_patterns("checkpoints", "best"))
    page = browser.get("/use/young")
    assert page.status_code == 200
    assert "no checkpoint yet" in page.text
    assert 'id="ask"' not in page.text
    assert browser.get("/use/nothing", headers={"accept": "text/html"}).status_code == 422


# -- what the page asks ------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_before_it_is_asked(browser: TestClient) -> None:
    letters = browser.post("/studio/use/load", json={"model": "letters"}).json()
    assert letters == {"writes": True, "longest": letters["longest"], "step": 2}
    asked = {"model": "letters", "n": 1, "length": letters["longest"]}
    assert browser.post("/api/v1/sample", json=asked).status_code == 200
    assert browser.post("/api/v1/sample", json={**asked, "length": letters["longest"] + 1}).status_code == 422
    assert not browser.post("/studio/use/load", json={"model": "compare-1/drawn"}).json()["writes"]
    assert (
        browser.post("/studio/use/load", json={"model": "../pictures"}).json()["title"]
        == "there is no run of this name"
    )


def test_a_damaged_model_is_named(browser: TestClient, made: Studio) -> None:
    import shutil

    shutil.copytree(made.root / "pictures", made.root / "damaged")
    for file in (made.root / "damaged").glob("checkpoints/*/*.safetensors"):
        file.write_bytes(b"nothing")
    answer = browser.post("/studio/use/load", json={"model": "damaged"})
    assert answer.status_code == 503
    assert "damaged" in answer.json()["title"]


@pytest.mark.parametrize(
    ("name", "verb"),
    [("pictures", "reconstruct"), ("pictures", "complete"), ("compare-1/drawn", "encode"), ("letters", "score"),
     ("labels", "classify"), ("labels", "score"), ("flower", "score"), ("flower", "rank"), ("hours", "complete")],
)  # fmt: skip
def test_own_items_are_what_verbs_take(browser: TestClient, name: str, verb: str) -> None:
    own = browser.get("/studio/use/items", params={"run": name, "n": 4, "seed": 1}).json()
    assert own == browser.get("/studio/use/items", params={"run": name, "n": 4, "seed": 1}).json()
    assert own != browser.get("/studio/use/items", params={"run": name, "n": 4, "seed": 2}).json()
    sides = {"items": own["items"], "conditions": own["conditions"]}
    if VERBS[verb].needs != "items":
        del sides["items"]
    body = {"model": name} | {side: values for side, values in sides.items() if values is not None}
    answer = browser.post(f"/api/v1/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["items"]) == 4


def test_more_of_a_seed_begins_with_the_same_items(browser: TestClient) -> None:
    body = {"model": "compare-1/drawn", "seed": 3}
    few, many = (browser.post("/api/v1/sample", json={**body, "n": n}).json()["items"] for n in (4, 9))

    def pixels(item: str) -> bytes:
        import io

        from PIL import Image

        return Image.open(io.BytesIO(base64.b64decode(item))).tobytes()

    assert list(map(pixels, few)) == list(map(pixels, many[:4]))


@pytest.mark.parametrize("query", [{}, {"run": "pictures", "n": 0}, {"run": "pictures", "n": "x"}, {"run": "../x"}])
def test_what_is_no_draw_of_own_items_is_refused(browser: TestClient, query: dict[str, Any]) -> None:
    answer = browser.get("/studio/use/items", params=query)
    assert answer.status_code == 422
    assert answer.json()["title"]


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"verb": "sample", "n": 3, "sampling": {"truncation": 0.5}}, "sample R -n 3 --sampling.truncation 0.5"),
        ({"verb": "rank"}, "score R --rank"),
        ({"verb": "complete", "known": "left", "n": 8, "split": "test"}, "complete R --known left -n 8"),
        ({"verb": "sample", "condition": {"a": 1, "b": "x"}}, """sample R --condition '{"a": 1, "b": "x"}'"""),
        ({"verb": "translate", "conditions": "lines.txt"}, "sample R --conditions lines.txt"),
    ],
)  # fmt: skip
def test_what_is_asked_can_be_said_as_a_command(
    browser: TestClient, made: Studio, fields: dict[str, Any], command: str
) -> None:  # fmt: skip
    found = browser.post("/studio/use/spoken", json={"run": "R", **fields}).json()["command"]
    start, _, end = f"quintet {command}".partition(" R")
    assert found.startswith(start + " R")
    assert all(part in found for part in end.split(" --"))
    assert f"--runs {made.root}" in found


# -- files that quintet made -------------------------------------------------------------------------------------------


def dropped(browser: TestClient, content: bytes, name: str) -> dict[str, Any]:
    answer = browser.post("/studio/use/file", files={"file": (name, content)}, headers={"accept": "application/json"})
    found: dict[str, Any] = answer.json()
    return found


def test_a_picture_leads_back_to_its_run_seed_and_settings(browser: TestClient) -> None:
    body = {"model": "compare-1/drawn", "n": 3, "seed": 41, "condition": "7", "sampling": {"truncation": 0.5}}
    items = browser.post("/api/v1/sample", json=body).json()["items"]
    to = dropped(browser, base64.b64decode(items[2]), "item.png")["to"]
    assert to.startswith("/use/compare-1/drawn?verb=sample&")
    for part in ("seed=41", "n=3", "condition=7", "index=2", "sampling.truncation=0.5", "weights="):
        assert part in to
    page = browser.get(to)
    assert page.status_code == 200
    assert "<option selected>7</option>" in page.text
    moved = browser.post("/studio/use/file", files={"file": ("item.png", base64.b64decode(items[2]))})
    assert str(moved.url).endswith(to)


def test_of_runs_of_one_name_the_one_with_the_weights_is_found(browser: TestClient, made: Studio) -> None:
    fitting.train("vae", data="digits", run="drawn", preset="tiny", steps=1, runs=made.root)
    item = browser.post("/api/v1/sample", json={"model": "compare-1/drawn", "n": 1}).json()["items"][0]
    assert dropped(browser, base64.b64decode(item), "a.png")["to"].startswith("/use/compare-1/drawn?")
    item = browser.post("/api/v1/sample", json={"model": "drawn", "n": 1}).json()["items"][0]
    assert dropped(browser, base64.b64decode(item), "a.png")["to"].startswith("/use/drawn?")


def test_a_table_and_a_note_beside_a_file_lead_back(browser: TestClient) -> None:
    answer = browser.post(
        "/api/v1/sample",
        json={"model": "flower", "n": 3, "seed": 6},
        headers={"accept": "application/vnd.apache.parquet"},
    )
    assert "/use/flower?" in dropped(browser, answer.content, "rows.parquet")["to"]
    note = answer.headers["x-quintet-provenance"].encode()
    assert "seed=6" in dropped(browser, note, "rows.csv.provenance.json")["to"]


NOTE = "rows.csv.provenance.json"


@pytest.mark.parametrize("names", [["rows.csv", NOTE], [NOTE], ["rows.csv"]])
def test_an_archive_of_a_file_and_the_note_beside_it_leads_back(browser: TestClient, names: list[str]) -> None:
    asked = {"model": "flower", "n": 3, "seed": 6}
    answer = browser.post("/api/v1/sample", json=asked, headers={"accept": "text/csv"})
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in names:
            note = name.endswith(".json")
            archive.writestr(name, answer.headers["x-quintet-provenance"] if note else answer.content)
    found = dropped(browser, whole.getvalue(), "rows.csv.zip")
    assert (
        "seed=6" in found["to"]
        if len(names) > 1 or "json" in names[0]
        else "does not say how quintet made it" in found["title"]
    )
    assert "does not say how quintet made it" in dropped(browser, whole.getvalue()[:40], "rows.csv.zip")["title"]


def test_a_text_leads_back_with_all_that_was_asked(browser: TestClient) -> None:
    body = {"model": "letters", "n": 2, "prompt": "the ", "stop": ["\\n", "a\\\\b"], "length": 5}
    answer = browser.post("/api/v1/sample", json=body, headers={"accept": "text/plain"})
    note = answer.headers["x-quintet-provenance"].encode()
    page = browser.get(dropped(browser, note, "a.txt.provenance.json")["to"]).text
    assert ">\nthe </textarea>" in page
    assert ">\n\\n\na\\\\b</textarea>" in page


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"a,b\n1,2\n", "rows.csv", "does not say how quintet made it"),
        (b"no picture", "a.png", "cannot be read"),
        (b'{"run": 5}', "a.json", "does not say how quintet made it"),
        (b'{"run": "gone", "weights": null}', "a.json", "is not in this folder of runs"),
        (b'{"run": "../../etc", "weights": null}', "a.json", "is not in this folder of runs"),
        (b'{"run": "*", "weights": null}', "a.json", "is not in this folder of runs"),
        (b"", "../../a.png", "cannot be read"),
    ],
)
def test_other_files_are_refused_with_the_reason(browser: TestClient, content: bytes, name: str, says: str) -> None:
    found = dropped(browser, content, name)
    assert says in found["title"]
    assert "/tmp/quintet-" not in json.dumps(found)


def test_a_note_says_which_verb_made_a_file() -> None:
    assert asked_by({"seed": 1, "n": 4, "condition": None}) == ("sample", {"n": 4, "seed": 1})
    assert asked_by({"seed": 1, "draws": 2, "known": "top"}) == ("complete", {"known": "top", "draws": 2, "seed": 1})
    assert [asked_by({word: 1})[0] for word in ("beside", "steps", "shape", "scored")] == [
        "reconstruct", "interpolate", "encode", "score",
    ]  # fmt: skip
