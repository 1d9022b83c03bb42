"""Build the site of the documentation: `make docs`, or `.venv-docs/bin/python docs/website.py`.

The pages are written for readers of the repository: README.md is the first one, and links lead to files. This script
lays them out in build/docs as mkdocs wants them (`laid_out`), lets mkdocs build build/site, and adds what programs
read: every page as Markdown, and llms.txt. It is also the hook of mkdocs: formulas become MathML, which browsers draw
by themselves.
"""

from __future__ import annotations

import html
import logging
import os
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STAGE, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
ROOT_PAGES = {
    "README.md": "index.md", "README.zh-CN.md": "index.zh.md", "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md",
}  # fmt: skip
"""The pages of the repository's root, and what they are called on the site."""
CODE = r"^(?P<fence>```+|~~~+).*?^(?P=fence)|`[^`\n]+`"
LINK = r"(?P<picture>!?)\[(?P<title>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)"
CODE_OR_LINK = re.compile(f"{LINK}|{CODE}", re.MULTILINE | re.DOTALL)
"""Whichever begins first: the title of a link may hold code, and code may hold what looks like a link."""
SOURCES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "sh", "": "text"}
"""The files that a page may link to and that become pages themselves, with the language that colours them."""


# -- from the repository to what mkdocs reads ------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """Each page of the repository, by its path there: what it is called on the site."""
    inside = (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))
    return ROOT_PAGES | {path: path.removeprefix("docs/") for path in inside}


def name_of_source(path: str) -> str:
    """What the listing of a file of code is called on the site: `source/src/quintet/registry.md`."""
    return f"source/{path.removesuffix(Path(path).suffix)}.md"


def language(name: str) -> str:
    return "zh" if name.endswith(".zh.md") else "en"


def led(target: str, page: str, names: Mapping[str, str], listed: set[str]) -> str | None:
    """Where a link of `page` leads on the site; None where the site has nothing there. Listings go to `listed`."""
    if re.match(r"[a-z]+:", target):
        return target
    path, _, anchor = target.partition("#")
    if not path:
        return target
    found = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    here = posixpath.dirname(names[page])
    if (ROOT / found).is_dir():
        found = f"{found}/README.md"
    anchor = f"#{anchor}" if anchor else ""
    if found in names:
        name = names[found].replace(".zh.md", ".md")
    elif found.startswith("docs/") and Path(found).suffix in (".png", ".svg"):
        name = found.removeprefix("docs/")
    elif (ROOT / found).is_file() and Path(found).suffix in SOURCES:
        listed.add(found)
        name, anchor = name_of_source(found), re.sub(r"^#L(\d+).*", r"#__codelineno-0-\1", anchor)
    else:
        return None
    return posixpath.relpath(name, here or ".") + anchor


def laid_out() -> dict[str, str]:
    """Every page of the site as Markdown, by its name there."""
    names, listed, pages = sources(), set[str](), {}
    for page, name in names.items():

        def relinked(found: re.Match[str], page: str = page) -> str:
            if found["target"] is None:
                return found.group()
            there = led(found["target"], page, names, listed)
            return f"{found['picture']}[{found['title']}]({there})" if there else found["title"]

        text = (ROOT / page).read_text(encoding="utf-8")
        if page.startswith("README"):
            text = re.sub(r"^.*\]\(README[\w.-]*\).*$", "", text, count=1, flags=re.MULTILINE)  # the site has a switch
        pages[name] = CODE_OR_LINK.sub(relinked, text)
    for path in sorted(listed):
        code = (ROOT / path).read_text(encoding="utf-8")
        pages[name_of_source(path)] = (
            f"---\nsearch: {{exclude: true}}\nhide: [navigation, toc]\n---\n# {path}\n\n"
            f'````{SOURCES[Path(path).suffix]} linenums="1"\n{code}\n````\n'
        )
    return pages


def stage() -> dict[str, str]:
    """Write the pages and what they show into build/docs."""
    shutil.rmtree(STAGE, ignore_errors=True)
    pages = laid_out()
    for name, text in pages.items():
        (STAGE / name).parent.mkdir(parents=True, exist_ok=True)
        (STAGE / name).write_text(text, encoding="utf-8")
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in (".png", ".svg", ".css", ".js"):
            there = STAGE / path.relative_to(ROOT / "docs")
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
    return pages


# -- the hook of mkdocs ----------------------------------------------------------------------------------------------


def expanded(nav: list[Any], pages: set[str]) -> list[Any]:
    """The nav with `folder/*` replaced by the pages of that folder which it does not name."""
    named, found = set(entries(nav)), list[Any]()
    for item in nav:
        if isinstance(item, dict):
            found += [{title: expanded(inner, pages)} for title, inner in item.items()]
        elif item.endswith("/*"):
            inside = sorted(p for p in pages if posixpath.dirname(p) == item[:-2] and language(p) == "en")
            found += [page for page in inside if page not in named]
        elif item in pages:
            found.append(item)
    return [item for item in found if not isinstance(item, dict) or any(item.values())]


def entries(nav: list[Any]) -> Iterator[str]:
    """The pages of a nav, in order."""
    for item in nav:
        if isinstance(item, dict):
            for inner in item.values():
                yield from entries(inner)
        else:
            yield item


def anchor(title: str, separator: str = "-") -> str:
    """The anchor that GitHub gives a heading: small letters, hyphens for spaces, other marks dropped."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", separator)


def on_config(config: Any) -> Any:
    pages = {path.relative_to(STAGE).as_posix() for path in STAGE.rglob("*.md")}
    config.nav = expanded(config.nav, pages)
    config.mdx_configs.setdefault("toc", {})["slugify"] = anchor
    return config


def spaced(mathml: str) -> str:
    """A formula whose relations and functions stand apart from what is beside them, as TeX sets them."""

    def function(found: re.Match[str]) -> str:
        before, name, bracket = found.groups()
        left, right = "0" if not before else "0.167em", "0" if bracket else "0.167em"
        return f'{before or ""}<mo form="prefix" lspace="{left}" rspace="{right}">{name}</mo>{bracket or ""}'

    mathml = mathml.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
    mathml = mathml.replace("<mi>&#x02016;</mi>", '<mo stretchy="false" lspace="0.2em" rspace="0.2em">&#x02016;</mo>')
    bars = r"<mo(?: (?:fence|stretchy)=\"false\")*>(&#x02016;|&#x0007C;)</mo>"  # around what stands between them
    mathml = re.sub(bars, r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', mathml)
    names = r"<m[io](?: movablelimits=\"true\")?>(log|exp|sin|cos|tanh|det|tr)</m[io]>"
    return re.sub(rf'(</m[in]>|</msu[bp]>|</msubsup>|&#x00029;</mo>)?{names}(<mo stretchy="false">&#x00028;)?',
                  function, mathml)  # fmt: skip


def on_page_content(content: str, **_: Any) -> str:
    """Formulas, which Markdown has marked, become MathML; a word of code is not broken at its hyphens."""
    from latex2mathml.converter import convert

    def drawn(found: re.Match[str]) -> str:
        inline = found.group("inline")
        formula = html.unescape(inline if inline is not None else found.group("block")).strip()
        return spaced(convert(formula, display="inline" if inline is not None else "block"))

    inline = r'<span class="arithmatex">\\\((?P<inline>.*?)\\\)</span>'
    block = r'<div class="arithmatex">\s*\\\[(?P<block>.*?)\\\]\s*</div>'
    content = re.sub(r"<code>([^<\s]{1,32})</code>", r'<code class="word">\1</code>', content)
    return re.sub(f"{inline}|{block}", drawn, content, flags=re.DOTALL)


# -- what programs read ----------------------------------------------------------------------------------------------


def summary(text: str) -> tuple[str, str]:
    """The title of a page, and the first sentence of its first paragraph."""
    text = re.sub(r"^---\n.*?^---\n", "", text, count=1, flags=re.MULTILINE | re.DOTALL)
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    prose = [part for part in text.split("\n\n") if re.match(r"[^\W\d_]|`", part.strip())]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(prose[0].split())) if prose else ""
    return title.group(1) if title else "", re.split(r"(?<=[.:])\s(?=[A-Z`])|(?<=。)", plain)[0]


def llms(nav: list[Any], pages: Mapping[str, str]) -> str:
    """A list of the pages for language models, as llmstxt.org describes it."""
    lines = ["# quintet", "", f"> {summary(pages['index.md'])[1]}"]
    for item in nav:
        for section, inner in item.items():
            lines += ["", f"## {section}", ""]
            for page in entries(inner):
                title, sentence = summary(pages[page])
                lines.append(f"- [{title}]({page}): {sentence}")
    return "\n".join(lines) + "\n"


def finish(nav: list[Any], pages: Mapping[str, str]) -> None:
    """Each page as Markdown beside it, in both languages; llms.txt; a search that finds pages of its own language."""
    for name, text in pages.items():
        if language(name) == "en":
            for folder, page in (("", text), ("zh", pages.get(name.removesuffix(".md") + ".zh.md", text))):
                (SITE / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (SITE / folder / name).write_text(page, encoding="utf-8")
    (SITE / "llms.txt").write_text(llms(nav, pages), encoding="utf-8")
    index = SITE / "search" / "search_index.js"
    language_of = 'page.location.startsWith("zh/") === document.documentElement.lang.startsWith("zh")'
    mine = f"__index.docs = __index.docs.filter((page) => {language_of});"
    index.write_text(f"{index.read_text(encoding='utf-8')};\n{mine}\n", encoding="utf-8")


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    import jieba
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    jieba.setLogLevel(logging.WARNING)
    pages = stage()
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True)
    nav = expanded(config.nav, set(pages))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    finish(nav, pages)
    print(f"the site is in {SITE.relative_to(ROOT)}: open {SITE.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
