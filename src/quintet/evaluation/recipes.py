"""How figures were measured, in full, and whether two sets of figures may stand side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from quintet.core.errors import DataError
from quintet.metrics.samples import FIGURES_VERSION, MAX_DIVERSE, MAX_ITEMS


def recipe(at_most: Mapping[str, int]) -> dict[str, Any]:
    """What all figures of samples of one kind of data have in common; `at_most`: see `Modality.at_most`."""
    return {
        "version": FIGURES_VERSION,
        "dtype": "float64",
        "at_most": {"items": MAX_ITEMS, "diversity": MAX_DIVERSE, **at_most},
        "classifier": "HistGradientBoosting on raw values, 5-fold; logistic regression for tstr; SVC for conditional",
        "errors": "analytic to the first order, or by bootstrap",
    }


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted keys."""
    rows: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rows |= dotted(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return rows


def identified(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe, which is JSON, with its `id`: 12 digits of the sha256 of everything else, keys sorted."""
    rest = {key: value for key, value in recipe.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return rest | {"id": hashlib.sha256(text.encode()).hexdigest()[:12]}


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise DataError that names the first setting, in alphabetical order, in which two recipes differ."""
    left, right = (dotted({key: value for key, value in recipe.items() if key != "id"}) for recipe in (a, b))
    for key in sorted(left | right):
        one, other = left.get(key, "nothing"), right.get(key, "nothing")
        if one != other:
            raise DataError(
                "figures of two recipes cannot be compared",
                where=key,
                why=f"{one} against {other}",
                fix="measure both with the same settings (quintet evaluate)",
            )
