"""The pages that are made as a whole: the terms, the settings, the Python interface and the list of decisions.

`docs/generate.py` puts what these functions return between the markers of their pages.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import quintet
from quintet.core.codec import Codec
from quintet.core.family import Family
from quintet.core.likelihood import LogProb
from quintet.modalities.protocol import Modality
from quintet.registry import FAMILIES, MODALITIES, codec_class
from quintet.runs.config import DataSettings
from quintet.studio.forms import Field, of_section
from quintet.studio.words import meaning
from quintet.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# -- terms -----------------------------------------------------------------------------------------------------------

GROUPS = {
    "families": ("The families", "模型家族"),
    "parts": ("Parts of models", "模型的组成部分"),
    "data": ("Data", "数据"),
    "training": ("Training", "训练"),
    "use": ("What a model does", "模型能做什么"),
    "measuring": ("How models are measured", "怎样衡量模型"),
    "programs": ("Programs", "程序"),
}


def terms() -> list[dict[str, Any]]:
    """Every term of docs/terms.toml."""
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "docs" / "terms.toml").read_text(encoding="utf-8"))["term"]
    return found


def glossary(chinese: bool = False) -> str:
    """A table of terms for each group, in alphabetical order or, in Chinese, in that of the file."""
    parts = []
    for group, titles in GROUPS.items():
        inside = [term for term in terms() if term["group"] == group]
        if chinese:
            rows = [(term["zh"], term["en"], term["shuo"]) for term in inside]
        else:
            rows = [
                (term["en"], term["zh"], term["says"]) for term in sorted(inside, key=lambda term: term["en"].lower())
            ]
        header = ("术语", "英文", "含义") if chinese else ("term", "Chinese", "what it is")
        parts.append(f"## {titles[chinese]}\n\n{table(header, rows)}")
    return "\n\n".join(parts)


# -- settings --------------------------------------------------------------------------------------------------------


def rows_of(fields: Iterable[Field], say: Callable[[str], str]) -> list[tuple[str, str, str, str]]:
    """Option, default, what it may be, what it means."""
    rows = []
    for field in fields:
        may = ", ".join(f"`{choice}`" for choice in field.choices) or " ".join(
            filter(None, (say(field.kind), field.limits))
        )
        default = f"`{field.default}`" if field.default else say("none")
        rows.append((f"`--{field.key}`", default, may, say(field.about).replace("|", "\\|")))
    return rows


def section(name: str, kind: type[BaseModel], say: Callable[[str], str]) -> str:
    """The table of one section of settings, or nothing where it has none."""
    schemas = kind.model_json_schema().get("properties", {})
    fields = (
        of_section(name, kind, {field: schema.get("default") for field, schema in schemas.items()}) if schemas else []
    )
    header = tuple(map(say, ("setting", "default", "values", "what it means")))
    return table(header, rows_of(fields, say)) if fields else ""


CHINESE = {
    "setting": "设置", "default": "默认值", "values": "取值", "what it means": "含义", "none": "无", "number": "数",
    "words": "文本", "list": "列表", "boolean": "`true`、`false`", "Training": "训练", "Reading data": "读取数据",
    "Models and sampling": "模型与采样", "Encoding data": "数据编码", "It has no settings.": "没有设置。",
    "It has no settings for sampling.": "没有采样设置。",
    "The architecture and the loss:": "网络结构与损失：", "How samples are drawn:": "怎样采样：",
}  # fmt: skip
"""What stands around the settings, in Chinese; their descriptions are those of the studio."""
KINDS = {"boolean": "`true`, `false`", "words": "text"}


def settings(chinese: bool = False) -> str:
    """Every setting: of training, of the data, of each family and of the codec of each kind of data."""

    def say(text: str) -> str:
        if not chinese or not text:
            return KINDS.get(text, text)
        return CHINESE.get(text) or meaning("zh", text)

    parts = [f"## {say('Training')}", section("training", TrainingSettings, say)]
    parts += [f"## {say('Reading data')}", section("data", DataSettings, say), f"## {say('Models and sampling')}"]
    for name, family in FAMILIES.items():
        model: type[BaseModel] = family.Settings
        drawn = section("sampling", family.Sampling, say)
        parts += [f"### {name}", say("The architecture and the loss:"), section("model", model, say)]
        parts += [say("How samples are drawn:"), drawn] if drawn else [say("It has no settings for sampling.")]
    parts.append(f"## {say('Encoding data')}")
    for name in MODALITIES:
        coding: type[BaseModel] = codec_class(name).Settings
        parts += [f"### {name}", section("coding", coding, say) or say("It has no settings.")]
    return "\n\n".join(parts)


# -- Python ----------------------------------------------------------------------------------------------------------

EXTENDED = (Family, Codec, Modality)
"""What somebody subclasses who adds a family, a codec or a kind of data."""


def spelt(signature: inspect.Signature) -> str:
    """A signature without the quotes of annotations, a line a parameter where it is long."""
    signature = signature.replace(parameters=[p for name, p in signature.parameters.items() if name != "self"])
    text = re.sub(r"'([^']*)'", r"\1", str(signature)) if "'" in str(signature) else str(signature)
    if len(text) < 90:
        return text
    whole = str(signature.replace(return_annotation=inspect.Signature.empty))
    lines = [re.sub(r": '([^']*)'", r": \1", str(p)) for p in signature.parameters.values()]
    kinds = [p.kind for p in signature.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        lines.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    assert whole.startswith("(")
    gives = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    return "(\n    " + ",\n    ".join(lines) + f",\n){gives}"


def described(name: str, found: Any, level: int) -> str:
    """A function: its heading, its signature, its docstring."""
    try:
        code = f"```python\n{name}{spelt(inspect.signature(found))}\n```\n\n"
    except ValueError:
        code = ""
    return f"{'#' * level} {name}\n\n{code}{inspect.getdoc(found) or ''}"


def class_of(found: type, name: str) -> str:
    """A class and what is public in it, in the order of its source, without what it inherits."""
    parts = [f"## {name}", inspect.getdoc(found) or ""]
    for member, value in vars(found).items():
        if member.startswith("_") or isinstance(value, type):
            continue
        if isinstance(value, property):
            parts.append(f"### {member}\n\n{inspect.getdoc(value) or ''}".strip())
        elif callable(getattr(found, member)) and inspect.getdoc(getattr(found, member)):
            parts.append(described(member, getattr(found, member), 3))
    return "\n\n".join(filter(None, parts))


def interface() -> str:
    """What a program calls, and what an extension subclasses, from the docstrings."""
    verbs = [described(f"quintet.{name}", getattr(quintet, name), 2)
             for name in ("train", "resume", "distil", "load", "compare")]  # fmt: skip
    classes = [class_of(quintet.Model, "quintet.Model"), class_of(LogProb, "LogProb")]
    return "\n\n".join([*verbs, *classes, *(class_of(one, one.__name__) for one in EXTENDED)])


# -- decisions -------------------------------------------------------------------------------------------------------


def decisions() -> str:
    """Each record of docs/decisions by its title, which begins with its number."""
    rows = []
    for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        number, _, title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        rows.append((number, f"[{title}]({path.name})"))
    return table(("number", "what was decided"), rows)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/glossary.md": {"terms": glossary},
    "docs/glossary.zh.md": {"terms": lambda: glossary(chinese=True)},
    "docs/reference/settings.md": {"settings": settings},
    "docs/reference/settings.zh.md": {"settings": lambda: settings(chinese=True)},
    "docs/reference/api.md": {"interface": interface},
    "docs/decisions/README.md": {"decisions": decisions},
}
