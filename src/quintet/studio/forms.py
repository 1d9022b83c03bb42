"""Settings as the fields of a form, made of their schemas; and a form as the request that it asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel

from quintet.core.typed import as_yaml, read_yaml
from quintet.data.dataset import Dataset
from quintet.modalities.options import OPTIONS
from quintet.operations.requests import SECTIONS, CompareRequest, Local, TrainRequest
from quintet.operations.settings import settings_of
from quintet.registry import COMPARED, MODALITIES, codec_class, family_class, kinds_taken
from quintet.runs.config import AnyData, RunConfig
from quintet.sources.load import SOURCES

R = TypeVar("R", bound=Local)
KINDS = {"integer": "number", "number": "number", "boolean": "boolean", "array": "list"}
"""What fields of a JSON type are in a form; any other are words."""
TASK = ("source", "target", "condition")
"""Fields of the data that a form asks for by themselves, not among the settings."""
RARE = ("steps", "run", "codec")
"""Fields of a request that stand among the settings, since few need them."""


@dataclass(frozen=True)
class Field:
    """A setting: `default` is how its value is typed that holds without a change, "" for none; `least` and `most` are
    its limits, in words too; `choices` are all that it may be, or of a text what is at hand.
    """

    section: str
    name: str
    kind: str
    default: str
    about: str
    least: float | None = None
    most: float | None = None
    limits: str = ""
    step: str = "any"
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def key(self) -> str:
        """Its name in a form, and on the command line behind two dashes."""
        return f"{self.section}.{self.name}" if self.section else self.name


# -- settings -> fields ------------------------------------------------------------------------------------------------


def fields(plan: RunConfig, dataset: Dataset) -> list[Field]:
    """Every setting that matters for a run with this plan, whose values are the defaults."""
    whole, kinds = plan.model_dump(mode="json"), settings_of(plan.family)
    found = of_section("", TrainRequest, {}, RARE)
    found += [one for name in ("model", "training", "sampling") for one in of_section(name, kinds[name], whole[name])]
    found += of_section("data", kinds["data"], whole["data"], reading(dataset), columns(dataset))
    codec = codec_class(plan.codec)
    found += [*representation(plan), *of_section("coding", codec.Settings, whole["coding"])]
    if "codec" in plan.given:
        given = plan.given["codec"]
        settled, known = MODALITIES[given].given_settings(plan.coding), codec_class(given).Settings
        found += of_section("given", known, whole["given"], known.model_fields.keys() - settled.keys())
    return found


def of_section(
    section: str,
    kind: type[BaseModel],
    values: Mapping[str, Any],
    names: Collection[str] | None = None,
    at_hand: tuple[str, ...] = (),
) -> list[Field]:
    """The fields of a section, of these names or all; `at_hand`: what its texts may be."""
    schemas = kind.model_json_schema()["properties"]
    return [
        of_schema(section, name, schema, values.get(name), at_hand)
        for name, schema in schemas.items()
        if names is None or name in names
    ]


def of_schema(section: str, name: str, schema: Mapping[str, Any], value: Any, at_hand: tuple[str, ...] = ()) -> Field:
    """One setting."""
    every = schema.get("anyOf", [schema])
    some = [one for one in every if one.get("type") != "null"]
    one = some[0] if len(some) == 1 else {}
    choices = tuple(map(str, one.get("enum", ())))
    kind = "choice" if choices else KINDS.get(one.get("type", ""), "words")
    return Field(
        section, name, kind, "" if value is None else as_yaml(value), schema.get("description", ""),
        one.get("minimum", one.get("exclusiveMinimum")), one.get("maximum", one.get("exclusiveMaximum")),
        limits(one), str(one.get("multipleOf", 1)) if one.get("type") == "integer" else "any",
        choices or (at_hand if kind == "words" else ()), len(some) < len(every),
    )  # fmt: skip


def limits(schema: Mapping[str, Any]) -> str:
    """The limits of a number in signs."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(f"{sign} {schema[key]:,}" for key, sign in signs.items() if key in schema)


def reading(dataset: Dataset) -> set[str]:
    """How such a source may be read, by name; a built-in one has settled some of it, and all that paths alone ask."""
    kind = OPTIONS[dataset.modality]
    if dataset.source in SOURCES or dataset.name in SOURCES:
        return set()
    return (AnyData.model_fields.keys() | kind.reading.model_fields.keys()) - {*TASK}


def columns(dataset: Dataset) -> tuple[str, ...]:
    """The names of the columns of a source: its own, and those of its labels."""
    tables = [table for table in (dataset.items, dataset.labels) if isinstance(table, pa.Table)]
    return tuple(dict.fromkeys(name for table in tables for name in table.column_names))


def representation(plan: RunConfig) -> Iterator[Field]:
    """As what the codec may give items to this family, where that is more than one."""
    codec, taken = codec_class(plan.codec), kinds_taken(family_class(plan.family))
    if plan.codec in MODALITIES:
        known = {name: value for name, value in plan.coding.items() if name != "representation"}
        offered = [one.kind for one in codec.offered(codec.Settings(**known)) if one.kind in taken]
        if len(offered) > 1:
            value = str(plan.coding.get("representation", offered[0]))
            yield Field("coding", "representation", "choice", value, "", choices=tuple(map(str, offered)))


# -- a form -> a request -----------------------------------------------------------------------------------------------


def train_request(form: Mapping[str, str], **more: Any) -> TrainRequest:
    """What a form asks for. Raises UsageError and ConfigError in the words of the command line."""
    return filled(TrainRequest, form, **more)


def compare_request(form: Mapping[str, str], **more: Any) -> CompareRequest:
    """The comparison of all families that the same form asks for, which takes no settings but how data are read."""
    form = {name: text for name, text in form.items() if "." not in name or name.startswith("data.")}
    given = {"condition": form.get("condition") or "none"}
    if set(form.get("families", "").split(",")) == set(COMPARED):
        given["families"] = ""
    return filled(CompareRequest, {**form, **given}, what=(form.get("data", ""),), **more)


def filled(request: type[R], form: Mapping[str, str], **more: Any) -> R:
    """A request of what was typed for its fields, and for settings as section.name; an empty text is what was not typed
    for a field, and none for a setting.
    """
    named: dict[str, Any] = {name: text for name, text in form.items() if text.strip() and name in request.model_fields}
    for key, text in form.items():
        section, dot, name = key.partition(".")
        if dot:
            value = read_yaml(text, f"not a value: {text!r}", key)
            named.setdefault(SECTIONS.get(section, section), {})[name] = value
    return request(**{**named, **more})
