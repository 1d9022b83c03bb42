"""CARD.md: what a model is, how it was made, how good it is, what to mind, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quintet.core.codec import Codec
from quintet.core.family import Family
from quintet.core.spaces import Discrete, Space
from quintet.registry import MODALITIES, VERBS
from quintet.runs.advice import advice
from quintet.runs.folder import Run
from quintet.runs.hub import PREFIX
from quintet.training.checkpoint import write_atomic

KINDS = {
    "exact": "exact",
    "bound": "a lower bound: the truth is at least as high",
    "estimate": "an estimate, which may be too high or too low",
}
CARD_FIGURES = (
    "accuracy", "log_loss", "bleu", "chrf", "character_error_rate", "auc", "coverage", "precision", "recall", "frechet",
    "energy", "tstr", "trtr", "memorised",
)  # fmt: skip
"""The figures that a card shows, in this order, of all that report.html holds."""
NAMES = {"auc": "AUC against real items (0.5 is best)", "tstr": "accuracy, trained on samples",
         "trtr": "accuracy, trained on real items", "memorised": "share unusually near to a training item"}  # fmt: skip


def write_card(run: Run, family: Family, codecs: Mapping[str, Codec]) -> None:
    """Write the card of a run from what its folder says; after a measurement, with its figures."""
    write_atomic(run.path / "CARD.md", card(run, family, codecs))


def card(run: Run, family: Family, codecs: Mapping[str, Codec], address: str | None = None) -> str:
    """The card as Markdown. `address`: by which its readers find the run [its name]."""
    config, records, made = run.config(), run.metrics(), run.manifest()
    weights, data = run.used(), config.data
    then = [record for record in records if weights is None or record.get("step", 0) <= weights.step]
    last, theirs = ({key: value for record in those for key, value in record.items() if value is not None}
                    for those in (records, then))  # fmt: skip
    given = f", given `{data.condition}`" if data.condition else ""
    step, planned = last.get("step", 0), config.steps or 0
    early = ", ended early" if last.get("steps", planned) < planned else ""
    chosen = {"last": "", "quality": "; the weights are those of the best samples",
              "held_out": "; the weights are those of the lowest held-out loss"}[config.training.select]  # fmt: skip
    parameters = sum(p.numel() for p in family.parameters())
    splits = ", ".join(f"{count:,} {name}" for name, count in (made.get("items") or {}).items())
    lines = [
        f"# {run.name}",
        "",
        f"A model of the family `{config.family}` for `{data.target or 'items'}` of `{data.source}`{given}: "
        f"{codecs['x'].modality} as {space_in_words(codecs['x'].space)}.",
        "",
        "## How it was made",
        "",
        f"- trained: {step:,} of {planned:,} steps of {config.training.batch_size} items{early}, "
        f"{last.get('seconds', 0):,.0f} s, seed {config.seed}, preset {config.preset}{chosen}",
        *([] if weights is None else [f"- weights: of step {weights.step:,}, sha256 {weights.sha256}"]),
        f"- size: {parameters:,} parameters",
        f"- data: {splits + '; ' if splits else ''}sha256 {made.get('fingerprint', 'unknown')} over items, labels and "
        "splits",
        f"- made with: {', '.join(f'{name} {number}' for name, number in made.get('versions', {}).items())}, "
        f"{made.get('device', 'cpu')}",
        "",
        "## How good it is",
        "",
        *(measured(run) or ["- not measured on unseen items yet: " + f"`quintet evaluate {run.name}`"]),
        *live(theirs),
        "",
        "## What to mind",
        "",
        *(f"- {one.kind}: {one.text}" for one in advice(then)),
        *(f"- {note}" for note in codecs["x"].notes),
        "- What it makes resembles its training data, their gaps, errors and prejudices included.",
        "- Samples may be near to training items: `memorised` and the nearest items in report.html say how near.",
        *(f"- no `{verb}`: {why}" for verb, why in lacking(family).items()),
        "",
        "## How to use it",
        "",
        *(f"- `{command}` {what}" for command, what in uses(run, family, codecs, address or run.name).items()),
        "",
        "The complete configuration is in config.yaml.",
    ]
    return "\n".join(lines) + "\n"


def metadata(run: Run, family: Family, codecs: Mapping[str, Codec]) -> dict[str, Any]:
    """What the hub reads at the top of a card: library, tags, the task, and the figures of the last measurement."""
    config, kind = run.config(), MODALITIES[codecs["x"].modality]
    facts: dict[str, Any] = {"library_name": "quintet", "tags": [family.name.replace("_", "-"), kind.name]}
    if kind.task:
        facts["pipeline_tag"] = kind.task
    source = config.data.source
    if source.startswith(PREFIX):
        facts["datasets"] = [source.removeprefix(PREFIX).partition(":")[0]]
    measurement = measurement_of(run)
    if measurement is not None:
        entry, _ = measurement
        found = {name: entry["metrics"][name] for name in CARD_FIGURES if entry["metrics"].get(name) is not None}
        if entry.get("likelihood"):
            found = {"log-likelihood, nats an item": entry["likelihood"]["nats"]} | found
        task = {"type": kind.task or "other"}
        data = {"type": Path(source).name, "name": Path(source).name, "split": entry["split"]}
        values = [{"type": name, "name": NAMES.get(name, name), "value": value} for name, value in found.items()]
        facts["model-index"] = [{"name": run.name, "results": [{"task": task, "dataset": data, "metrics": values}]}]
    return facts


def measurement_of(run: Run) -> tuple[Any, Any] | None:
    """What the last `quintet evaluate` found of the model, and its whole report; None: not measured yet."""
    try:
        report = json.loads((run.path / "report.json").read_text())
        entry = report["models"][0]
        entry["metrics"], entry["split"], report["command"], report["date"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return entry, report


def measured(run: Run) -> list[str]:
    """The figures of the last `quintet evaluate`, from report.json."""
    measurement = measurement_of(run)
    if measurement is None:
        return []
    entry, report = measurement
    figures, found = entry["metrics"], entry.get("likelihood")
    head = f"- on the {entry['split']} split ({report['command']}, {report['date']}):"
    lines = []
    if found:
        lines.append(
            f"  - log-likelihood {found['nats']:.4g} ± {2 * found['stderr']:.2g} nats an item "
            f"({found['bits_per_dim']:.4g} bits a dimension), {KINDS[found['kind']]} ({found['space']})"
        )
    for key in CARD_FIGURES:
        if figures.get(key) is not None:
            error = figures.get(f"{key}_stderr")
            spread = f" ± {2 * error:.2g}" if error else ""
            lines.append(f"  - {NAMES.get(key, key.replace('_', ' '))}: {figures[key]:.4g}{spread}")
    lines.append(
        "  - these are figures of one training run: ± is the error of measurement, and another seed gives others; "
        "`quintet compare` with `--seeds 3` shows how far apart seeds are"
    )
    return [head, *lines]


def live(last: Mapping[str, Any]) -> list[str]:
    """The figures of training when the model had these weights."""
    words = {
        "quality": "energy distance between samples and validation items, 0 is best",
        "diversity": "how much samples differ, over how much validation items do; 1 is best",
        "held_out": "loss of validation items, a dimension",
    }
    return [f"- {key} {last[key]:.4g}: {what}" for key, what in words.items() if key in last]


def lacking(family: Family) -> dict[str, str]:
    """What this family cannot do, each with the reason."""
    reasons = {
        verb: [family.missing[name] for name in names if name in family.missing] for verb, names in VERBS.items()
    }
    return {verb: found[0] for verb, found in reasons.items() if found}


def uses(run: Run, family: Family, codecs: Mapping[str, Codec], name: str) -> dict[str, str]:
    """Commands, and what they do."""
    data = run.config().data
    if is_label(codecs):
        return {
            f"quintet score {name} --data FILE": f"names the {data.target} of each item, with probabilities",
            f"quintet evaluate {name}": "measures accuracy and calibration on the test split",
        }
    given = " --condition VALUE" if data.condition else ""
    many = " --conditions FILE" if data.condition else ""
    commands = {
        f"quintet sample {name}{many or ' -n 64'}": "makes new items" + (", one a line of FILE" if many else ""),
        f"quintet evaluate {name}": "measures it on the test split and writes report.html",
    }
    lacks = lacking(family)
    if "score" not in lacks:
        commands[f"quintet score {name} --data FILE"] = "says how likely items are"
    if "complete" not in lacks:
        commands[f"quintet complete {name} --data FILE{given}"] = "fills their holes"
    return commands


def is_label(codecs: Mapping[str, Codec]) -> bool:
    """Whether the model predicts a label."""
    return "cond" in codecs and codecs["x"].labels is not None


def space_in_words(space: Space) -> str:
    """In words, what a codec made of an item."""
    shape = " x ".join(map(str, space.shape))
    return f"{shape} symbols of {space.vocab_size:,}" if isinstance(space, Discrete) else f"{shape} numbers"
