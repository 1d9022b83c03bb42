"""The verbs of a fitted model: sample, score, complete, reconstruct, interpolate, encode."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from quintet.cli import options
from quintet.cli.console import Answer
from quintet.cli.verbs import EVERYWHERE, Everywhere, Given, Output, RunName, verb
from quintet.core.errors import DataError, Unsupported, UsageError

if TYPE_CHECKING:
    from quintet.core.codec import Codec
    from quintet.model.fitted import Fitted
    from quintet.model.inputs import Found
    from quintet.runs.folder import Run

Data = Annotated[str | None, Parameter(help="a source or file of such items [the run's own test split]")]
Count = Annotated[
    int | None, Parameter(name=["-n", "--n"], help="so many of them, drawn at random [all of a file, else 8]")
]
Condition = Annotated[str | None, Parameter(help="one value for all [the items' own, or drawn from the training data]")]
Seed = Annotated[int, Parameter(help="item i depends on the seed and i alone [0]")]


def _open(run: str, everywhere: Everywhere, operation: str) -> Run:
    """The run, or the family's refusal: before anything is loaded."""
    from quintet.registry import family_class
    from quintet.runs.folder import Run

    folder = Run.open(run, everywhere.runs)
    family = family_class(folder.config().family)
    if operation in family.missing:
        have = "quintet train another family"
        raise Unsupported(
            f"{family.name} has no {operation}", where=folder.name, why=family.missing[operation], fix=have
        )
    return folder


def _codecs(folder: Run) -> dict[str, Codec]:
    from quintet.runs.restoring import codecs_of

    return codecs_of(folder)


def _forms(folder: Run) -> dict[str, Any]:
    """In which the columns of the run's own data are written, so that other files are read alike."""
    return {name: form for codec in _codecs(folder).values() for name, form in getattr(codec, "forms", {}).items()}


def _as_brought(out: Any, items: Any, raw: Any, draws: int, path: str) -> Any:
    """Completed rows with the given cells as the file has them, and the number of row and draw if there are several."""
    from quintet.data import written
    from quintet.model.inputs import chain, numbered

    if raw is not None and path.lower().endswith(".csv"):
        out = written.kept(out, chain([items] * draws), chain([raw] * draws))
    return numbered(out, len(items)) if draws > 1 else out


def _path(folder: Run, output: str | None, stem: str) -> tuple[str, str]:
    """(where the items go, what they are); a format that does not fit is an error before the work is done."""
    from quintet.registry import MODALITIES

    modality = MODALITIES[_codecs(folder)["x"].modality]
    path = output or f"{folder.name}-{stem}{modality.suffix}"
    modality.check_output(path)
    return path, modality.name


def _given(model: Fitted, condition: str | None, found: Found) -> Any:
    """The condition that was typed, or the items' own."""
    from quintet.cli.conditions import one

    return found.given if condition is None else one(model, condition)


def _write(model: Fitted, path: str, items: Any, /, **facts: Any) -> dict[str, Any]:
    """Write items with their provenance; what every such verb answers."""
    from quintet.cli.describe import provenance
    from quintet.registry import modality_of

    note = provenance(model.run, **facts)
    files = modality_of(items).write(path, items, note, codec=model.codecs["x"], scale=model.config.data.scale)
    return {"run": str(model.run.path), "n": len(items), "output": path, "files": files, "provenance": note}


def beside(model: Fitted, items: Any, values: Any, seed: int, path: str) -> Any:
    """The samples with the columns of what they were given, where the format has columns: tables, and .jsonl of texts.

    `values` are those that were asked for; without them, those that `Fitted.draw` draws for this seed.
    """
    import pyarrow as pa

    from quintet.modalities.table.codec import TableCodec

    codec = model.codecs.get("cond")
    table, lines = isinstance(items, pa.Table), path.endswith(".jsonl") and isinstance(items, list)
    if not isinstance(codec, TableCodec) or not (table or lines):
        return items
    drawn = model.condition(values, len(items), seed)
    assert drawn is not None
    given = codec.decode(drawn)
    shown = items if table else pa.table({"text": pa.array(items, pa.string())})
    for name in given.column_names:
        shown = shown.append_column(name if name not in shown.column_names else f"given_{name}", given[name])
    return shown


@verb(
    "first -n 100 -o points.csv",
    "digits-gan-1 -n 64 --seed 7 -o grid.png     (or -o folder/, or .npz)",
    "digits-diffusion-1 --condition 3 --sampling.steps 20",
    'shakespeare --prompt "To be, or" --length 2000 --stream',
    sections=("sampling",),
)
def sample(
    run: RunName,
    /,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--n"], help="how many [64, or one a line of --conditions]")] = None,
    seed: Seed = 0,
    condition: Condition = None,
    conditions: Annotated[Path | None, Parameter(help="a file with one value a line, or of such items")] = None,
    prompt: Annotated[str | None, Parameter(help="text that the samples begin with")] = None,
    length: Annotated[int | None, Parameter(help="symbols at most behind the prompt [the rest of a window]")] = None,
    stop: Annotated[
        list[str] | None, Parameter(help="a text ends before this, in which \\n is a line end; may be repeated")
    ] = None,
    regex: Annotated[str | None, Parameter(help="a regular expression that the new text matches")] = None,
    stream: Annotated[bool, Parameter(help="show each text as it is made [-n 1]")] = False,
    n_best: Annotated[int | None, Parameter(help="the so many likeliest texts of each condition, with scores")] = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Make new items. The suffix of -o decides the format; the file keeps a note of run, seed and settings.

    --length, --stop, --regex, --stream and --n-best are for texts of autoregressive models. --n-best writes a table
    with columns item, rank, log_prob (nats), score and text.
    """
    from quintet.cli import wording
    from quintet.cli.conditions import read_conditions
    from quintet.fit import api

    assert context is not None
    folder = _open(run, everywhere, "sample" if prompt is None else "complete")
    settings = context.sections.get("sampling", {})
    options.check_fields({"sampling": settings}, folder.config().family)
    asked = wording.Asked(
        prompt, length, tuple(map(wording.unescaped, stop or ())), regex, stream, n_best, settings, seed
    )
    if n_best is None:
        path, kind = _path(folder, output, f"seed{seed}")
    else:
        path, kind = asked.table(folder, output), _codecs(folder)["x"].modality
    if prompt is not None and kind != "text":
        raise UsageError(f"--prompt is for text, not for {kind}", fix="quintet complete RUN --data FILE")
    model = api.load(run, runs=everywhere.runs)
    n = 1 if n is None and asked.one and conditions is None else n
    values, n = read_conditions(model, condition, conditions, n)
    began = time.perf_counter()
    items = asked.items(model, values, n, everywhere.json)
    spent = time.perf_counter() - began
    if n_best is None:
        items = beside(model, items, values, seed, path)
    given = None if values is None else condition if condition is not None else [str(value) for value in values]
    facts = {"seed": seed, "n": n, "condition": given, "sampling": model.sampling(settings).model_dump(mode="json")}
    data = _write(model, path, items, **facts, **asked.facts())
    data |= {"n": n, "seed": seed, "kind": kind, "seconds": spent, "ms_per_sample": 1000 * spent / n}
    return Answer(data, f"{n:,} {kind} items in {spent:.2f} s: {path}")


@verb("first --data moons", "digits-flow-1 --split validation -o scores.csv", "claims-flow-1 --data new.csv --rank")
def score(
    run: RunName,
    /,
    *,
    data: Annotated[str | None, Parameter(help="a source of the run's kind of items [the run's own]")] = None,
    split: Annotated[str | None, Parameter(help="train, validation, test or all [test; all of a file]")] = None,
    rank: Annotated[bool, Parameter(help="least likely first, with the share p of usual items below")] = False,
    condition: Condition = None,
    output: Output = None,
    seed: Annotated[int, Parameter(help="of the noise in bounds and estimates [0]")] = 0,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Say how likely each item of a source is: a CSV of index, nats, stderr and note, and what kind of figure that is.

    The index is an item's place in the source, from 0; of a file of lines it is the line, and blank lines have none.

    Each item has one row, and a column note says what was cut, replaced, unseen or scored in pieces.
    Of a classifier (--target COLUMN --condition text, image or audio) it is a CSV of index, the item's own label where
    the source has one, the predicted label, the probability of each, p_LABEL, which are 1 together, and nats.
    With --rank the least likely come first, each with p: the share of the run's held-out items that are at most as
    likely. Few usual items have a small p, so items with p <= 0.01 are worth a look.
    """
    import numpy as np
    import pyarrow as pa

    from quintet.cli.describe import provenance
    from quintet.cli.figures import labels_line, likelihood_line
    from quintet.evaluation.tasks import classified
    from quintet.fit import api
    from quintet.model.fitted import ENOUGH
    from quintet.model.inputs import read_items
    from quintet.registry import RESULTS

    folder = _open(run, everywhere, "log_prob")
    config = folder.config()
    found = read_items(config, data, split, unlabelled=not rank, codecs=(codecs := _codecs(folder)),
                       like=codecs, forms=_forms(folder))  # fmt: skip
    path = output or f"{folder.name}-{found.split}-scores.csv"
    RESULTS.check_output(path)
    model = api.load(run, runs=everywhere.runs)
    labels = model.labels is not None and "cond" in model.codecs
    if found.items is None and not labels:
        raise DataError(f"no column {config.data.target}", where=str(data), why="it is what this run models")
    given = _given(model, condition, found)
    note = provenance(model.run, seed=seed, scored=data or config.data.source, split=found.split)
    facts: dict[str, Any] = {"run": str(folder.path), "data": data or config.data.source, "split": found.split}
    if rank:
        usual_items, usual_given = None, None  # of windows of a long text, the model's own
        if not model.codecs["x"].stream:
            usual_items, usual_given = model.held_out(test=data is not None or found.split not in ("test", "all"))
        table = model.rank(found.items, reference=usual_items, condition=given, given=usual_given, seed=seed)
        usual = int(table.schema.metadata[b"reference"])
        least = max(0.01, 1 / (usual + 1))
        few = int((table["p"].to_numpy() <= least).sum())
        summary = {"items": table.num_rows, "reference": usual, "least_p": 1 / (usual + 1)}
        if usual >= ENOUGH:
            summary["p_at_most_0.01"] = few
            text = f"{few:,} of {table.num_rows:,} items are less likely than 99 % of usual ones: {path}"
        else:
            chance = f"which any usual item is 1 time in {usual + 1:,}; more cannot be said with so few"
            head = f"{few:,} of {table.num_rows:,} items are less likely than all of {usual:,} usual ones"
            text = f"{head}, {chance}: {path}"
        facts["anomalies"] = summary
    elif labels and not isinstance(condition, str):
        table, summary = classified(model, found)
        facts |= summary
        text = f"{labels_line(summary)}: {path}"
        if "likelihood" in summary:
            text = f"{likelihood_line(summary['likelihood'])}\n{text}"
    else:
        result = model.log_prob(found.items, condition=given, seed=seed)
        count = len(result.values)
        nats, errors = (
            pa.nulls(count, pa.float64()) if each is None else pa.array(each.double().numpy(), from_pandas=True)
            for each in (result.values, result.stderr)
        )
        table = pa.table({"index": np.arange(count), "nats": nats, "stderr": errors})
        if result.notes is not None:
            table = table.append_column("note", pa.array(result.notes))
        note |= {"kind": result.kind, "space": result.space}
        facts["likelihood"] = result.summary()
        none = facts["likelihood"].get("without", 0)
        without = f", {none:,} of them without a likelihood (column note)" if none else ""
        text = f"{likelihood_line(facts['likelihood'])}\n{count:,} items{without}: {path}"
    if found.places is not None:
        table = table.set_column(0, "index", pa.array(found.places[table["index"].to_numpy()]))
    return Answer({**facts, "output": path, "files": RESULTS.write(path, table, note)}, text)


@verb(
    "adult-autoregressive-1 --data holes.csv -o filled.csv",
    "adult-autoregressive-1 --data people.csv --known age,sex --draws 5",
    "mnist-diffusion-1 --known top -n 16 -o halves.png",
    "shakespeare --data openings.txt -o continued.txt",
    sections=("sampling",),
)
def complete(
    run: RunName,
    /,
    *,
    data: Data = None,
    known: Annotated[
        str | None,
        Parameter(
            help="images: top, bottom, left, right or a mask (PNG, white is known); tables: columns; audio: seconds"
        ),
    ] = None,
    mask: Annotated[str | None, Parameter(help="images: a mask in the sense of other tools: white is the hole")] = None,
    draws: Annotated[int, Parameter(help="different completions of each item [1]")] = 1,
    n: Annotated[
        int | None, Parameter(name=["-n", "--n"], help="so many of them, drawn at random [all of a file, else 8]")
    ] = None,
    seed: Seed = 0,
    condition: Condition = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Fill holes: continue texts and recordings, inpaint images, impute empty cells.

    The holes are the empty cells and lacking columns of a table, what --known leaves out, each \u2588 of a text, and
    what comes behind a text or recording that is shorter than those of the training data.
    """
    from quintet.fit import api
    from quintet.model.inputs import read_items
    from quintet.registry import MODALITIES

    assert context is not None
    folder = _open(run, everywhere, "complete")
    settings = context.sections.get("sampling", {})
    config = folder.config()
    options.check_fields({"sampling": settings}, config.family)
    path, kind = _path(folder, output, f"completed-seed{seed}")
    if draws < 1:
        raise UsageError(f"--draws {draws}: at least 1")
    found = read_items(config, data, None, like=_codecs(folder), forms=_forms(folder)).some(n if n or data else 8)
    model = api.load(run, runs=everywhere.runs)
    items, raw_mask = MODALITIES[kind].known(found.items, known, hole=mask, fit=config.data.fit)
    given = _given(model, condition, found)
    began = time.perf_counter()
    out = model.complete(items, known=raw_mask, condition=given, draws=draws, seed=seed, sampling=settings)
    spent = time.perf_counter() - began
    out = MODALITIES[kind].several(out) if draws > 1 else out
    if kind == "table":
        out = _as_brought(out, items, found.written, draws, path)
    answer = _write(model, path, out, seed=seed, draws=draws, known=known,
                    data=data or config.data.source, **found.facts(),
                    sampling=model.sampling(settings).model_dump(mode="json"))  # fmt: skip
    answer |= {"kind": kind, "draws": draws, "seconds": spent}
    text = f"{len(items):,} {kind} items completed {draws} x in {spent:.2f} s: {path}"
    if raw_mask is not None:
        part = known or mask or "top"
        if Path(part).suffix:
            part = f"{'white' if mask is None else 'not marked'} in {part}"
        answer |= {"mask": mask, "kept_pixels": float(raw_mask.mean())}
        text += f"\nkept as they were: {raw_mask.mean():.0%} of the pixels, {part}; the others are new"
    return Answer(answer, text)


@verb("digits-vae-1 -n 16 --beside -o pairs.png", "digits-flow-1 --data photos/")
def reconstruct(
    run: RunName,
    /,
    *,
    data: Data = None,
    n: Count = None,
    beside: Annotated[bool, Parameter(help="each original before its reconstruction")] = False,
    condition: Condition = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Encode items and decode them again: what the latents keep."""
    from quintet.fit import api
    from quintet.model.inputs import chain, read_items

    folder = _open(run, everywhere, "encode")
    path, kind = _path(folder, output, "reconstructed")
    found = read_items(folder.config(), data, None, like=_codecs(folder), forms=_forms(folder)).some(
        n or (None if data else 8)
    )
    model = api.load(run, runs=everywhere.runs)
    given = _given(model, condition, found)
    items = model.reconstruct(found.items, condition=given)
    codec = model.codecs["x"]
    before, after = codec.encode(found.items).double(), codec.encode(items).double()
    rows = min(len(before), len(after))  # byte pairs of a long text may be fewer or more than they were
    error = float((before[:rows] - after[:rows]).abs().mean())
    shown = chain([found.items, items], interleave=True) if beside else items
    answer = _write(model, path, shown, data=data or model.config.data.source, beside=beside, **found.facts())
    answer |= {"kind": kind, "mean_absolute_error_encoded": error}
    return Answer(answer, f"{len(items):,} {kind} items, mean absolute error {error:.4g} (encoded): {path}")


@verb("digits-vae-1 -n 4 --steps 10 -o paths.png", "digits-flow-1 --data two.npz --steps 16")
def interpolate(
    run: RunName,
    /,
    *,
    data: Data = None,
    n: Annotated[
        int,
        Parameter(name=["-n", "--n"], help="pairs, of items drawn at random: 0 and 1, 2 and 3, ... [4]"),
    ] = 4,
    steps: Annotated[int, Parameter(help="items on each path, both ends included [8]")] = 8,
    condition: Condition = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Go from one item to the next through the latents, pair by pair."""
    import numpy as np

    from quintet.cli.conditions import one
    from quintet.fit import api
    from quintet.model.inputs import chain, read_items
    from quintet.sources.load import take

    folder = _open(run, everywhere, "encode")
    path, kind = _path(folder, output, "interpolated")
    found = read_items(folder.config(), data, None, like=_codecs(folder), forms=_forms(folder)).some(2 * n)
    pairs = len(found.items) // 2
    if not pairs:
        raise UsageError("two items are needed to go from one to the other", where=str(data))
    model = api.load(run, runs=everywhere.runs)
    if "cond" in model.codecs and condition is None:
        raise UsageError("both ends of a path need one condition", where=folder.name, fix="--condition VALUE")
    given = None if condition is None else one(model, condition)
    first, last = (take(found.items, np.arange(start, 2 * pairs, 2)) for start in (0, 1))
    paths = model.interpolate(first, last, steps=steps, condition=given)
    answer = _write(model, path, chain(paths), data=data or model.config.data.source, steps=steps, condition=condition,
                    **found.facts())  # fmt: skip
    answer |= {"kind": kind, "pairs": pairs, "steps": steps}
    return Answer(answer, f"{pairs} paths of {steps} {kind} items: {path}")


@verb("digits-vae-1 -o latents.csv", "digits-flow-1 --data photos/ -o latents.npz")
def encode(
    run: RunName,
    /,
    *,
    data: Data = None,
    split: Annotated[str | None, Parameter(help="train, validation, test or all [test; all of a file]")] = None,
    condition: Condition = None,
    output: Output = None,
    everywhere: Everywhere = EVERYWHERE,
    context: Given = None,
) -> Answer:
    """Write the latents of items: one row an item, columns z0, z1, ...

    Of a model of windows of long texts, one row a window, in order, with the place of its text in a column item; the
    last window of a text ends with it.
    """
    import pyarrow as pa

    from quintet.cli.describe import provenance
    from quintet.fit import api
    from quintet.model.inputs import read_items
    from quintet.registry import RESULTS

    folder = _open(run, everywhere, "encode")
    path = output or f"{folder.name}-latents.csv"
    RESULTS.check_output(path)
    found = read_items(folder.config(), data, split, like=_codecs(folder), forms=_forms(folder))
    model = api.load(run, runs=everywhere.runs)
    given = _given(model, condition, found)
    windows: dict[str, Any] = {}
    if model.codecs["x"].stream:
        z, owner = model.encode_windows(found.items, condition=given)
        windows["item"] = owner.numpy() if found.places is None else found.places[owner.numpy()]
    else:
        z = model.encode(found.items, condition=given)
    flat = z.flatten(1).double().numpy()
    table = pa.table(windows | {f"z{i}": flat[:, i] for i in range(flat.shape[1])})
    note = provenance(model.run, data=data or folder.config().data.source, split=found.split, shape=list(z.shape[1:]))
    files = RESULTS.write(path, table, note)
    data_out = {"run": str(folder.path), "n": len(z), "shape": list(z.shape[1:]), "output": path, "files": files}
    what = "windows" if windows else "items"
    return Answer(data_out, f"latents of {len(z):,} {what}, {' x '.join(map(str, z.shape[1:]))} each: {path}")
