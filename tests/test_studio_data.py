"""The studio's pages of data: what is sent, what is understood of a source, and what of it can be corrected."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pytest
import soundfile
from in_browser import client, drop, served
from PIL import Image
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from quintet.core.errors import EnvironmentFault
from quintet.modalities.options import OPTIONS
from quintet.operations.previewing import options
from quintet.registry import MODALITIES
from quintet.server.problems import Refusal
from quintet.studio import data, previews, uploads, words
from quintet.studio.house import Studio
from quintet.studio.uploads import Uploads, safe_name, safe_paths

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


@pytest.fixture
def store(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def shown(browser: TestClient, source: Path | str, **fields: str) -> str:
    """The page of a source, once it has been read."""
    address = f"/data?{urlencode({'source': str(source), **fields})}"
    for _ in range(200):
        answer = browser.get(address, headers={"accept": "text/html"})
        assert answer.status_code == 200, answer.text
        if 'id="waiting"' not in answer.text:
            return answer.text
        time.sleep(0.05)
    raise AssertionError("it is not read")


def table(folder: Path, text: str = "", name: str = "people.csv") -> Path:
    path = folder / name
    path.write_text(text or "age,city,zip\n" + "".join(f"{20 + i % 30},{'AB'[i % 2]},{i:05d}\n" for i in range(80)))
    return path


# -- names and limits of what is sent ----------------------------------------------------------------------------------


def hostile(rng: random.Random) -> str:
    parts = ["..", ".", "", "/", "\\", "C:", "~", "a", "\0", "con", "NUL.txt", "x" * 300, "ä" * 200, ".hidden", "a.csv",
             "‮txt", "\ud800", "new\nline", "a:b", "..\\..", " ", "...", "%2e%2e", "COM1", "🙂"]  # fmt: skip
    return rng.choice(["", "/", "\\", "../", "C:\\"]) + rng.choice("/\\").join(rng.choices(parts, k=rng.randint(1, 30)))


def test_no_name_leads_out_of_its_folder(tmp_path: Path) -> None:
    rng = random.Random(0)
    paths = [hostile(rng) for _ in range(300)]
    found = safe_paths(paths)
    assert len({one.casefold() for one in found}) == 300
    root = (tmp_path / "root").resolve()
    for one in found:
        path = (root / one).resolve()
        assert path.is_relative_to(root)
        assert path != root
        assert not any(part.startswith(".") or part != part.strip(" .") for part in one.split("/"))
        assert all(len(part.encode()) <= 130 for part in one.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a.csv", "a.csv"), ("..", "_"), (".git", "git"), ("con.txt", "_con.txt"), ("a\0b", "ab"), ("a:b?", "a_b_"),
     ("é", "é"), ("x" * 200 + ".csv", "x" * 116 + ".csv"), ("a. . ", "a"), ("猫.png", "猫.png")],
)  # fmt: skip
def test_names_are_such_that_every_system_can_write_them(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_equal_names_stay_apart_and_so_do_folders() -> None:
    assert len({one.casefold() for one in safe_paths(["a.csv", "A.csv", "a.csv", "a-2.csv", "a", "a"])}) == 6
    found = safe_paths(["d?/a", "d*/a", "d?/b", "d"])
    assert found[0].split("/")[0] == found[2].split("/")[0] != found[1].split("/")[0]
    assert safe_paths(["d", "d/a", "d"]) == ["d", "d-2/a", "d-3"]


def test_more_than_the_limits_is_refused_before_anything_is_written(
    store: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 3)
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    for files in ([("a", 1)] * 4, [("a", 101)], [("a", 50), ("b", 51)], [], [("a", -1)]):
        with pytest.raises(Refusal):
            store.begin(files)
        assert not store.folder.exists()
    assert store.begin([("a", 50), ("b", 50), ("c", 0)])["have"] == 0


def test_a_disk_that_is_nearly_full_is_refused(store: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    for free, refused in ((uploads.RESERVE + 9, True), (uploads.RESERVE + 10, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(0, 0, free))
        if refused:
            with pytest.raises(EnvironmentFault, match="not enough free disk space"):
                store.begin([("a", 10)])
        else:
            store.begin([("a", 10)])


def test_a_disk_that_fills_up_is_said_and_what_is_here_is_kept(store: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    key = store.begin([("a", 10)])["id"]
    store[key].write(0, b"01234")
    real: Callable[..., Any] = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        store[key].write(5, b"56789")
    monkeypatch.setattr(Path, "open", real)
    assert store.begin([("a", 10)])["have"] == 5
    store[key].write(5, b"56789")
    assert Path(store.finish(key)).read_bytes() == b"0123456789"


# -- sending -----------------------------------------------------------------------------------------------------------


def send(browser: TestClient, files: dict[str, bytes], piece: int = 7, stamp: str = "") -> dict[str, Any]:
    """As the page's script sends them. Returns the last answer."""
    announced = {"files": [[path, len(content)] for path, content in files.items()], "stamp": stamp}
    whole = b"".join(files.values())
    state = browser.post("/studio/data/uploads", json=announced).json()
    while state["have"] < len(whole) and state.get("source") is None:
        at = state["have"]
        answer = browser.post(f"/studio/data/uploads/{state['id']}?at={at}", content=whole[at : at + piece])
        state |= answer.json()
    return state if state.get("source") else browser.post(f"/studio/data/uploads/{state['id']}/done").json()


def test_what_is_sent_becomes_a_source(browser: TestClient, made: Studio) -> None:
    files = {"pets/cats/1.txt": b"meow", "pets/cats/2.txt": b"", "pets/dogs/1.txt": bytes(range(50)), "pets/e.txt": b""}
    source = Path(send(browser, files)["source"])
    assert source == made.root / ".studio" / "uploads" / "pets"
    assert {str(path.relative_to(source.parent)): path.read_bytes() for path in source.rglob("*.txt")} == files
    alone = Path(send(browser, {"table.csv": b"a,b\n1,2\n"})["source"])
    assert (alone.name, alone.parent.name) == ("table.csv", "table")
    assert Path(send(browser, {"table.csv": b"a,b\n1,3\n"}, stamp="2")["source"]).parent.name == "table-2"
    loose = Path(send(browser, {"a.txt": b"1", "b.txt": b"2"})["source"])
    assert {path.name for path in loose.iterdir()} == {"a.txt", "b.txt"}
    assert not list((source.parent / ".parts").iterdir())
    page = browser.get("/data").text
    assert ">pets<" in page
    again = browser.post("/studio/data/uploads", json={"files": [["table.csv", 8]], "stamp": ""}).json()
    assert again["source"] == str(alone)


def test_what_broke_off_goes_on_where_it_was(browser: TestClient, made: Studio) -> None:
    files = {f"d/{i}.bin": bytes([i]) * (i * 3) for i in range(20)}
    whole = b"".join(files.values())
    announced = {"files": [[path, len(content)] for path, content in files.items()]}
    state = browser.post("/studio/data/uploads", json=announced).json()
    browser.post(f"/studio/data/uploads/{state['id']}?at=0", content=whole[:100])
    again = client(made)  # the studio was started again
    assert again.post("/studio/data/uploads", json=announced).json()["have"] == 100
    wrong = again.post(f"/studio/data/uploads/{state['id']}?at=90", content=whole[90:])
    assert wrong.status_code == 409
    assert again.post(f"/studio/data/uploads/{state['id']}/done").status_code == 409
    source = Path(send(again, files, 50)["source"])
    assert {f"d/{path.name}": path.read_bytes() for path in source.iterdir()} == files


def test_bytes_behind_the_last_are_refused(browser: TestClient, made: Studio) -> None:
    state = browser.post("/studio/data/uploads", json={"files": [["a", 3]]}).json()
    answer = browser.post(f"/studio/data/uploads/{state['id']}?at=0", content=b"1234")
    assert answer.status_code == 422
    assert not list((made.root / ".studio" / "uploads" / ".parts").glob("*/files/*"))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"files": 1}', b'{"files": [["a"]]}', b'{"files": [["a", "1"]]}', b'{"files": [[1, 1]]}',
     b'{"files": [["a", true]]}', b'{"files": [["a", 1.5]]}', b'{"files": [["a", -1]]}', b"[" * 3000],
)  # fmt: skip
def test_what_is_no_list_of_files_is_refused(browser: TestClient, body: bytes) -> None:
    assert browser.post("/studio/data/uploads", content=body).status_code == 422


def test_names_of_uploads_lead_nowhere_else(browser: TestClient, made: Studio) -> None:
    keep = made.root / "keep"
    keep.mkdir()
    for key in ("..", "%2e%2e", "..%2f..%2fkeep", "x" * 32, "." * 32):
        for path in (f"{key}?at=0", f"{key}/done", f"{key}/cancel"):
            browser.post(f"/studio/data/uploads/{path}", content=b"x")
        browser.post("/studio/data/uploads/remove", data={"id": key})
    assert keep.is_dir()


def test_it_can_be_given_up_and_removed_and_what_broke_off_long_ago_is_swept(
    browser: TestClient, made: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.root / ".studio" / "uploads"
    state = browser.post("/studio/data/uploads", json={"files": [["a", 3]]}).json()
    browser.post(f"/studio/data/uploads/{state['id']}/cancel")
    assert not (folder / ".parts" / state["id"]).exists()
    source = Path(send(browser, {"a.txt": b"123"})["source"])
    key = browser.post("/studio/data/uploads", json={"files": [["a.txt", 3]], "stamp": ""}).json()["id"]
    assert browser.post("/studio/data/uploads/remove", data={"id": key}).url.path == "/data"
    assert not source.parent.exists()
    old = browser.post("/studio/data/uploads", json={"files": [["b", 3]]}).json()["id"]
    monkeypatch.setattr(uploads, "LEFTOVER", -1)
    browser.post("/studio/data/uploads", json={"files": [["c", 3]]})
    assert not (folder / ".parts" / old).exists()


# -- what is understood ------------------------------------------------------------------------------------------------


def test_the_page_without_a_source_shows_the_ways_in(browser: TestClient) -> None:
    page = browser.get("/data").text
    for needed in ('id="drop"', 'id="path"', 'id="hub"', "/data?source=digits", "/data?source=moons"):
        assert needed in page
    tables = browser.get("/data?door=tables").text
    assert "/data?source=moons" in tables
    assert "/data?source=digits" not in tables
    assert browser.get("/data?door=nonsense").status_code == 200


def test_columns_that_no_model_takes_are_among_what_one_should_look_at(browser: TestClient, tmp_path: Path) -> None:
    rows = [{"n": i % 9, "tags": ["x", "y"][: i % 3], "place": {"x": i}} for i in range(300)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    address = f"/data?source={tmp_path / 'rows.json'}"
    for _ in range(50):
        page = browser.get(address).text
        if 'id="waiting"' not in page:
            break
        time.sleep(0.1)
    problems = page.partition('id="problems"')[2].partition("</section>")[0]
    assert "column tags holds lists, but a cell must hold a single value: left out" in problems
    assert "column place holds records" in problems
    assert page.count("column tags holds lists") == 1


def test_every_kind_of_data_has_its_door_and_its_words() -> None:
    known = words.catalogue("en")
    for kind, modality in MODALITIES.items():
        assert f"home.door.{modality.door}" in known
        assert f"data.kind.{kind}" in known
        assert all(f"source.type.{one}" in known for one in OPTIONS[kind].typed)
        assert all(f"source.option.{one}" in known for one in options(kind) if one != "types")


def test_built_in_pictures_are_shown(browser: TestClient) -> None:
    page = shown(browser, "digits")
    assert page.count('<figure class="tile">') == 48
    assert "1,797" in page
    assert 'value="label" checked' in page
    assert 'name="type:' not in page
    assert "/new?source=digits&amp;condition=label" in page
    answer = browser.get("/studio/data/items/3?source=digits")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (8, 8)
    assert browser.get("/studio/data/items/48?source=digits").status_code == 404


def test_a_table_is_shown_and_its_types_are_corrected_in_the_address(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path)
    page = shown(browser, path)
    assert '<select name="type:age"' in page
    assert page.count('<svg class="bars"') == 3
    form = {
        "source": str(path),
        "condition": "",
        "type:age": "category",
        "type:city": "",
        "target": "",
        "data.split": "",
    }
    answer = browser.get(f"/data?{urlencode(form)}", follow_redirects=False)
    assert answer.status_code == 303
    address = answer.headers["location"]
    assert address == f"/data?{urlencode({'source': str(path), 'data.types': 'age=category', 'condition': ''})}"
    corrected = browser.get(address).text
    assert '<option value="category" selected>' in corrected
    for then, part in (("new", "one"), ("compare", "all")):  # and goes on with what was corrected
        onwards = browser.get(f"/data?{urlencode(form | {'then': then})}", follow_redirects=False).headers["location"]
        assert onwards == f"{address.replace('/data', '/new')}#{part}"
    dropped = shown(browser, path, **{"data.types": "zip=drop", "condition": "city"})
    assert '<option value="drop" selected>' in dropped
    assert 'name="condition" value="city" checked' in dropped
    assert "data.types=zip%3Ddrop&amp;condition=city" in dropped
    wrong = browser.get(f"/data?source={path}&data.types=city=number", headers={"accept": "text/html"})
    assert "cannot be read as the type number" in wrong.text
    assert f'href="/data?{urlencode({"source": str(path)})}"' in wrong.text  # as it was found


def test_what_was_corrected_goes_into_a_comparison(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path)
    form = {"data": str(path), "data.types": "zip=drop", "condition": "city", "budget": "60s"}
    said = browser.post("/studio/new/spoken", json=form).json()["compare"]["command"]
    assert said.startswith(f"quintet compare {path} --condition city --budget 60s")
    assert said.endswith("--data.types zip=drop")


def test_names_that_need_quotes_are_corrected_too(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path, '"a=b","c,d",é x\n' + "".join(f"{i},{i % 3},{i % 5}\n" for i in range(60)))
    fields = {"source": str(path), "type:a=b": "decimal", "type:c,d": "category", "type:é x": "category"}
    answer = browser.get(f"/data?{urlencode(fields)}")
    assert answer.status_code == 200
    assert answer.text.count('<option value="category" selected>') == 2
    assert answer.text.count('<option value="decimal" selected>') == 1


def test_a_series_is_read_out_of_a_table(browser: TestClient, tmp_path: Path) -> None:
    rows = "".join(f"2024-01-01T{i // 60:02d}:{i % 60:02d},{np.sin(i / 5):.3f}\n" for i in range(600))
    path = table(tmp_path, "at,load\n" + rows)
    assert 'name="data.window"' in shown(browser, path)
    page = shown(browser, path, **{"data.window": "20"})
    assert 'class="tiles wide"' in page
    answer = browser.get(f"/studio/data/items/0?source={path}&data.window=20")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.text.startswith("<svg")


def test_recordings_and_texts_are_shown(browser: TestClient, tmp_path: Path) -> None:
    for label in ("low", "high"):
        (tmp_path / "tones" / label).mkdir(parents=True)
        for i in range(6):
            tone = np.sin(np.arange(4000) * (i + 1) / 20)
            soundfile.write(tmp_path / "tones" / label / f"{i}.wav", tone, 8000)
    page = shown(browser, tmp_path / "tones")
    assert page.count("<audio controls") == 6
    heard = browser.get(f"/studio/data/items/0?source={tmp_path / 'tones'}")
    assert heard.headers["content-type"] == "audio/wav"
    drawn = browser.get(f"/studio/data/items/0?source={tmp_path / 'tones'}&part=picture")
    assert Image.open(io.BytesIO(drawn.content)).height == 64
    lines = table(tmp_path, "".join(f"line number {i}\n" for i in range(80)), "lines.txt")
    assert "line number" in shown(browser, lines)


def test_what_cannot_be_read_says_why_and_is_read_again_when_it_is_mended(
    browser: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "me").mkdir()
    path = tmp_path / "later.csv"
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for source in (
        path,
        "x" * 5000,
        "/",
        "~",
        "file://[",
        tmp_path / "nothing\0",
        "~nobody/x",
        "no such set",
        tmp_path,
    ):
        answer = browser.get(f"/data?{urlencode({'source': str(source)})}", headers={"accept": "text/html"})
        assert answer.status_code == 200  # a page of its own; browsers note other answers as errors of the page
        assert 'class="notice bad"' in answer.text
        assert "this source cannot be read" not in answer.text  # as if nobody had thought of it
    table(tmp_path, name=path.name)
    assert "people" not in shown(browser, path)


def test_a_source_is_read_again_when_it_has_changed(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path)
    assert "<dd>80</dd>" in shown(browser, path)
    table(tmp_path, "age\n" + "1\n2\n" * 45)
    assert "<dd>90</dd>" in shown(browser, path)


def test_paths_are_found_however_they_are_written(
    browser: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = table(tmp_path)
    for written in (f"'{path}'", f'"{path}"', f" {path} ", path.as_uri(), "~/people.csv", "people.csv"):
        assert data.settled(written) == str(path)
    assert data.settled("digits") == "digits"
    assert data.settled("hf:a/b") == "hf:a/b"
    for written in ("a/b", "hf:a/b", " a/b ", "https://huggingface.co/datasets/a/b/"):
        assert data.asked_of(QueryParams({"hub": written})).source == "hf:a/b"
    (tmp_path / "pets").mkdir()
    (tmp_path / "notes.bin").touch()
    assert data.suggested("~/p") == [f"{tmp_path}/pets/", str(path)]
    assert data.suggested("") == [f"{tmp_path}/pets/", f"{tmp_path}/runs/", f"{tmp_path}/state/", str(path)]
    assert data.suggested("~/n") == []
    assert data.suggested("\0") == data.suggested("~nobody/") == data.suggested("/no/such/") == []


def test_cells_names_and_labels_are_text(browser: TestClient, tmp_path: Path) -> None:
    name = EVIL.replace("/", "∕")
    quoted = EVIL.replace('"', '""')
    hostile_table = table(tmp_path, f'"{quoted}",b\n' + f'"{quoted}",1\nx,2\n' * 40, f"{name}.csv")
    pages = [shown(browser, hostile_table), shown(browser, tmp_path / EVIL.replace("/", "∕")),
             shown(browser, "digits", target=EVIL, **{"data.fit": EVIL})]  # fmt: skip
    folder = tmp_path / "pictures"
    for label in (name, "b"):
        (folder / label).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 40 * i).save(folder / label / f"{i}.png")
    pages.append(shown(browser, folder))
    send(browser, {f"{EVIL}.txt": b"abc"})
    pages.append(browser.get("/data").text)
    pages.append(shown(browser, table(tmp_path, f"{EVIL}\n" * 60, "evil.txt")))
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "alert(" in page  # it is there as text


def test_pages_of_data_answer_in_both_languages(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path)
    for language, word in (("en", "Taken for"), ("zh", "识别为")):
        browser.cookies.set("language", language)
        assert word in shown(browser, path)
    assert json.loads(browser.get("/studio/data/read", params={"source": str(path)}).text) == {"done": True}


def test_dates_that_may_be_meant_otherwise_can_be_turned_round(browser: TestClient, tmp_path: Path) -> None:
    path = table(tmp_path, "on,n\n" + "".join(f"{1 + i % 12:02d}/{1 + i % 7:02d}/2024,{i}\n" for i in range(70)))
    page = shown(browser, path)
    assert '<option value="datetime:%m/%d/%Y">' in page or '<option value="datetime:%d/%m/%Y">' in page
    turned = shown(browser, path, **{"data.types": "on=datetime:%m/%d/%Y"})
    assert '<option value="datetime:%m/%d/%Y" selected>' in turned
    clear = table(tmp_path, "on,n\n" + "".join(f"{1 + i % 28:02d}/01/2024,{i}\n" for i in range(70)), "clear.csv")
    assert "datetime:%" not in shown(browser, clear)


def test_a_source_can_be_read_again(browser: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = table(tmp_path), list[str]()
    real = previews.preview
    monkeypatch.setattr(previews, "preview", lambda *given: [read.append("once"), real(*given)][1])
    shown(browser, path)
    shown(browser, path, condition="city")
    assert len(read) == 1
    assert "again" not in str(browser.get(f"/data?source={path}&again=1").url)
    assert len(read) == 2


# -- in the browser ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_are_sent_and_corrected_by_keyboard(made: Studio, tmp_path: Path, chromium: Browser) -> None:
    path, said = table(tmp_path, name=f"{'<b>'}.csv"), list[str]()
    page = chromium.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    with served(made, "/data") as link:
        page.goto(link)
        page.wait_for_selector("#choose-files")
        page.set_input_files("#files", path)
        page.wait_for_selector("#to-new")
        page.wait_for_load_state()
        page.focus('[value="city"][name="condition"]')
        page.keyboard.press("Space")
        page.wait_for_url("**condition=city*")
        assert "condition=city" in str(page.get_attribute("#to-new", "href"))
        page.focus('[name="type:age"]')
        page.keyboard.type("category")
        page.keyboard.press("Tab")
        page.click("#to-new")  # which takes with it what is not read yet
        page.wait_for_url("**/new?*data.types=age*")
        page.go_back()
        page.wait_for_selector("#to-new")
        page.select_option('[name="type:age"]', "category")
        page.focus(".apply button")
        page.keyboard.press("Enter")
        page.wait_for_url("**data.types=age*")
        assert page.input_value('[name="type:age"]') == "category"
        assert page.is_checked('[value="city"][name="condition"]')
        page.goto(link.partition("/open")[0] + "/data")
        page.fill("#path", f"{tmp_path}/<")
        page.wait_for_selector("#paths option", state="attached")
        page.fill("#path", str(path))
        page.keyboard.press("Enter")
        page.wait_for_selector("#to-new")
        page.close()
    assert said == []


@pytest.mark.parametrize("what", ["files", "folder", "archive"])
def test_files_folders_and_archives_are_dropped(made: Studio, tmp_path: Path, chromium: Browser, what: str) -> None:
    mine = tmp_path / "mine"
    for i in range(140):  # more than a browser lists of a folder at once
        (mine / f"{'ab'[i % 2]}/deep").mkdir(parents=True, exist_ok=True)
        (mine / f"{'ab'[i % 2]}/deep/{i}.txt").write_text(f"the letter number {i}\n" * 40)
    (mine / ".hidden").write_text("nobody sends this")
    shutil.make_archive(str(tmp_path / "packed"), "zip", mine)
    given = {"files": sorted((mine / "a" / "deep").iterdir()), "folder": [mine], "archive": [tmp_path / "packed.zip"]}
    with served(made, "/data") as link, chromium.new_context() as context:
        page = context.new_page()
        page.goto(link)
        page.wait_for_selector("#choose:visible")
        drop(page.locator("#drop"), *given[what])
        page.wait_for_selector("#to-new", timeout=60_000)
        assert "the letter number" in page.inner_text("main")
    (found,) = (path for path in (made.root / ".studio" / "uploads").iterdir() if path.name[0] != ".")
    sent = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file() and path.name[0] != "."}
    whole = {path.relative_to(mine).as_posix() for path in mine.rglob("*.txt")}
    assert sent == {"files": {path.name for path in given["files"]}, "folder": whole, "archive": {"packed.zip"}}[what]
