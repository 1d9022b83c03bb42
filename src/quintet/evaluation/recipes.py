"""How figures were measured, in full, and whether two sets of figures may stand side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from quintet.core.errors import DataError
from quintet.evaluation.report import flat


def identified(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe, which is JSON, with its `id`: 12 digits of the sha256 of everything else, keys sorted."""
    rest = {key: value for key, value in recipe.items() if key != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return rest | {"id": hashlib.sha256(text.encode()).hexdigest()[:12]}


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise DataError that names the first setting, in alphabetical order, in which two recipes differ."""
    left, right = (flat({key: value for key, value in recipe.items() if key != "id"}) for recipe in (a, b))
    for key in sorted(left | right):
        one, other = left.get(key, "nothing"), right.get(key, "nothing")
        if one != other:
            raise DataError(
                "figures of two recipes cannot be compared",
                where=key,
                why=f"{one} against {other}",
                fix="measure both with the same settings (quintet evaluate)",
            )
