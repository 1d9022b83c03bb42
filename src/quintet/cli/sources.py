"""What `data` says of the sources, or of one, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quintet.cli.console import columns, number
from quintet.operations.sources import SourceResult, SourcesResult


def listed(found: SourcesResult) -> str:
    """A line a source, and one for a collection."""
    entries, rows, families = found.sources, [], set()
    for entry in entries:
        family, _, member = entry["name"].partition("/")
        if member:  # one line for a collection
            if family not in families:
                names = ", ".join(e["name"].partition("/")[2] for e in entries if e["name"].startswith(f"{family}/"))
                rows.append((f"{family}/NAME", entry["modality"], f"binary columns; {names}", entry["state"]))
            families.add(family)
        else:
            rows.append((entry["name"], entry["modality"], entry["about"], entry["state"]))
    more = ("Or a path: a folder of images, sounds or texts, a .csv .tsv .parquet .jsonl .feather .txt .npy .npz file, "
            "a zip or tar of those; or hf:owner/name.")  # fmt: skip
    return f"{columns(rows, ('source', 'kind', 'what', 'where'))}\n\n{more}"


def described(found: SourceResult) -> str:
    """Kind, counts, columns, missing cells, duplicates, problems and notes of a source."""
    rows = [(found.name, found.about), ("kind", found.modality), ("items", f"{found.items:,}")]
    rows += [("splits", ", ".join(f"{split} {size:,}" for split, size in found.splits.items()))]
    rows += [(key, _fact(value)) for key, value in found.understood.items()]
    rows += [(f"column {c['name']}", f"{_column_text(c)}; {c['modelled']}") for c in found.columns]
    if found.columns:
        rows.append(
            ("types", '--data.types "COLUMN=number|decimal|integer|category|text|datetime|boolean|id|drop" decides')
        )
    rows += [(f"label {c['name']}", f"{_column_text(c)}; for --condition {c['name']}") for c in found.labels]
    if found.columns:
        rows.append(("missing cells", f"{found.missing:,}"))
    again = found.duplicates
    rows.append(("duplicates", f"{again['items']:,} items, {again['across_splits']:,} in more than one split"))
    rows += [("problem", text) for text in found.problems] + [("note", text) for text in found.notes]
    rows += [("picture", found.picture)] if found.picture is not None else []
    return columns(rows)


def _fact(value: Any) -> str:
    if isinstance(value, list) and len(value) == 3 and all(isinstance(part, float) for part in value):
        return "{} ... {} (median {})".format(*(number(value[i]) for i in (0, 2, 1)))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _column_text(fact: Mapping[str, Any]) -> str:
    """One column in words."""
    missing = f", {fact['missing']:,} missing" if fact["missing"] else ""
    taken = f"{fact['taken']} ({fact['type']})"
    if "min" in fact:
        return f"{taken}, {number(fact['min'])} ... {number(fact['max'])}{missing}"
    values = [str(value)[:40] for value in fact["values"]]
    shown = values if len(fact["values"]) == fact["distinct"] else values[:8]
    more = " ..." if fact["distinct"] > len(shown) else ""
    return f"{taken}, {fact['distinct']:,} values: {', '.join(shown)}{more}{missing}"
