"""CARD.md: what a model is, how it was made, how good it is, what to mind, and how to use it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quintet.core.codec import Codec
from quintet.core.errors import QuintetError
from quintet.core.family import Family
from quintet.core.spaces import Discrete, Space
from quintet.registry import MODALITIES, VERBS
from quintet.runs.advice import Advice, advice
from quintet.runs.config import RunConfig
from quintet.runs.folder import Run, UsedWeights
from quintet.runs.hub import PREFIX
from quintet.runs.notes import Notes, notes_of
from quintet.runs.restoring import codecs_of, rebuild
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


@dataclass(frozen=True)
class Facts:
    """What a card says. `early`: whether training ended before its last planned step; `measured`: what the last
    `quintet evaluate` found; `live`: figures of training when the model had these weights, with what they mean;
    `lacks`: what it cannot do, and why; `uses`: commands, and what they do; `said`: what people have written down.
    """

    name: str
    family: str
    target: str
    source: str
    condition: str | None
    kind: str
    space: str
    step: int
    planned: int
    early: bool
    seconds: float
    config: RunConfig
    weights: UsedWeights | None
    parameters: int
    manifest: Mapping[str, Any]
    measured: Measured | None
    live: Sequence[tuple[str, float, str]]
    advice: Sequence[Advice]
    notes: Sequence[str]
    lacks: Mapping[str, str]
    uses: Mapping[str, str]
    said: Notes


def facts(
    run: Run, codecs: Mapping[str, Codec], parameters: int, missing: Mapping[str, str], address: str | None = None
) -> Facts:
    """What there is to say of a run by its folder, its codecs and what its family lacks. `address`: by which readers
    find the run [its name].
    """
    config, records, codec = run.config(), run.metrics(), codecs["x"]
    weights, data = run.used(), config.data
    then = [record for record in records if weights is None or record.get("step", 0) <= weights.step]
    last, theirs = ({key: value for record in those for key, value in record.items() if value is not None}
                    for those in (records, then))  # fmt: skip
    step, planned = last.get("step", 0), config.steps or 0
    lacks = lacking(missing)
    return Facts(
        run.name, config.family, data.target or "items", data.source, data.condition, codec.modality,
        space_in_words(codec.space), step, planned, last.get("steps", planned) < planned, last.get("seconds", 0),
        config, weights, parameters, run.manifest(), measured(run), live(theirs), advice(then), codec.notes, lacks,
        uses(run, lacks, codecs, address or run.name), notes_of(run.path),
    )  # fmt: skip


def write_card(run: Run, family: Family, codecs: Mapping[str, Codec]) -> None:
    """Write the card of a run from what its folder says; after a measurement, with its figures."""
    write_atomic(run.path / "CARD.md", card(run, family, codecs))


def rewrite_card(run: Run) -> None:
    """Write it again, if there is one, from what the folder says now; of a damaged run it stays as it is."""
    if (run.path / "CARD.md").is_file():
        with contextlib.suppress(QuintetError, OSError):
            write_atomic(run.path / "CARD.md", markdown(stored(run)))


def stored(run: Run, address: str | None = None) -> Facts:
    """What there is to say of a run that is not loaded. Only of an old one, whose manifest says nothing of its family,
    that is built.
    """
    model = run.manifest().get("model")
    if isinstance(model, dict) and {"parameters", "missing"} <= model.keys():
        return facts(run, codecs_of(run), int(model["parameters"]), model["missing"], address)
    family, codecs, _ = rebuild(run)
    return facts(run, codecs, sum(p.numel() for p in family.parameters()), family.missing, address)


def card(run: Run, family: Family, codecs: Mapping[str, Codec], address: str | None = None) -> str:
    """The card as Markdown. `address`: by which its readers find the run [its name]."""
    parameters = sum(p.numel() for p in family.parameters())
    return markdown(facts(run, codecs, parameters, family.missing, address))


def markdown(facts: Facts) -> str:
    """A card as Markdown."""
    config, made, weights = facts.config, facts.manifest, facts.weights
    given = f", given `{facts.condition}`" if facts.condition else ""
    early = ", ended early" if facts.early else ""
    chosen = {"last": "", "quality": "; the weights are those of the best samples",
              "held_out": "; the weights are those of the lowest held-out loss"}[config.training.select]  # fmt: skip
    splits = ", ".join(f"{count:,} {name}" for name, count in (made.get("items") or {}).items())
    lines = [
        f"# {facts.name}",
        "",
        f"A model of the family `{facts.family}` for `{facts.target}` of `{facts.source}`{given}: "
        f"{facts.kind} as {facts.space}.",
        "",
        *(["## What it is for", "", facts.said.intended, ""] if facts.said.intended else []),
        *(["## Licence", "", facts.said.licence, ""] if facts.said.licence else []),
        "## How it was made",
        "",
        f"- trained: {facts.step:,} of {facts.planned:,} steps of {config.training.batch_size} items{early}, "
        f"{facts.seconds:,.0f} s, seed {config.seed}, preset {config.preset}{chosen}",
        *([] if weights is None else [f"- weights: of step {weights.step:,}, sha256 {weights.sha256}"]),
        f"- size: {facts.parameters:,} parameters",
        f"- data: {splits + '; ' if splits else ''}sha256 {made.get('fingerprint', 'unknown')} over items, labels and "
        "splits",
        *changed_lines(made.get("changes")),
        f"- made with: {', '.join(f'{name} {number}' for name, number in made.get('versions', {}).items())}, "
        f"{made.get('device', 'cpu')}",
        "",
        "## How good it is",
        "",
        *(figure_lines(facts.measured) if facts.measured else
          [f"- not measured on unseen items yet: `quintet evaluate {facts.name}`"]),
        *(f"- {key} {value:.4g}: {what}" for key, value, what in facts.live),
        "",
        "## What to mind",
        "",
        *(f"- {one.kind}: {one.text}" for one in facts.advice),
        *(f"- {note}" for note in (*facts.notes, *ALWAYS)),
        *(f"- no `{verb}`: {why}" for verb, why in facts.lacks.items()),
        "",
        "## How to use it",
        "",
        *(f"- `{command}` {what}" for command, what in facts.uses.items()),
        "",
        "The complete configuration is in config.yaml.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def changed_lines(changes: Any) -> list[str]:
    """What was changed while it was trained, and from which step on."""
    known = [one for one in changes if isinstance(one, dict)] if isinstance(changes, list) else []
    return [f"- changed on purpose: {one.get('what')} from step {one.get('step')} on, {one.get('now')}; before that "
            f"{one.get('was')}" for one in known]  # fmt: skip


ALWAYS = (
    "What it makes resembles its training data, their gaps, errors and prejudices included.",
    "Samples may be near to training items: `memorised` and the nearest items in report.html say how near.",
)
"""What to mind of every model."""


def metadata(run: Run, family: Family, codecs: Mapping[str, Codec]) -> dict[str, Any]:
    """What the hub reads at the top of a card: library, tags, the task, and the figures of the last measurement."""
    config, kind = run.config(), MODALITIES[codecs["x"].modality]
    facts: dict[str, Any] = {"library_name": "quintet", "tags": [family.name.replace("_", "-"), kind.name]}
    if licence := notes_of(run.path).licence:
        facts["license"] = licence
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


class Measured(NamedTuple):
    """What the last `quintet evaluate` found: figures by name with value and error, 0 where it has none."""

    split: str
    command: str
    date: str
    likelihood: Mapping[str, Any] | None
    figures: Sequence[tuple[str, float, float]]


def measured(run: Run) -> Measured | None:
    """The figures of the last `quintet evaluate`, from report.json; None if there was none."""
    measurement = measurement_of(run)
    if measurement is None:
        return None
    entry, report = measurement
    values = entry["metrics"]
    found = [(NAMES.get(key, key.replace("_", " ")), values[key], values.get(f"{key}_stderr") or 0.0)
             for key in CARD_FIGURES if values.get(key) is not None]  # fmt: skip
    return Measured(entry["split"], report["command"], report["date"], entry.get("likelihood"), found)


def figure_lines(measured: Measured) -> list[str]:
    """The figures as a list."""
    found = measured.likelihood
    lines = [f"- on the {measured.split} split ({measured.command}, {measured.date}):"]
    if found:
        lines.append(
            f"  - log-likelihood {found['nats']:.4g} ± {2 * found['stderr']:.2g} nats an item "
            f"({found['bits_per_dim']:.4g} bits a dimension), {KINDS[found['kind']]} ({found['space']})"
        )
    for name, value, error in measured.figures:
        lines.append(f"  - {name}: {value:.4g}" + (f" ± {2 * error:.2g}" if error else ""))
    lines.append(
        "  - these are figures of one training run: ± is the error of measurement, and another seed gives others; "
        "`quintet compare` with `--seeds 3` shows how far apart seeds are"
    )
    return lines


def live(last: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """The figures of training when the model had these weights, with what they mean."""
    words = {
        "quality": "energy distance between samples and validation items, 0 is best",
        "diversity": "how much samples differ, over how much validation items do; 1 is best",
        "held_out": "loss of validation items, a dimension",
    }
    return [(key, last[key], what) for key, what in words.items() if key in last]


def lacking(missing: Mapping[str, str]) -> dict[str, str]:
    """The verbs that a family cannot do, each with the reason; `missing`: what it lacks."""
    reasons = {verb: [missing[name] for name in names if name in missing] for verb, names in VERBS.items()}
    return {verb: found[0] for verb, found in reasons.items() if found}


def uses(run: Run, lacks: Mapping[str, str], codecs: Mapping[str, Codec], name: str) -> dict[str, str]:
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
