"""The verbs of a fitted model: sample, score, complete, reconstruct, interpolate, encode."""

from __future__ import annotations

from pathlib import Path

from quintet.cli.console import Answer, Context
from quintet.cli.verbs import asks
from quintet.operations.requests import (
    CompleteRequest,
    EncodeRequest,
    InterpolateRequest,
    ReconstructRequest,
    SampleRequest,
    ScoreRequest,
)


@asks(
    SampleRequest,
    "first -n 100 -o points.csv",
    "digits-gan-1 -n 64 --seed 7 -o grid.png     (or -o folder/, or .npz)",
    "digits-diffusion-1 --condition 3 --sampling.steps 20",
    'shakespeare --prompt "To be, or" --length 2000 --stream',
)
def sample(request: SampleRequest, context: Context) -> Answer:
    """Make new items. The suffix of -o decides the format; the file keeps a note of run, seed and settings.

    --length, --stop, --regex, --stream and --n-best are for texts of autoregressive models. --n-best writes a table
    with columns item, rank, log_prob (nats), score and text.
    """
    from quintet.operations.sampling import sample

    made = sample(request, context.on_event)
    return Answer(made.facts(), f"{made.n:,} {made.kind} items in {made.seconds:.2f} s: {made.output}")


@asks(
    ScoreRequest,
    "first --data moons",
    "digits-flow-1 --split validation -o scores.csv",
    "claims-flow-1 --data new.csv --rank",
)
def score(request: ScoreRequest, context: Context) -> Answer:
    """Say how likely each item of a source is: a CSV of index, nats, stderr and note, and what kind of figure that is.

    The index is an item's place in the source, from 0; of a file of lines it is the line, and blank lines have none.

    Each item has one row, and a column note says what was cut, replaced, unseen or scored in pieces.
    Of a classifier (--target COLUMN --condition text, image or audio) it is a CSV of index, the item's own label where
    the source has one, the predicted label, the probability of each, p_LABEL, which are 1 together, and nats.
    With --rank the least likely come first, each with p: the share of the run's held-out items that are at most as
    likely. Few usual items have a small p, so items with p <= 0.01 are worth a look.
    """
    from quintet.cli.figures import scored
    from quintet.operations.scoring import score

    found = score(request, context.on_event)
    return Answer(found.facts(), scored(found))


@asks(
    CompleteRequest,
    "adult-autoregressive-1 --data holes.csv -o filled.csv",
    "adult-autoregressive-1 --data people.csv --known age,sex --draws 5",
    "mnist-diffusion-1 --known top -n 16 -o halves.png",
    "shakespeare --data openings.txt -o continued.txt",
)
def complete(request: CompleteRequest, context: Context) -> Answer:
    """Fill holes: continue texts and recordings, inpaint images, impute empty cells.

    The holes are the empty cells and lacking columns of a table, what --known leaves out, each \u2588 of a text, and
    what comes behind a text or recording that is shorter than those of the training data.
    """
    from quintet.operations.completing import complete

    done = complete(request, context.on_event)
    items = f"{done.n // done.draws:,} {done.kind} items"
    text = f"{items} completed {done.draws} x in {done.seconds:.2f} s: {done.output}"
    if done.kept_pixels is not None:
        part = request.known or request.mask or "top"
        if Path(part).suffix:
            part = f"{'white' if request.mask is None else 'not marked'} in {part}"
        text += f"\nkept as they were: {done.kept_pixels:.0%} of the pixels, {part}; the others are new"
    return Answer(done.facts(), text)


@asks(ReconstructRequest, "digits-vae-1 -n 16 --beside -o pairs.png", "digits-flow-1 --data photos/")
def reconstruct(request: ReconstructRequest, context: Context) -> Answer:
    """Encode items and decode them again: what the latents keep."""
    from quintet.operations.latents import reconstruct

    done = reconstruct(request, context.on_event)
    error = f"mean absolute error {done.mean_absolute_error_encoded:.4g} (encoded)"
    return Answer(done.facts(), f"{done.items:,} {done.kind} items, {error}: {done.output}")


@asks(InterpolateRequest, "digits-vae-1 -n 4 --steps 10 -o paths.png", "digits-flow-1 --data two.npz --steps 16")
def interpolate(request: InterpolateRequest, context: Context) -> Answer:
    """Go from one item to the next through the latents, pair by pair."""
    from quintet.operations.latents import interpolate

    done = interpolate(request, context.on_event)
    return Answer(done.facts(), f"{done.pairs} paths of {done.steps} {done.kind} items: {done.output}")


@asks(EncodeRequest, "digits-vae-1 -o latents.csv", "digits-flow-1 --data photos/ -o latents.npz")
def encode(request: EncodeRequest, context: Context) -> Answer:
    """Write the latents of items: one row an item, columns z0, z1, ...

    Of a model of windows of long texts, one row a window, in order, with the place of its text in a column item; the
    last window of a text ends with it.
    """
    from quintet.operations.latents import encode

    done = encode(request, context.on_event)
    what, each = "windows" if done.windows else "items", " x ".join(map(str, done.shape))
    return Answer(done.facts(), f"latents of {done.n:,} {what}, {each} each: {done.output}")
