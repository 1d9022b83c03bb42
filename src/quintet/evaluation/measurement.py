"""A measurement: all the settings that figures depend on, and whether two sets of figures may be compared.

Reports (report.json) hold it under the name `recipe`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from quintet.core.errors import DataError
from quintet.metrics.samples import FIGURES_VERSION, MAX_DIVERSE, MAX_ITEMS


def figure_settings(at_most: Mapping[str, int]) -> dict[str, Any]:
    """The settings that the figures of samples have in common, whatever is measured; `at_most`: `Modality.at_most`."""
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


def identified(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """The measurement with its `id`: the first 12 hexadecimal digits of the sha256 of its JSON, keys sorted."""
    rest = {key: value for key, value in measurement.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return rest | {"id": hashlib.sha256(text.encode()).hexdigest()[:12]}


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise DataError if two measurements differ; it names the first setting, in alphabetical order, that does."""
    left, right = (dotted({key: value for key, value in one.items() if key != "id"}) for one in (a, b))
    for key in sorted(left | right):
        one, other = left.get(key, "not set"), right.get(key, "not set")
        if one != other:
            raise DataError(
                "these figures were measured in different ways and cannot be compared",
                where=key,
                why=f"this setting is {one} for the first and {other} for the second",
                fix="measure both with the same settings, using quintet evaluate",
            )
