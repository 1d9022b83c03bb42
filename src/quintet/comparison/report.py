"""A comparison as one HTML file that answers "which one should I keep, and why", and opens anywhere, offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import jinja2

from quintet.comparison.contenders import Contender, contenders, spaces_of
from quintet.comparison.differences import foremost, having, ranks_with_ties
from quintet.comparison.scoring import by_character
from quintet.comparison.verdict import JUDGED, verdict
from quintet.core.plain import readable
from quintet.evaluation.measurement import dotted
from quintet.metrics.measures import AUC, COST, LIKELIHOOD, MEMORISED, NATS, PER_CHARACTER, Measure
from quintet.registry import QUALITY
from quintet.runs.advice import Advice


class ShownSamples(TypedDict):
    """What the samples look like. `kind` "image": `png`, base64; "audio": `png`, of spectrograms, and `sounds`,
    WAV files in base64; "rows": `columns` and `rows`; "text": `items`."""

    kind: str
    png: NotRequired[str]
    sounds: NotRequired[list[str]]
    columns: NotRequired[list[str]]
    rows: NotRequired[list[list[Any]]]
    items: NotRequired[list[str]]


class Likelihood(TypedDict):
    """`LogProb.summary()`: of unseen items; `stderr` is in nats an item."""

    kind: str
    nats: float
    nats_per_dim: float
    bits_per_dim: float
    stderr: NotRequired[float | None]
    space: NotRequired[str]


class Entry(TypedDict):
    """One training run. Runs with equal `label` (default: the family) are the seeds of one contender."""

    family: str
    run: str
    seed: int
    status: str
    """ "ok", "failed" or "left out"; without "ok", `error` says why and nothing below is needed."""
    label: NotRequired[str]
    error: NotRequired[str | None]
    likelihood: NotRequired[Likelihood | None]
    likelihood_reason: NotRequired[str | None]
    metrics: NotRequired[dict[str, Any]]
    """What `samples.evaluate_samples` returns."""
    predicted: NotRequired[str]
    """What "efficacy" predicts, in words."""
    parameters: NotRequired[int | None]
    train_seconds: NotRequired[float | None]
    steps: NotRequired[int | None]
    ms_per_sample: NotRequired[float | None]
    peak_mb: NotRequired[float | None]
    joules: NotRequired[float | None]
    samples: NotRequired[ShownSamples | None]
    nearest: NotRequired[ShownSamples | None]
    """Samples beside the training items that are nearest to them."""
    advice: NotRequired[list[dict[str, str]]]
    """What training showed: {"kind", "text"} each."""
    curve: NotRequired[list[list[float]]]
    """[seconds, quality] pairs, lower is better; `Comparison.curve_name` names the quality."""
    config: NotRequired[dict[str, Any]]


class Real(TypedDict):
    """Real data beside the samples, and `evaluate_samples` of unseen real items: what a perfect model would reach."""

    samples: NotRequired[ShownSamples | None]
    metrics: NotRequired[dict[str, Any] | None]


class Comparison(TypedDict):
    """All that a report shows; JSON."""

    source: str
    models: list[Entry]
    modality: NotRequired[str]
    things: NotRequired[str]
    """Several of the items, in a word."""
    command: NotRequired[str]
    budget: NotRequired[str]
    seeds: NotRequired[list[int]]
    date: NotRequired[str]
    machine: NotRequired[dict[str, Any]]
    versions: NotRequired[dict[str, Any]]
    recipe: NotRequired[dict[str, Any]]
    """How it was measured: {"features": FeatureSpace.description, "split": {...}, ...}; nested as you like."""
    real: NotRequired[Real]
    curve_name: NotRequired[str]
    ranks: NotRequired[dict[str, dict[str, int]]]
    verdict: NotRequired[dict[str, Any]]
    """Default: `verdict(models, real)`."""


PALETTE = (
    ("#2f40c2", "#6b6ef7"), ("#9e170c", "#e04605"), ("#189e8c", "#7defda"), ("#683570", "#a35f91"),
    ("#c57118", "#f6a84c"), ("#a76ef8", "#aaa7f4"), ("#59637a", "#a3adc0"), ("#8a94a8", "#66718a"),
)  # fmt: skip
"""Colours of contenders on light and on dark paper; every eye tells the first six apart, colour-blind ones too."""


class Cell(NamedTuple):
    """One number of the table: its text, its ± part, a mark ("best", "tie", "3rd", "copies", "little" or ""), and a
    remark.
    """

    text: str
    spread: str = ""
    mark: str = ""
    remark: str = ""


def render(comparison: Comparison) -> str:
    """The report as one self-contained HTML document: no script, no request, readable on a phone and on paper."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("quintet.comparison"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(comparison=comparison, **parts(comparison))


def parts(comparison: Comparison) -> dict[str, Any]:
    """What a page shows of a comparison, part by part: contenders, the best first, and tables and charts of them."""
    models = cast("list[dict[str, Any]]", comparison["models"])
    crowd = contenders(models)
    colour = {c.label: index % len(PALETTE) for index, c in enumerate(crowd)}
    answer = comparison.get("verdict") or verdict(models, (comparison.get("real") or {}).get("metrics"))
    crowd.sort(key=lambda c: (not c.done, c.label != answer["keeper"]["label"], _gap(c)))
    real = comparison.get("real") or {}
    reference = real.get("metrics") or {}
    return {
        "crowd": crowd,
        "colour": colour,
        "palette": PALETTE,
        "answer": answer,
        "forest": _forest(crowd),
        "quality": [row for measure in QUALITY if (row := _row(measure, crowd, reference))],
        "likelihood": _likelihood(crowd, answer["scoring"]["label"]),
        "cost": [row for measure in COST if (row := _row(measure, crowd, {}))],
        "chart": _chart(crowd),
        "several": any(len(c.done) > 1 for c in crowd),
        "real": real.get("samples"),
        "things": comparison.get("things", "such items"),
        "nearest": [(c, c.done[0]["nearest"]) for c in crowd if c.done and c.done[0].get("nearest")],
        "advised": _advised(crowd),
        "recipe": dotted(comparison.get("recipe") or {}),
        "settings": _settings(crowd),
        "runs": [(c.label, ", ".join(f"{run['run']} (seed {run['seed']})" for run in c.runs)) for c in crowd],
    }


FEWER_NOTES = {
    "fewer_samples": "fewer samples", "fewer_scored": "fewer items scored", "fewer_items": "fewer items measured"
}  # fmt: skip
"""Notes that a slow model was measured by less than others."""


def _advised(crowd: Sequence[Contender]) -> list[tuple[str, str, str]]:
    """(contender, kind, text) of what training and measuring showed, once for each contender and kind."""
    found: dict[tuple[str, str], str] = {}
    for contender in crowd:
        for run in contender.done:
            for one in (Advice(**one) for one in run.get("advice") or ()):
                found.setdefault((contender.label, one.kind), one.text)
            for key, kind in {**FEWER_NOTES, "unpredicted": "trained on samples"}.items():
                if run.get(key):
                    found.setdefault((contender.label, kind), run[key])
    return [(label, kind, text) for (label, kind), text in found.items()]


def _gap(contender: Contender) -> float:
    auc = contender.figure(AUC)
    return abs(auc.mean - 0.5) if auc else math.inf


def number_cell(value: float, half: float = 0.0, *, percent: bool = False) -> Cell:
    """Three significant digits, or as many as the interval warrants, which shows at least one of its own."""
    if percent and math.isfinite(value):
        return Cell(f"{value:.1%}", f"{half:.1%}" if half and math.isfinite(half) else "")
    if not math.isfinite(value):
        return Cell("not finite")
    decimals, spread = max(0, 2 - _magnitude(value)), ""
    if half > 0 and math.isfinite(half):
        most = 2 - min(_magnitude(value), -1)
        decimals = min(max(1 - _magnitude(half), 0), max(decimals, -_magnitude(half)), most)
        spread = f"{max(half, 10.0**-decimals):,.{decimals}f}"  # never reads as zero
    elif value == int(value):
        decimals = 0
    return Cell(f"{value:,.{min(max(decimals, 0), 6)}f}".replace("-", "−"), spread)


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _row(measure: Measure, crowd: Sequence[Contender], reference: Mapping[str, Any]) -> dict[str, Any] | None:
    """A measure with a cell for each contender and one for real data; None if nobody has it."""
    found = [c.figure(measure) for c in crowd]
    if not any(found):
        return None
    marks = _marks(measure, crowd)
    cells = []
    for contender, figure, mark in zip(crowd, found, marks, strict=True):
        if figure is None:
            cells.append(Cell(contender.end if not contender.done else "–"))
            continue
        if measure is MEMORISED and contender.memorises:
            mark = "copies"
        half = figure.half if measure.better or measure in QUALITY else 0.0
        cells.append(number_cell(figure.mean, half, percent=measure.percent)._replace(mark=mark))
    key = measure.reference or measure.key
    words = [run["predicted"] for c in crowd for run in c.done if run.get("predicted")]
    told = f"Here: {words[0]}." if measure.key == "efficacy" and words else ""
    value, half = reference.get(key), 2 * float(reference.get(f"{key}_stderr") or 0.0)
    return {
        "name": measure.name,
        "note": " ".join(filter(None, [measure.note, told])),
        "decides": measure in JUDGED,
        "cells": cells,
        "real": None if value is None else number_cell(float(value), half, percent=measure.percent),
    }


def _marks(measure: Measure, crowd: Sequence[Contender]) -> list[str]:
    """Name the best "best", "tie" those that it does not beat, and the others by their rank."""
    ranks, pool = ranks_with_ties(measure, crowd), having(measure, crowd)
    if not measure.better or len(pool) < 2:
        return [""] * len(crowd)
    best = foremost(measure, pool)
    return [
        "" if rank is None else "best" if c is best else "tie" if rank == 1 else ordinal(rank)
        for c, rank in zip(crowd, ranks, strict=True)
    ]


def ranks(models: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """{measure: {contender: rank}} for every measure that has a better and a worse; those who share a rank tie."""
    crowd = [c for c in contenders(models) if c.done]
    out = {}
    for measure in (*QUALITY, *COST):
        places = zip(crowd, ranks_with_ties(measure, crowd), strict=True)
        found = {c.label: rank for c, rank in places if rank is not None}
        if found:
            out[measure.key] = found
    return out


def ordinal(rank: int) -> str:
    """2 -> 2nd; there are never so many contenders that 11 to 13 matter."""
    return f"{rank}{ {2: 'nd', 3: 'rd'}.get(rank, 'th') }"


def _likelihood(crowd: Sequence[Contender], winner: str | None) -> list[dict[str, Any]]:
    """Nats and bits; the winner is the verdict's, because kinds are not compared by size alone."""
    rows, spaces = [], spaces_of(crowd)
    for measure in LIKELIHOOD:
        if measure is (NATS if by_character(crowd) else PER_CHARACTER):
            continue
        cells = []
        for contender in crowd:
            figure = contender.figure(measure)
            if figure is None:
                reasons = [run["likelihood_reason"] for run in contender.done if run.get("likelihood_reason")]
                cells.append(
                    Cell("none" if contender.done else contender.end, remark=str(reasons[0]) if reasons else "")
                )
                continue
            mark = "best" if contender.label == winner else ""
            kind = ", ".join(filter(None, [contender.likelihood_kind, spaces[contender.label]]))
            cells.append(number_cell(figure.mean, figure.half)._replace(mark=mark, remark=kind))
        if having(measure, crowd):
            rows.append({"name": measure.name, "note": measure.note, "cells": cells, "real": None})
    return rows


def _forest(crowd: Sequence[Contender]) -> dict[str, Any] | None:
    """The AUC of each contender with its interval, as percentages of an axis that holds 0.5. Those that the
    verdict passes over however near to 0.5 they are have a mark, "copies" or "little".
    """
    figures = [(c, f) for c in crowd if (f := c.figure(AUC)) and math.isfinite(f.half)]
    if not figures:
        return None
    low = min(0.45, math.floor(min(max(f.low, 0.0) for _, f in figures) * 20) / 20)
    high = min(1.0, max(0.6, math.ceil(max(f.high for _, f in figures) * 20) / 20))

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    return {
        "half": place(0.5),
        "full": high == 1.0,
        "ticks": [(place(v), f"{v:.2g}") for v in _ticks(low, high, log=False, most=6)],
        "rows": [
            {"label": c.label, "value": number_cell(f.mean, f.half)._replace(mark=passed_over(c))}
            | {"low": place(f.low), "high": place(f.high), "mean": place(f.mean)}
            for c, f in figures
        ],
    }


def _chart(crowd: Sequence[Contender]) -> dict[str, Any] | None:
    """Learning curves in percent of the plot: lines for each seed, ticks of both axes."""
    raw = [(c.label, [p for p in run.get("curve") or [] if math.isfinite(p[1])]) for c in crowd for run in c.done]
    raw = [(label, points) for label, points in raw if len(points) > 1]
    if not raw:
        return None
    values = [value for _, points in raw for _, value in points]
    right: float = max(points[-1][0] for _, points in raw)
    low, high = min(values), max(values)
    log = low > 0 and high / low > 20
    if not log:
        low, high = min(low, 0.0), high if high > low else low + 1.0

    def height(value: float) -> float:
        part: float = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return round(100 * (1 - part), 2)

    def across(seconds: float) -> float:
        return round(100 * seconds / right, 2)

    lines = []
    for label, points in raw:
        places = [(across(seconds), height(value)) for seconds, value in points]
        path = " ".join(f"{10 * x:.0f},{10 * y:.0f}" for x, y in places)
        lines.append({"label": label, "path": path, "end": places[-1], "last": number_cell(points[-1][1]).text})
    return {
        "log": log,
        "lines": lines,
        "x": [(across(v), readable(v)) for v in _ticks(0.0, right, log=False, most=6)],
        "y": [(height(v), readable(v)) for v in _ticks(low, high, log=log, most=8 if log else 5)],
    }


def passed_over(contender: Contender) -> str:
    """Why a contender is not to be kept, as a mark of a cell: it copies training items, or has learnt too little."""
    return "copies" if contender.memorises else "little" if contender.learnt_little is not None else ""


def _ticks(low: float, high: float, *, log: bool, most: int) -> list[float]:
    """Round numbers 1, 2, 5 x 10^k within [low, high]."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1,)):
            marks = [float(f"{d}e{k}") for k in powers for d in digits if low <= float(f"{d}e{k}") <= high]
            if len(marks) <= most:
                break
        return marks
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _settings(crowd: Sequence[Contender]) -> dict[str, list[Any]]:
    """Settings in which contenders differ and those that only some have, [(key, values)], and those that all share,
    [(key, value)]. A contender that lacks a setting has None.
    """
    columns = [dotted(c.runs[0].get("config") or {}) for c in crowd]
    told = len([column for column in columns if column])  # a failed run may have none
    out: dict[str, list[Any]] = {"differ": [], "own": [], "same": []}
    for key in sorted({key for column in columns for key in column}):
        values = [column.get(key) for column in columns]
        known = [value for column, value in zip(columns, values, strict=True) if key in column]
        if len(set(known)) > 1:
            out["differ"].append((key, values))
        elif len(known) < told:
            out["own"].append((key, values))
        else:
            out["same"].append((key, known[0]))
    return out
