"""What operations say, in the words of pages: nothing is forgotten, left over, mistaken for another, or garbled."""

from __future__ import annotations

import ast
import json
import re
import time
from pathlib import Path

import pytest
import sentences
from hypothesis import given
from hypothesis import strategies as st
from in_browser import client, studio
from sentences import FILES, ROOT, demanded, everything

from quintet.comparison.verdict import verdict
from quintet.studio.sentences import HOLE, catalogue, filled, in_words, marked, read

CHINESE, ENGLISH = catalogue("zh"), catalogue("en")
OF_THE_DOOR = {
    "choose another --port",
    "fewer items at once, or --body-limit",
    "open {}, or choose another folder with --runs",
}
"""Options of the command that opens the studio, which pages have no field for."""
HAN = r"[\u4e00-\u9fff]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_that_a_page_may_show_has_its_chinese(path: Path) -> None:
    """If this fails, a sentence is new or was changed: `python tests/sentences.py` prints those that lack words."""
    assert sorted(demanded(path) - CHINESE.keys()) == []


def test_a_changed_sentence_is_noticed() -> None:
    source = 'def f(n):\n    """Some words."""\n    raise DataError(f"cells of {n} kinds", why="two " "words")'
    assert sorted(sentences.spoken(ast.parse(source))) == ["cells of {} kinds", "two words"]


def test_nothing_is_left_over() -> None:
    known = everything()
    assert [one for one in {**CHINESE, **ENGLISH} if one not in known] == []


@pytest.mark.parametrize("words", [CHINESE, ENGLISH], ids=["zh", "en"])
def test_every_figure_has_its_place(words: dict[str, str]) -> None:
    """Or is said not to be shown."""
    for key, text in words.items():
        holes = [hole[1] or str(place) for place, hole in enumerate(HOLE.finditer(text))]
        assert {int(hole) for hole in holes} == set(range(key.count("{}"))), key


def test_pages_do_not_speak_the_language_of_the_command_line() -> None:
    assert [one for one in CHINESE if "--" in one and one not in ENGLISH and one not in OF_THE_DOOR] == []
    assert [text for text in ENGLISH.values() if re.search(r"--(?!changed-(?:data|config))", text)] == []
    assert [text for key, text in CHINESE.items() if re.search(r"--(?!changed-(?:data|config))", text)] == []


def test_chinese_is_set_as_chinese_is() -> None:
    """Full-width signs between Chinese, and a blank between it and letters or digits of others."""
    texts = [HOLE.sub("", text) for text in CHINESE.values()]
    assert [text for text in texts if re.search(f"{HAN}[,;:!?]|{HAN}[.](?![0-9a-z])", text)] == []
    assert [text for text in texts if re.search(f"{HAN}[A-Za-z0-9]|[A-Za-z0-9%]{HAN}", text)] == []


@pytest.mark.parametrize(("language", "words"), [("zh", CHINESE), ("en", ENGLISH)], ids=["zh", "en"])
def test_every_text_is_found_again_by_its_template(language: str, words: dict[str, str]) -> None:
    """And by no other one that it fits as well."""
    for key, text in words.items():
        first, *rest = key.split("{}")
        values = [f"v{n}" for n in range(len(rest))]
        said = first + "".join(value + part for value, part in zip(values, rest, strict=True))
        assert in_words(language, said) == filled(text, values, language), key


def test_a_sentence_may_hold_others() -> None:
    said = (
        "vae has learnt too little to be kept: its samples are not like the data yet: their energy distance is 1.2, "
        "that of the average item is 3, and that of real items about 0. Tie with gan, flow and my-own."
    )
    found = in_words("zh", said)
    assert not re.search("[a-z]{2} [a-z]", found)
    assert "与 gan、flow 和 my-own 不分高下。" in found
    assert in_words("en", said) == said


def test_what_nobody_has_translated_stays_and_says_so() -> None:
    said = "No words <b>of ours</b>. Sampling was not timed."
    assert marked("zh", said) == '<span lang="en">No words &lt;b&gt;of ours&lt;/b&gt;.</span> 没有测量生成速度。'
    assert marked("en", said) == "No words &lt;b&gt;of ours&lt;/b&gt;. Sampling was not timed."
    assert marked("zh", "3.5 %") == "3.5 %"


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert "<" not in marked("zh", text).replace('<span lang="en">', "").replace("</span>", "")
    assert in_words("en", text) == text or any(part.known for part in read("en", text).parts)


def test_no_text_takes_long() -> None:
    for text in (". ".join(["that is a tie with"] * 500), " and " * 1000, "a: b, " * 600, "{" * 4000):
        began = time.process_time()
        in_words("zh", text)
        assert time.process_time() - began < 5


def test_a_whole_verdict_is_chinese() -> None:
    models = [
        {"family": family, "run": f"{family}-0", "seed": 0, "status": "ok", "ms_per_sample": 3.0 + n,
         "likelihood": {"kind": "exact", "nats": -3.0 - n, "stderr": 0.1, "space": "density"},
         "metrics": {"auc": 0.6 + n / 10, "auc_stderr": 0.01, "coverage": 0.8, "coverage_stderr": 0.02,
                     "memorised": 0.01, "memorised_expected": 0.01, "items": 500}}
        for n, family in enumerate(("vae", "flow"))
    ]  # fmt: skip
    models.append({"family": "gan", "run": "gan-0", "seed": 0, "status": "failed", "error": "out of memory"})
    found = verdict(models)
    said = [part["sentence"] for name, part in found.items() if name != "caveats"] + found["caveats"]
    assert len(said) > 7
    for one in said:
        assert "lang=" not in marked("zh", one), one


def test_a_page_asks_for_words(tmp_path: Path) -> None:
    browser = client(studio(tmp_path))
    texts = ["no such file or folder", "Sampling was not timed.", "x"]
    answer = browser.post("/studio/words", json={"texts": texts}, headers={"accept-language": "zh"})
    assert answer.json() == {"texts": ["没有这个文件或文件夹", "没有测量生成速度。", "x"]}
    assert browser.post("/studio/words", json={"texts": texts}).json() == {"texts": texts}
    for wrong in ({"texts": "x"}, {"texts": [1]}, {"texts": ["x"] * 1000}, {}):
        assert browser.post("/studio/words", content=json.dumps(wrong)).status_code == 422
