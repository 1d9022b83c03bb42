"""Figures in plain words: likelihoods, measurements, and the verdict of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from quintet.cli.console import clock, columns, figures, number
from quintet.comparison.contenders import Figure, contenders, spaces_of
from quintet.comparison.scoring import unit_of
from quintet.metrics.measures import AUC, COVERAGE, PER_CHARACTER, SPEED, TRAIN_SECONDS
from quintet.operations.scoring import ScoreResult
from quintet.operations.training import PlanResult, TrainResult
from quintet.registry import MODALITIES


def likelihood_line(summary: Mapping[str, Any]) -> str:
    """A `LogProb.summary()` in one line."""
    words = {"exact": "exact", "bound": "a lower bound", "estimate": "an estimate"}[summary["kind"]]
    if summary["kind"] == "exact" and summary.get("space") == "dequantised":
        words = "exact for items with noise added, a lower bound for the items themselves"
    return (
        f"log-likelihood {summary['nats']:.4g} ± {summary['stderr']:.2g} nats an item "
        f"({summary['bits_per_dim']:.4g} bits a dimension), {words}"
    )


def counted(count: int, kind: str) -> str:
    """So many items of a kind of data, by the word for them: 8 windows, 1 image."""
    things = MODALITIES[kind].things
    return f"{count:,} {things.removesuffix('s') if count == 1 else things}"


def labels_line(summary: Mapping[str, Any]) -> str:
    """How many items were labelled, and how well where that is known."""
    found, labelled = summary.get("labels"), f"{summary['items']:,} items labelled"
    if not found:
        return labelled
    low, high = (f"{found[end]:.1%}" for end in ("accuracy_low", "accuracy_high"))
    rest = ((found["unseen"], "with labels that training lacked count as wrong"),
            (found["unlabelled"], "without a label are not counted"))  # fmt: skip
    told = "".join(f"; {count:,} {what}" for count, what in rest if count)
    return f"{labelled}, {found['accuracy']:.1%} as they are in the source (95 % interval {low} to {high}){told}"


def planned(found: PlanResult) -> str:
    """What would be trained, as a configuration file."""
    settings = yaml.safe_dump(found.config, sort_keys=False)
    return f"# {found.parameters:,} parameters; nothing was written\n{settings}"


def trained(done: TrainResult) -> str:
    """How a run came to its end, and what one may do next."""
    early = f" of {done.planned:,}, ended early" if done.steps < done.planned else ""
    head = f"{done.run}: {done.steps:,} steps{early} in {clock(done.seconds)}"
    selected = f"the best weights, of step {done.weights:,}, are kept: " if done.weights < done.step else ""
    text = f"{head}, {selected}{', '.join(figures(done.facts()))}"
    return f"{text}\n  next: quintet sample {done.address}, quintet evaluate {done.address}"


def scored(found: ScoreResult) -> str:
    """What the scores of a source's items come to, and where they are."""
    if found.anomalies is not None:
        usual, head = found.anomalies["reference"], f"{found.odd:,} of {found.anomalies['items']:,} items"
        if "p_at_most_0.01" in found.anomalies:
            return f"{head} are less likely than 99 % of usual ones: {found.output}"
        chance = f"which any usual item is 1 time in {usual + 1:,}; more cannot be said with so few"
        return f"{head} are less likely than all of {usual:,} usual ones, {chance}: {found.output}"
    lines = [likelihood_line(found.likelihood)] if found.likelihood else []
    if found.items is not None:
        lines.append(f"{labels_line(found.facts())}: {found.output}")
    elif found.likelihood:
        none = found.likelihood.get("without", 0)
        without = f", {none:,} of them without a likelihood (column note)" if none else ""
        lines.append(f"{found.likelihood['items'] + none:,} items{without}: {found.output}")
    return "\n".join(lines)


QUESTIONS = {"keeper": "keep", "scoring": "best scores", "anomalies": "finds anomalies", "completion": "completes best",
             "speed": "fastest", "memorisation": "copies least"}  # fmt: skip
"""What a verdict answers, and how that is called."""


FEWER = ("fewer_samples", "fewer_scored", "fewer_items")
"""Notes that a slow model was measured by fewer samples or items."""


def evaluated(result: Mapping[str, Any]) -> str:
    """The likelihood, or why there is none, and a line for every figure."""
    found, metrics = result["likelihood"], {**result["metrics"], **(result.get("language") or {})}
    rows = []
    for key, value in metrics.items():
        if not key.endswith("_stderr"):
            error = metrics.get(f"{key}_stderr")
            rows.append((key, number(value) + (f" ± {error:.2g}" if error is not None else "")))
    if told := result.get("predicted") or result.get("unpredicted"):
        rows.append(("trained on samples", told))
    rows.append(("ms a sample", number(result.get("ms_per_sample"))))
    head = likelihood_line(found) if found else f"no likelihood: {result['likelihood_reason']}"
    notes = [f"note: {result[key]}" for key in FEWER if result.get(key)]
    if notes:
        was = f"{result['measured']['budget']:g}s"
        notes.append(f"note: evaluate with a longer --budget (this one was {was}) to measure more of them")
    return "\n".join([head, columns(rows), *notes])


def compared(result: Mapping[str, Any]) -> str:
    """The verdict in words, and a table with one line a contender."""

    def show(figure: Figure | None, form: str) -> str:
        return (
            "-"
            if figure is None
            else f"{figure.mean:{form}}"
            + (f" ± {figure.half:{form if form.endswith('f') else '.2g'}}" if figure.half > 0 else "")
        )

    lines = []
    for key, title in QUESTIONS.items():
        answer = result["verdict"].get(key)
        if answer and (answer["label"] or key != "completion"):  # few kinds of data have such a figure
            lines.append(f"{title}: {answer['label'] or 'none'}. {answer['sentence']}")
    lines += [f"note: {caveat}" for caveat in result["verdict"].get("caveats", ())]
    rows, failed, crowd = [], [], contenders(result["models"])
    unit, spaces = unit_of([one for one in crowd if one.done]), spaces_of(crowd)
    for one in crowd:
        if not one.done:
            ended = "was left out" if one.end == "left out" else "failed"
            failed.append(f"{one.label} {ended}: {one.runs[0].get('error') or 'no reason is known'}")
            continue
        quality = [show(one.figure(measure), ".2f") for measure in (AUC, COVERAGE)]
        cost = [show(one.figure(measure), ".3g") for measure in (SPEED, TRAIN_SECONDS)]
        kind = ", ".join(filter(None, [one.likelihood_kind, spaces[one.label]]))
        rows.append((one.label, *quality, show(one.figure(unit.measure), ".4g"), kind, *cost))
    nats = "nats/character" if unit.measure is PER_CHARACTER else "nats"
    header = ("model", "AUC (0.5 best)", "coverage", nats, "kind", "ms/sample", "train s")
    table = columns(rows, header) if rows else "no model was measured"
    return "\n".join([*lines, "", table, *failed, "", f"report: {result.get('report', '-')}"])


def recommended(found: Mapping[str, Any]) -> str:
    """A line for each purpose with its reason, what to mind, and the command to begin with."""
    shape = found["shape"]
    machine = f"{shape['cores']} cores{', a GPU' if shape['gpu'] else ''}"
    head = f"{shape['items']:,} training items, {shape['kind']}, {shape['dims']:,} dimensions; {machine}"
    lines, runs = [head, ""], list[str]()
    for one in found["purposes"].values():
        rests_on = dict.fromkeys(
            f"{run['command']}, {run['budget']}; {run['machine']}, {run['date']} (docs/results.md, {run['section']})"
            for run in one["rests_on"]
        )
        runs += [run for run in rests_on if run not in runs]
        marks = "".join(f" [{runs.index(run) + 1}]" for run in rests_on)
        lines.append(f"{one['purpose']}: {one['family']}. {one['why']}{marks}.")
    lines += [""] * bool(found["purposes"]) + [f"note: {caution}" for caution in found["cautions"]]
    lines += ["", "the figures are from", *(f"  [{i}] {run}" for i, run in enumerate(runs, 1))] if runs else []
    if found["purposes"]:
        lines += ["", f"likeliest first: {', '.join(found['order'])}"]
    return "\n".join([*lines, f"next: {found['command']}"])
