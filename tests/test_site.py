"""All pages together: the site shows every one of them, links lead somewhere, both languages say the same in the same
words, and nothing is misspelt. No site is built and nothing is asked of a network.
"""

from __future__ import annotations

import ast
import difflib
import posixpath
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import autocorrect_py
import pytest
import website
import yaml
from codespell_lib import main as codespell
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
NAMES = website.sources()
"""Each page of the repository, and what it is called on the site."""
ENGLISH = [page for page, name in NAMES.items() if website.language(name) == "en"]
CHINESE = [page for page, name in NAMES.items() if website.language(name) == "zh"]
BOTH = (
    "README.md",
    "docs/tutorials/",
    "docs/maths/",
    "docs/glossary.md",
    "docs/originals.md",
    "docs/reference/settings",
)
"""The pages, and the folders, that are there in both languages."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def in_chinese(page: str) -> str:
    """The path of the same page in Chinese."""
    return "README.zh-CN.md" if page == "README.md" else page.removesuffix(".md") + ".zh.md"


def prose(text: str) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)$", prose(text), re.MULTILINE)]


def anchors(text: str) -> list[str]:
    """As GitHub makes them, in order; the second of two equal headings ends in -1."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for _, title in headings(text):
        anchor = website.anchor(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title))
        found.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def links(text: str) -> list[str]:
    """The targets of its links and pictures that lie in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`", prose(text)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


# -- the site --------------------------------------------------------------------------------------------------------


def nav() -> list[Any]:
    class Inert(yaml.SafeLoader):
        """Reads mkdocs.yml without the objects that it names."""

    Inert.add_multi_constructor("", lambda *_: None)
    written = yaml.load(text_of("mkdocs.yml"), Inert)["nav"]
    return website.expanded(written, set(NAMES.values()))


def test_the_site_shows_every_page_once() -> None:
    shown = Counter(website.entries(nav()))
    assert max(shown.values()) == 1
    assert set(shown) == {NAMES[page] for page in ENGLISH}


def test_pages_as_they_are_laid_out_lead_to_pages_of_the_site() -> None:
    """Links of the laid-out pages lead to other such pages, in any language, or to pictures of docs/."""
    pages = website.laid_out()
    for name, text in pages.items():
        for target in links(text) if not name.startswith("source/") else []:
            path = target.partition("#")[0]
            there = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            assert there in pages or (ROOT / "docs" / there).is_file(), (name, target)


def test_links_with_code_in_their_titles_are_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "docs" / "page.md").write_text("# Page\n\n[`a`](../a.py#L1), `[b](c)`, [d](../e)\n")
    monkeypatch.setattr(website, "ROOT", tmp_path)
    monkeypatch.setattr(website, "ROOT_PAGES", {})
    pages = website.laid_out()
    assert pages["page.md"] == "# Page\n\n[`a`](source/a.md#__codelineno-0-1), `[b](c)`, d\n"
    assert "a = 1" in pages["source/a.md"]


def test_language_models_are_told_what_every_page_is_about() -> None:
    told = website.llms(nav(), website.laid_out())
    lines = re.findall(r"^- \[(.+)\]\((\S+)\): (.+)$", told, re.MULTILINE)
    assert [page for _, page, _ in lines] == list(website.entries(nav()))
    assert not [page for title, page, sentence in lines if len(title) < 2 or len(sentence) < 20]


FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^\s$](?:[^$\n]*[^\s$])?)\$(?!\d)", re.DOTALL)


def formulas(text: str) -> list[str]:
    found = FORMULA.findall(re.sub(website.CODE, "", text, flags=re.MULTILINE | re.DOTALL))
    return [(block or inline).strip() for block, inline in found]


@pytest.mark.parametrize("page", [page for page in NAMES if formulas(text_of(page))])
def test_formulas_can_be_drawn(page: str) -> None:
    for formula in formulas(text_of(page)):
        assert "\\" not in convert(formula), formula


def test_formulas_are_spaced_as_tex_does() -> None:
    drawn = website.spaced(convert(r"z \sim p, \quad a \log p + \log(q)"))
    assert "<mo>&#x0223C;</mo>" in drawn
    assert re.findall(r'lspace="([^"]*)" rspace="([^"]*)">log', drawn) == [("0.167em", "0.167em"), ("0", "0")]


# -- links -----------------------------------------------------------------------------------------------------------


def known(path: Path, anchor: str) -> bool:
    """Whether the file has such a heading, or so many lines."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if path.suffix == ".md":
        return anchor in anchors(text)
    return bool(re.fullmatch(r"L\d+(-L\d+)?", anchor)) and int(anchor.rpartition("L")[2]) <= len(text.splitlines())


def broken(page: str, text: str) -> list[str]:
    """The links of a page whose file or anchor is not there."""
    found = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        if not there.exists() or (anchor and not known(there, anchor)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    assert broken(page, text_of(page)) == []


def test_the_link_check_notices_a_wrong_anchor() -> None:
    wrong = "[a](docs/data.md#no-such-part) [b](docs/nothing.md) [c](docs/data.md#splits) `[d](e)`"
    assert broken("README.md", wrong) == ["docs/data.md#no-such-part", "docs/nothing.md"]


# -- two languages ---------------------------------------------------------------------------------------------------

PAIRS = [page for page in ENGLISH if page.startswith(BOTH)]


def place(page: str, target: str) -> tuple[str, int]:
    """Where a link leads, whatever the language: the English page, and the number of the heading."""
    path, _, anchor = target.partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    at = anchors(text_of(there)).index(anchor) if anchor and there.endswith(".md") else -1
    return re.sub(r"\.zh(-CN)?\.md$", ".md", there), at


def shape(text: str) -> dict[str, Any]:
    """What must be alike in both languages."""
    words = prose(text)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", words)
    return {
        "levels of headings": [level for level, _ in headings(text)],
        "rows of tables": len(re.findall(r"^\|", words, re.MULTILINE)),
        "items of lists": len(re.findall(r"^ *(?:[-*]|\d+\.) ", words, re.MULTILINE)),
        "blocks of code": re.findall(r"^```(\w*)$", text, re.MULTILINE),
        "code without its remarks": re.findall(
            r"^```(?:sh|python|console)$(.*?)^```$", re.sub(r"(?m) +#.*$", "", text), re.MULTILINE | re.DOTALL
        ),
        "formulas on lines of their own": text.count("$$"),
        "pictures": [posixpath.basename(picture).replace(".zh", "") for picture in pictures],
    }


@pytest.mark.parametrize("page", PAIRS)
def test_both_languages_have_the_same_shape(page: str) -> None:
    english, chinese = text_of(page), text_of(in_chinese(page))
    assert shape(english) == shape(chinese)


@pytest.mark.parametrize("page", PAIRS)
def test_both_languages_link_to_the_same_places(page: str) -> None:
    other = in_chinese(page)
    first = Counter(place(page, target) for target in links(text_of(page)))
    assert first == Counter(place(other, target) for target in links(text_of(other)))


def test_chinese_pages_have_english_ones() -> None:
    assert sorted(CHINESE) == sorted(in_chinese(page) for page in PAIRS)


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_pages_lead_to_chinese_ones(page: str) -> None:
    """Where there is one."""
    for target in links(text_of(page)):
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0] or "."))
        assert there in ("README.md", page) or in_chinese(there) not in NAMES, target


def test_readmes_are_short_and_have_the_same_code() -> None:
    readmes = [text_of("README.md"), text_of("README.zh-CN.md")]
    assert all(len(text.splitlines()) <= 150 for text in readmes)
    english, chinese = (re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for text in readmes)
    assert [ast.dump(ast.parse(block)) for block in english] == [ast.dump(ast.parse(block)) for block in chinese]
    first, second = (re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for text in readmes)
    assert [re.sub(r"\s+#.*", "", block) for block in first] == [re.sub(r"\s+#.*", "", block) for block in second]


# -- words -----------------------------------------------------------------------------------------------------------


def unspaced(text: str) -> list[str]:
    """Lines that autocorrect would change: spaces between Chinese and Latin, and marks in full width."""
    mended = autocorrect_py.format_for(text, "markdown")
    return [line for line in difflib.ndiff(text.splitlines(), mended.splitlines()) if line.startswith("+ ")]


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_and_latin_are_spaced(page: str) -> None:
    assert unspaced(text_of(page)) == []


def test_a_missing_space_is_noticed() -> None:
    assert unspaced("用VAE 生成\n好。") == ["+ 用 VAE 生成"]


TERMS = tomllib.loads(text_of("docs/terms.toml"))["term"]


def misnamed(text: str) -> list[str]:
    """Words for which docs/terms.toml has another."""
    return [f"{wrong}: {term['zh']}" for term in TERMS for wrong in term.get("never", ()) if wrong in text]


@pytest.mark.parametrize("page", CHINESE)
def test_chinese_pages_use_the_terms(page: str) -> None:
    assert misnamed(prose(text_of(page))) == []


def test_a_wrong_term_is_noticed() -> None:
    assert misnamed("归一化流可以求逆。") == ["归一化流: 标准化流"]


def test_terms_are_complete_and_no_two_are_the_same() -> None:
    for key in ("en", "zh"):
        assert max(Counter(term[key] for term in TERMS).values()) == 1
    assert all({"group", "en", "zh", "says", "shuo"} <= term.keys() <= {"group", "en", "zh", "says", "shuo", "never"}
               for term in TERMS)  # fmt: skip
    assert not [wrong for term in TERMS for wrong in term.get("never", ()) for other in TERMS if wrong in other["zh"]]


def test_english_is_spelt_rightly(capfd: pytest.CaptureFixture[str]) -> None:
    pages = [str(ROOT / page) for page in ENGLISH]
    assert codespell("--ignore-words-list", "fro,theis,ect,ot", *pages) == 0, capfd.readouterr().out


def test_a_misspelling_is_noticed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").write_text("This is teh page.\n")
    assert codespell(str(tmp_path / "a.md")) != 0
    assert "teh ==> the" in capfd.readouterr().out


def test_every_page_has_one_title() -> None:
    for page in NAMES:
        levels = [level for level, _ in headings(text_of(page))]
        assert levels[:1] == [1], page
        assert levels.count(1) == 1, page
