"""RunConfig: a complete, inert description of a run, resolved from a recipe, a preset and what the user gave."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, ValidationError

from quintet.core.errors import ConfigError, UsageError, meant
from quintet.core.settings import LARGEST_NUMBER, Settings
from quintet.modalities.options import OPTIONS
from quintet.runs.recipes import presets, recipe
from quintet.training.settings import TrainingSettings

Preset = Literal["classic", "tiny", "small", "base"]


class AnyData(Settings, ABC):
    """What is modelled: `target` (default: the items themselves), given `condition` (a column, or several with commas).

    The rest says how a source is read: see `sources.load.load_source`.
    """

    source: str = Field(description="a name, a path, or hf:owner/name")
    target: str | None = Field(None, description="the column that is modelled; none: the items themselves")
    condition: str | None = Field(
        None, description="the column that the model is given, so that items can be asked for by it"
    )
    group: str | None = Field(None, description="rows with one value of this column stay in one split")
    time: str | None = Field(None, description="split by this column: the last rows are the test split")
    split: Literal["auto", "none"] = Field(
        "auto", description="none: train on all items, and every split then holds all of them"
    )
    on_bad: Literal["few", "error", "skip", "quarantine"] = Field(
        "few",
        description="what to do about items that cannot be read; few: leave out up to a tenth, skip: leave out any "
        "number, quarantine: leave them out and list them in SOURCE.bad, error: stop",
    )

    def reading(self) -> dict[str, Any]:
        """How the source is read: the arguments of `load_source`."""
        return self.model_dump(exclude={"target", "condition"})


OWN = tuple(kind.reading for kind in reversed(OPTIONS.values()) if kind.reading is not Settings)


class DataSettings(*OWN, AnyData):  # type: ignore[misc]
    """With what single kinds of data ask."""


class RunConfig(Settings):
    """Everything that decides a run. `model` and `sampling` are the family's own settings, complete;
    `coding` is the codec's, `given` that of the condition's codec, with its name."""

    family: str
    preset: Preset = "small"
    data: DataSettings
    codec: str
    coding: dict[str, Any] = Field(default_factory=dict)
    given: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    sampling: dict[str, Any] = Field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    seed: int = Field(0, ge=0, le=LARGEST_NUMBER)
    budget: float | None = Field(None, gt=0, description="seconds; turned into `steps` at the start")
    steps: int | None = Field(None, ge=1, le=LARGEST_NUMBER)
    plan: tuple[tuple[int, int, int, int], ...] = Field(
        (), description="what a budget became: [from this step, steps in all, steps between looks, threads], ..."
    )
    parameters: int | None = Field(
        None, ge=1, le=10**12, description="about so many; turned into `model.width` at the start"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    distilled_from: str | None = Field(None, description="sha256 of the weights of another run that it began with")


class Change(NamedTuple):
    """What was changed, from what, to what."""

    what: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.what}: {self.was!r} -> {self.now!r}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Change]:
    """What differs between two configurations, by dotted names."""
    out: list[Change] = []
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            out += differences(was, now, f"{prefix}{key}.")
        elif was != now:
            out.append(Change(prefix + key, was, now))
    return out


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on top, section by section."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[str(key)] = merge(out[key], value) if both else value
    return out


def resolve(given: Mapping[str, Any], kind: str, condition: str | None = None) -> RunConfig:
    """A complete RunConfig from what the user gave: recipe < preset < given. Raises ConfigError for what is wrong.

    `kind`, of task, picks the recipe (where it has none of its own: that of the codec); `condition` is the name of the
    condition's codec.
    """
    from quintet.registry import (  # which import torch: a configuration is read without it
        MODALITIES,
        codec_class,
        family_class,
    )

    name = str(given.get("family", ""))
    family = family_class(name)
    preset = given.get("preset") or "small"
    if preset not in get_args(Preset):
        raise UsageError(f"unknown preset {preset!r}", why=f"presets: {', '.join(get_args(Preset))}")
    layers: list[Mapping[str, Any]] = [
        {"training": {"select": "last" if family.likelihood == "none" else "held_out"}},
        recipe(name, kind) or recipe(name, codec_class(str(given.get("codec"))).name),
        presets(name).get(preset, {}),
        {"preset": preset},
        given,
    ]
    merged: dict[str, Any] = {}
    fields: Iterable[str] = ()
    for layer in layers:
        merged = merge(merged, layer)
    try:
        for section, settings in (("model", family.Settings), ("sampling", family.Sampling)):
            fields = settings.model_fields
            merged[section] = settings(**merged.get(section, {})).model_dump(mode="json")
        section, coding = "coding", dict(merged.get("coding", {}))
        options = codec_class(str(merged.get("codec"))).Settings
        fields, chosen = options.model_fields, {key: coding.pop(key) for key in ("representation",) if key in coding}
        merged[section] = chosen | options(**coding).model_dump(mode="json")
        section, reading = "given", dict(merged.get("given", {}))
        reading.pop("codec", None)  # which is `condition`
        if condition is not None:
            own = MODALITIES[condition].given_settings(merged["coding"])
            fields = codec_class(condition).Settings.model_fields
            kept = codec_class(condition).Settings(**{**reading, **own}).model_dump(mode="json")
            merged[section] = {"codec": condition} | kept
        elif reading:
            what = "settings of the codec of a condition were given, but there is no condition"
            raise ConfigError(what, where=section, fix="give --condition COLUMN, or leave these settings out")
    except ValidationError as error:
        raise as_config_error(error, section, fields) from None
    try:
        return RunConfig(**merged)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        kinds: dict[Any, Any] = {"training": TrainingSettings, "data": DataSettings}
        fields = kinds.get(place[0] if len(place) > 1 else "", RunConfig).model_fields
        raise as_config_error(error, known=fields) from None


def as_config_error(error: ValidationError, section: str = "", known: Iterable[str] = ()) -> ConfigError:
    """pydantic's first complaint in our words. `known`: the fields of the section, of which the nearest is named."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in ((section,) if section else ()) + first["loc"])
    if first["type"] == "extra_forbidden" and known:
        name = str(first["loc"][-1])
        return ConfigError(f"unknown field {name!r}", where=where, why=f"{meant(name, known)}known: {', '.join(known)}")
    return ConfigError(
        first["msg"][0].lower() + first["msg"][1:], where=where, fix="quintet train FAMILY --dry-run shows every option"
    )


def seconds(text: str | float) -> float:
    """90, "90s", "2m" or "1h" in seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if not match or float(match[1]) <= 0:
        raise UsageError(f"expected a duration, got {text!r}", where="budget", fix="write for example 90s, 2m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
