"""Regenerate the parts of README.md and of the pages in docs/ that follow from the code.

    python docs/generate.py            rewrite them
    python docs/generate.py --check    exit 1 if a page is stale, and name its parts

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. Nothing here depends on the machine or on downloaded data.
The notebooks of examples/notebooks, which follow from the tutorials, are written and checked too (docs/notebooks.py).
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import notebooks
import reference
from reference import table

import quintet
from quintet.cli.main import app
from quintet.core import errors
from quintet.core.errors import QuintetError
from quintet.data.published import HOMES
from quintet.registry import FAMILIES, MODALITIES, VERBS, make_codec, refusal
from quintet.runs.config import Preset
from quintet.runs.recipes import presets as presets_of
from quintet.server.problems import status_of
from quintet.sources.load import SOURCES, Source
from quintet.studio.sentences import catalogue

ROOT = Path(__file__).parents[1]
PACKAGE = Path(quintet.__file__).parent


# -- the parts -------------------------------------------------------------------------------------------------------

CHINESE = {
    "family": "模型家族",
    "yes": "可以",
    "no": "不可以",
    "exact": "精确值",
    "bound": "下界",
    "estimate": "估计值",
    "a GAN is a sampler without a density": "GAN 只会采样，没有概率密度",
    "an autoregressive model has no latent: a prefix is its only state": "自回归模型没有隐变量，前缀就是它的全部状态",
    "the noise of masked diffusion is the same for all items: every symbol masked": (
        "掩码扩散的噪声对所有样本都一样，即全部符号被遮住"
    ),
}
"""What the table of the Chinese README says; any other reason is said in the words of the studio."""


def chinese(text: str) -> str:
    """A word or a reason in Chinese, or as it is where there are no words yet: tests/test_sentences.py names those."""
    return CHINESE.get(text) or catalogue("zh").get(text, text)


def families(say: Callable[[str], str] = str) -> str:
    """Families x verbs, which are the same for every kind of data; `say` translates."""
    reasons: list[str] = []

    def cell(family: str, verb: str) -> str:
        found = {refusal(family, modality, verb) for modality in MODALITIES}
        if len(found) > 1:
            raise ValueError(f"{verb} of {family} depends on the kind of data: this table cannot say so")
        if not (reason := found.pop()):
            return say(FAMILIES[family].likelihood if verb == "score" else "yes")
        if reason not in reasons:
            reasons.append(reason)
        return f"{say('no')} ({reasons.index(reason) + 1})"

    rows = [(f"`{family}`", *(cell(family, verb) for verb in VERBS)) for family in FAMILIES]
    notes = "\n".join(f"{number}. {say(reason)}" for number, reason in enumerate(reasons, start=1))
    return f"{table((say('family'), *(f'`{verb}`' for verb in VERBS)), rows)}\n\n{notes}"


def operations() -> str:
    """Families x kinds of data x verbs; what is missing has a footnote with the reason that the error gives."""
    reasons: list[str] = []

    def cell(family: str, modality: str, verb: str) -> str:
        if reason := refusal(family, modality, verb):
            if reason not in reasons:
                reasons.append(reason)
            return f"no ({reasons.index(reason) + 1})"
        return FAMILIES[family].likelihood if verb == "score" else "yes"

    def taken(family: str, modality: str) -> str:
        return make_codec(modality, FAMILIES[family]).representation.kind

    rows = [
        (f"`{family}`", modality, taken(family, modality), *(cell(family, modality, verb) for verb in VERBS))
        for family in FAMILIES
        for modality in MODALITIES
    ]
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
    return f"{table(('family', 'data', 'as', *(f'`{verb}`' for verb in VERBS)), rows)}\n\n{notes}"


def sources() -> str:
    """Every named source, by what is known of it without loading it; the density sets are one line."""
    rows, collections = [], set()
    for name, source in SOURCES.items():
        assert isinstance(source, Source)
        collection, _, member = name.partition("/")
        if collection in collections:
            continue
        about = source.about
        if member:
            collections.add(collection)
            members = [other.partition("/")[2] for other in SOURCES if other.startswith(f"{collection}/")]
            name, about = f"{collection}/NAME", f"binary columns: {', '.join(members)}"
        where = f"[`$QUINTET_DATA/{source.folder}/`]({HOMES[source.folder]})" if source.folder else "built in"
        columns = ", ".join(f"`{column}`" for column in source.columns) or "-"
        rows.append((f"`{name}`", source.modality, about, columns, where))
    return table(("source", "kind", "what", "columns", "where"), rows)


def presets() -> str:
    """What each preset sets, over the defaults of family and kind of data."""

    def cell(sections: Mapping[str, Mapping[str, Any]]) -> str:
        values = [
            f"{field} {value}" if section == "model" else f"{section}.{field} {value:g}" if isinstance(value, float)
            else f"{section}.{field} {value}"
            for section, fields in sections.items()
            for field, value in fields.items()
        ]  # fmt: skip
        return ", ".join(values) or "defaults"

    names = get_args(Preset)
    rows = [(f"`{family}`", *(cell(presets_of(family).get(name, {})) for name in names)) for family in FAMILIES]
    return table(("family", *(f"`{name}`" for name in names)), rows)


def files() -> str:
    """The modules, each with the first line of its docstring."""
    lines = ["src/quintet/"]
    for folder in (PACKAGE, *sorted(path for path in PACKAGE.iterdir() if path.is_dir())):
        modules = [(path, doc) for path in sorted(folder.glob("*.py")) if (doc := summary(path))]
        if folder != PACKAGE and modules:
            lines.append(f"  {folder.name}/")
        indent = "  " if folder == PACKAGE else "    "
        lines += [f"{indent + path.name:<24}{doc}" for path, doc in modules]
    return "```text\n" + "\n".join(lines) + "\n```"


def summary(path: Path) -> str:
    """The first line of a module's docstring, or nothing."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def option_names(text: str) -> str:
    """Help as Markdown: options as code, so that none is taken for a list, and no bar ends a cell."""
    return re.sub(r"(?<![\w-])--?[a-z][\w.-]*\w|(?<![\w-])-[a-z]\b", r"`\g<0>`", text).replace("|", "\\|")


def verbs() -> str:
    """Every verb of the command line: what it does, examples, its arguments and options."""
    parts = []
    for name in (name for name in app if not name.startswith("-")):
        verb = app[name]
        summary, _, more = option_names(inspect.cleandoc(verb.help)).partition("\n\n")
        rows = [
            (", ".join(f"`{option}`" for option in shown), option_names(argument.parameter.help or ""))
            for argument in verb.assemble_argument_collection(parse_docstring=True)
            if argument.show and not {"--runs", "--json"} & set(argument.names)
            if (shown := [option for option in argument.names if not option.startswith(("--no-", "--empty-"))])
        ]
        lines = [f"### {name}", summary]
        if more:
            lines.append(more)
        if examples := [line.strip() for line in str(verb.help_prologue).splitlines() if line.strip()]:
            lines.append("\n".join(("```console", *(f"$ {example}" for example in examples), "```")))
        lines.append(table(("argument", "what it is"), rows) if rows else "It has no arguments of its own.")
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


ERRORS: dict[str, type[QuintetError]] = {
    name: found for name, found in vars(errors).items() if inspect.isclass(found) and issubclass(found, QuintetError)
}
"""The errors by their names, which are their codes."""
PARTS = ("where", "why", "fix")


class Raised(NamedTuple):
    """A place that raises an error: its class, and the templates of what it says; {} stands for a value."""

    module: str
    line: int
    name: str
    what: str
    where: str
    why: str
    fix: str


def template(node: ast.AST | None, known: dict[str, str]) -> str:
    """A text with {} for each value; a variable, or a choice, is the text that it is given first."""
    match node:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.Name(id=name):
            return known.get(name, "{}")
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, known) + template(right, known)
        case ast.IfExp(body=body, orelse=other):
            return template(body, known) or template(other, known)
        case ast.BoolOp(values=values):
            return template(values[-1], known)
    return "{}"


def functions(tree: ast.AST) -> Iterator[ast.AST]:
    """The outermost functions, and the module for what stands outside of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def raised() -> list[Raised]:
    """Every call of a class of error in the package."""
    found: dict[tuple[str, int, int], Raised] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for function in functions(ast.parse(path.read_text())):
            known: dict[str, str] = {}
            for node in sorted(ast.walk(function), key=lambda node: getattr(node, "lineno", 0)):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    known[node.targets[0].id] = template(node.value, known)
                elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                    values = node.value.elts if isinstance(node.value, ast.Tuple) else []
                    for target, value in zip(node.targets[0].elts, values, strict=False):
                        if isinstance(target, ast.Name):
                            known[target.id] = template(value, known)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                    given = {key.arg: template(key.value, known) for key in node.keywords}
                    what = template(node.args[0] if node.args else None, known)
                    found[module, node.lineno, node.col_offset] = Raised(
                        module, node.lineno, node.func.id, what, *(given.get(part, "") for part in PARTS)
                    )  # fmt: skip
    return sorted(found.values())


def cell_of(text: str) -> str:
    """A text as a cell of a table, with an ellipsis for each value."""
    text = re.sub(r"\s+", " ", text.replace("{}", "…")).replace("|", "\\|").strip()
    return re.sub(r"(?<![\w`])--?[a-z][\w.-]*\w", r"`\g<0>`", text)


def said() -> str:
    """A section for each class of error, with what it says."""
    parts = []
    every = raised()
    for name, found in ERRORS.items():
        said = sorted(
            {(one.what, one.why, one.fix) for one in every if one.name == name and re.search("[a-z]{2}", one.what)}
        )
        codes = f"Exit code {found.exit_code}; over HTTP {status_of(found(''))}."
        advice = f"Unless an error has advice of its own, it gives this: {cell_of(found.remedy)}."
        lines = [f"## {name}", (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " "),
                 f"{codes} {advice}"]  # fmt: skip
        if said:
            rows = [f"| {cell_of(what)} | {cell_of(why)} | {cell_of(fix)} |" for what, why, fix in said]
            lines.append("\n".join(["| what | why | what to do |", "| --- | --- | --- |", *rows]))
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


PAGES: dict[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"families": families},
    "README.zh-CN.md": {"families": lambda: families(chinese)},
    "docs/capabilities.md": {"operations": operations},
    "docs/data.md": {"sources": sources},
    "docs/training.md": {"presets": presets},
    "docs/command-line.md": {"verbs": verbs},
    "docs/architecture.md": {"files": files},
    "docs/errors.md": {"errors": said},
    **reference.PAGES,
}
"""Each page with its parts."""


# -- the pages -------------------------------------------------------------------------------------------------------


def replaced(text: str, name: str, content: str) -> str:
    """`text` with the part of that name replaced. Raises ValueError unless both markers stand there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"the page needs {start} and {end} once each, in this order")
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def stale(root: Path = ROOT) -> list[str]:
    """`PAGE: PART` for every part that is not what the code says."""
    found = [
        f"{page}: {name}"
        for page, parts in PAGES.items()
        for name, part in parts.items()
        if replaced(text := (root / page).read_text(), name, part()) != text
    ]
    return found + (notebooks.stale() if root == ROOT else [])


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    if "--check" in arguments:
        if names := stale(root):
            print(f"stale: {', '.join(names)}; run make generate", file=sys.stderr)
        return 1 if names else 0
    for page, parts in PAGES.items():
        text = (root / page).read_text()
        for name, part in parts.items():
            text = replaced(text, name, part())
        (root / page).write_text(text)
    return notebooks.main([]) if root == ROOT else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
