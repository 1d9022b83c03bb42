"""What runs, files and this machine are, in words. None of it needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from quintet.cli.console import columns, number
from quintet.operations.inspecting import ExportedResult, FileResult, Input, RunResult, RunsResult, VerifiedResult

if TYPE_CHECKING:
    from quintet.operations.checking import DoctorResult


def inspected(found: RunResult | FileResult | ExportedResult | VerifiedResult) -> str:
    """A run, a file or an export, or that a run is as it was written."""
    match found:
        case ExportedResult():
            return of_export(found)
        case FileResult():
            return yaml.safe_dump(found.provenance, sort_keys=False, allow_unicode=True)
        case VerifiedResult():
            by = f"; it is being written by {found.written_by}" if found.written_by else ""
            return f"{found.name}: {', '.join(found.verified) or 'no checkpoint yet'}: all good{by}"
    return of_run(found)


RUN_BY = {"onnx": "onnxruntime", "torch": "torch"}
"""What runs the files of an export."""


def of_export(found: ExportedResult) -> str:
    """Which model was exported, what its files take and give, and what runs them."""

    def told(one: Input) -> str:
        noise = f", {one.noise} noise" if one.noise else ""
        return f"{one.name} ({' x '.join(map(str, one.shape))}, {one.dtype}{noise})"

    rows = [("export", f"{found.folder}, run by {RUN_BY.get(found.format, found.format)}")]
    rows += [(key, str(value)) for key, value in found.provenance.items()]
    for about in found.parts.values():
        rows.append((about.file, f"{', '.join(map(told, about.inputs))} -> {', '.join(about.outputs)}"))
    return f"{columns(rows)}\n\nexport.json has the state of the codecs and of the sampler; examples/export has scripts"


def of_run(found: RunResult) -> str:
    """What a run models and how, how far it got, its newest figures and what they advise."""
    config, given = found.config, f" given {found.condition}" if found.condition else ""
    state = "finished" if found.finished else f"quintet resume {found.address} goes on from step {found.step:,}"
    sizes = (f"{one['name']} ({one['bytes'] / 2**20:.1f} MB)" for one in found.checkpoints)
    rows = [
        ("run", found.run),
        ("model", f"{found.family} of {found.source}{given}, preset {config['preset']}, seed {config['seed']}"),
        ("steps", f"{found.step:,} of {number(found.steps)} ({state}), {found.seconds:.0f} s"),
        *([("weights", f"those of step {found.weights:,}, as are the figures below")] * (found.weights < found.step)),
        *_about(found.facts()),
        ("losses", ", ".join(f"{key} {number(value)}" for key, value in found.losses.items()) or "-"),
        ("unseen", f"{number(found.held_out)} (the loss on validation items)"),
        ("quality", f"{number(found.quality)} (energy distance to validation items, lower is better)"),
        *(tuple(one.values()) for one in found.advice),
        ("checkpoints", ", ".join(sizes) or "none yet"),
    ]
    sections = {name: config[name] for name in ("model", "sampling", "training")}
    settings = yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=100)
    return f"{columns(rows)}\n\n{settings}"


def _about(model: Any) -> list[tuple[str, str]]:
    """What a manifest says of its model, as rows."""
    match model:
        case {"parameters": int(count), "likelihood": "none", "missing": {**missing}}:
            return [("parameters", f"{count:,}"), ("likelihood", f"none: {missing.get('log_prob', '')}")]
        case {"parameters": int(count), "likelihood": str(kind), "measure": str(measure)}:
            return [("parameters", f"{count:,}"), ("likelihood", f"{kind} ({measure})")]
    return []


def listed(found: RunsResult) -> str:
    """A line a run."""
    rows = []
    for entry in found.runs:
        if entry.get("error"):
            rows.append((entry["name"], "unreadable:", entry["error"], "", "", ""))
            continue
        steps = f"{entry['step']:,}/{number(entry['steps'])}"
        figures = (number(entry["loss"]), number(entry["quality"]))
        rows.append((entry["name"], entry["family"], entry["source"], steps, *figures))
    header = ("run", "family", "data", "steps", "loss", "quality")
    return columns(rows, header) if rows else f"no runs in {found.root}; quintet train flow --data moons makes one"


def diagnosed(found: DoctorResult) -> str:
    """This machine and installation, and their problems."""
    bf16 = "in hardware" if found.bf16 else "not in hardware"
    there = "" if found.data_root_exists else " (not there; only the built-in sources work)"
    rows = [
        ("versions", ", ".join(f"{name} {which}" for name, which in found.versions.items())),
        ("system", found.system),
        ("processor", f"{found.cores} cores, {found.threads} threads, bf16 {bf16}"),
        ("device", found.device),
        ("runs", f"{found.runs} ({found.disk_free / 2**30:.1f} GB free)"),
        ("named data", f"{found.data_root}{there}"),
    ]
    for name, packages in found.extras.items():
        state = f"missing {', '.join(packages)}: pip install 'quintet[{name}]'" if packages else "installed"
        rows.append((f"extra {name}", f"for {found.purposes[name]}: {state}"))
    verdict = "\n".join(f"problem: {problem}" for problem in found.problems) or "all good"
    return f"{columns(rows)}\n{verdict}"
