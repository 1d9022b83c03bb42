"""The studio's frame: who is let in, what pages may load, and the catalogue of texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from in_browser import HERE, client, studio
from starlette.testclient import TestClient

from quintet.comparison.report import PALETTE
from quintet.core.errors import UsageError
from quintet.operations.requests import Complete, Evaluate, Interpolate, Sample, Score
from quintet.registry import CODECS, FAMILIES, codec_class
from quintet.runs.config import DataSettings
from quintet.studio import pages, words
from quintet.studio.app import create_app
from quintet.studio.events import event
from quintet.studio.house import Studio, run_of
from quintet.training.settings import TrainingSettings

SOURCE = Path(words.__file__).parent
TEMPLATES = sorted((SOURCE / "templates").glob("*.j2"))
SCRIPTS = sorted((SOURCE / "static" / "js").rglob("*.js"))


# -- who is let in -----------------------------------------------------------------------------------------------------


def routes_of(app: Any) -> list[tuple[str, str]]:
    """(method, path) of every route, with a stand-in for each parameter; files of pages are one of them."""
    inner: FastAPI = app.app
    found = [(method, re.sub(r"\{[^}]*\}", "x", route.path))
             for route in inner.routes if isinstance(route, APIRoute) for method in route.methods]  # fmt: skip
    return [*found, ("GET", "/static/studio.css")]


STRANGERS: dict[str, dict[str, str]] = {
    "no cookie": {},
    "wrong cookie": {"cookie": "quintet-8700=wrong"},
    "cookie of another port": {"cookie": "quintet-8701=wrong"},
    "wrong token": {"authorization": "Bearer wrong"},
    "foreign host": {"host": "evil.example"},
    "two hosts": {"host": "127.0.0.1:8700@evil.example"},
    "foreign origin": {"origin": "https://evil.example"},
    "no origin at all": {"origin": "null"},
}
INSIDE: dict[str, dict[str, str]] = {
    "foreign host": {"host": "evil.example"},
    "foreign origin": {"origin": "https://evil.example"},
    "another port": {"origin": "http://127.0.0.1:3000"},
    "cross-site form": {"sec-fetch-site": "cross-site"},
    "form of another port": {"sec-fetch-site": "same-site"},
}


def let_in(browser: TestClient, routes: list[tuple[str, str]], headers: dict[str, str]) -> list[str]:
    """The routes that answer."""
    answers = {f"{method} {path}": browser.request(method, path, headers=headers).status_code for method, path in routes
               if path != "/open"}  # fmt: skip
    return [f"{route}: {status}" for route, status in answers.items() if status not in (401, 403)]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_are_refused_on_every_route(made: Studio, stranger: str) -> None:
    outside = client(made, let_in=False)
    assert let_in(outside, routes_of(create_app(made)), STRANGERS[stranger]) == []


@pytest.mark.parametrize("attack", INSIDE)
def test_the_cookie_is_of_no_use_to_pages_of_others(made: Studio, browser: TestClient, attack: str) -> None:
    assert let_in(browser, routes_of(create_app(made)), INSIDE[attack]) == []


def test_a_route_without_its_guard_is_found(made: Studio) -> None:
    """The control: the app within its guards."""
    app: Any = create_app(made)
    unguarded = TestClient(app.app, HERE, raise_server_exceptions=False)
    assert len(let_in(unguarded, routes_of(app), STRANGERS["foreign host"])) > 10


def test_a_form_that_does_not_say_where_it_comes_from_is_refused(made: Studio, browser: TestClient) -> None:
    del browser.headers["origin"]
    assert browser.post("/studio/theme", data={"value": "dark"}).status_code == 403
    assert browser.get("/").status_code == 200


def test_a_link_lets_one_browser_in_once(made: Studio) -> None:
    link = made.door.link(HERE).removeprefix(HERE)
    first, second = client(made, let_in=False), client(made, let_in=False)
    assert first.get("/").status_code == 401
    answer = first.get(link, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=strict" in told
    assert first.get("/").status_code == 200
    assert second.get(link).status_code == 401
    assert second.get("/").status_code == 401


def test_a_browser_stays_in_when_the_studio_is_started_again(tmp_path: Path) -> None:
    before = client(studio(tmp_path))
    again = client(studio(tmp_path), let_in=False)
    again.cookies.update(before.cookies)
    assert again.get("/").status_code == 200
    secret = next(iter(before.cookies.values()))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.name + path.read_text()]


def test_a_link_leads_to_a_page_with_all_its_fields(made: Studio) -> None:
    link = made.door.link(HERE, "/use/a?verb=sample&n=2#out").removeprefix(HERE)
    answer = client(made, let_in=False).get(link, follow_redirects=False)
    assert answer.headers["location"] == "/use/a?verb=sample&n=2#out"


def test_a_link_leads_nowhere_else(made: Studio) -> None:
    for place in ("//evil.example", "https://evil.example", "/\\evil.example"):
        link = made.door.link(HERE, place).removeprefix(HERE)
        answer = client(made, let_in=False).get(link, follow_redirects=False)
        assert answer.headers["location"] == "/"


# -- what pages may do -------------------------------------------------------------------------------------------------


def test_pages_may_load_nothing_from_elsewhere(browser: TestClient) -> None:
    policy = browser.get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_script_and_no_style_of_their_own(path: Path) -> None:
    text = path.read_text()
    for script in re.findall(r"<script([^>]*)>", text):
        assert "src=" in script or 'type="application/json"' in script
    assert not re.search(r"<[^>]*\s(style|on\w+)=", text)
    assert "|safe" not in text.replace(" ", "")
    assert not re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_write_no_markup(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", path.read_text()
    )


def test_an_error_is_a_page_for_a_browser_and_a_problem_for_a_script(browser: TestClient) -> None:
    as_page = browser.get("/nothing", headers={"accept": "text/html"})
    assert as_page.status_code == 404
    assert "<h1>" in as_page.text
    assert browser.get("/nothing").headers["content-type"] == "application/problem+json"


def test_names_of_runs_lead_to_no_other_folder(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "one").mkdir(parents=True)
    (root / "one" / "config.yaml").touch()
    (tmp_path / "config.yaml").touch()
    (root / "out").symlink_to(tmp_path)
    assert run_of(root.absolute(), "one").path == root / "one"
    for name in ("", ".", "..", "../runs/one", "/etc", "out", "one/../..", "a/b/c", "one\0"):
        with pytest.raises(UsageError, match="no run of this name"):
            run_of(root.absolute(), name)


# -- the catalogue -----------------------------------------------------------------------------------------------------


def holes(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)[^}]*\}", text))


def test_both_languages_have_the_same_texts() -> None:
    english, chinese = words.catalogue("en"), words.catalogue("zh")
    assert english.keys() == chinese.keys()
    assert [key for key in english if holes(english[key]) != holes(chinese[key])] == []
    assert [key for key in chinese if not chinese[key].strip()] == []


def test_every_text_that_is_named_is_there_and_none_is_left_over() -> None:
    """Of a key that is put together, as "home.door." ~ door, the part that stands in the template counts."""
    known = words.catalogue("en")
    text = "".join(path.read_text() for path in [*TEMPLATES, *SCRIPTS, *SOURCE.glob("*.py")])
    called = set(re.findall(r"""\bt\(\s*["']([a-z][\w.]*)["']\s*[,)]""", text)) - {"key"}
    assert {key for key in called if key not in known and f"js.{key}" not in known} == set()
    named = set(re.findall(r"""["'`]([a-z][\w.]*)""", text))
    begun = tuple(name for name in named if name.endswith("."))
    own = [key.removeprefix("js.") for key in known]
    assert [key for key in own if key not in named and not key.startswith(begun)] == []


def settings() -> Iterator[tuple[str, str | None]]:
    """(name, meaning) of every setting that a form can show."""
    sections = [cls for family in FAMILIES.values() for cls in (family.Settings, family.Sampling)]
    coding = [codec_class(name).Settings for name in CODECS if hasattr(codec_class(name), "Settings")]
    for cls in (*sections, *coding, TrainingSettings, DataSettings, Sample, Score, Complete, Interpolate, Evaluate):
        for name, field in cls.model_fields.items():
            yield f"{cls.__qualname__}.{name}", field.description


def test_every_setting_has_a_meaning_in_both_languages() -> None:
    known = words.translations()
    assert [name for name, told in settings() if not told] == []
    assert [(name, told) for name, told in settings() if told not in known] == []
    assert words.meaning("zh", "no words of ours") == "no words of ours"


def test_pages_come_in_the_language_that_the_browser_likes(browser: TestClient) -> None:
    assert 'lang="en"' in browser.get("/").text
    assert 'lang="zh-Hans"' in browser.get("/", headers={"accept-language": "zh-CN,zh;q=0.9"}).text
    assert browser.post("/studio/language", data={"value": "zh", "back": "/"}).url == f"{HERE}/"
    assert 'lang="zh-Hans"' in browser.get("/").text
    assert browser.post("/studio/language", data={"value": "xx", "back": "/"}).status_code == 422


def test_a_count_chooses_the_form_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "catalogue", lambda language: {"runs": "{n} run|{n} runs"})
    assert [words.say("en", "runs", n=n) for n in (1, 1234)] == ["1 run", "1,234 runs"]


def test_no_text_ends_a_script_of_json() -> None:
    made = pages.json_script({"name": "</script><script>alert(1)</script>"})
    assert "<" not in made
    assert json.loads(made)["name"].startswith("</script>")


def test_news_are_one_event_with_all_cursors() -> None:
    text = event("run:a", [{"line": "one\ntwo"}], {"run:a": "5"})
    assert text.count("\n") == 4
    assert text.startswith('event: run:a\nid: {"run:a": "5"}\ndata: ')


def test_the_colours_of_the_pages_are_those_of_the_report() -> None:
    sheet = (SOURCE / "static" / "studio.css").read_text()
    for number, (light, dark) in enumerate(PALETTE, start=1):
        assert f"--series-{number}: light-dark({light}, {dark});" in sheet
