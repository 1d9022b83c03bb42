"""The figures that a report shows: their names, which way is better, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Measure(NamedTuple):
    """A row of the table of figures. `better`: "low", "high", "half" (nearest to 0.5) or "" (no winner).

    `tolerance`: two values that differ by less than this part of the smaller tie, of what a clock or the machine
    measures; None of a figure that has an error of its own. `reference`: the figure that real data have in its place.
    `right`: of answers that are right or wrong it decides which model to keep, said like this. `decides`: between
    models whose samples are told from real data equally well it does, for this. `completes`: it says who completes best
    what is known in part, said like this. `naive`: the figure that is this one less that of a rule which learns
    nothing, and the rule in words.
    """

    key: str
    name: str
    better: str
    note: str
    percent: bool = False
    tolerance: float | None = None
    reference: str = ""
    right: str = ""
    decides: str = ""
    completes: str = ""
    naive: tuple[str, str] | None = None


ACCURACY = Measure(
    "accuracy", "Accuracy", "high", "Share of items whose likeliest label is their own.", True,
    right="It names the right label of {} of unseen items.",
)  # fmt: skip
AUC = Measure("auc", "Told from real data (AUC)", "half", "A classifier on raw values; 0.5: coin toss, 1: every time.")
ENERGY = Measure(
    "energy", "Energy distance", "low", "Between features; 0 for equal distributions.",
    decides="a smaller energy distance to the real data",
)  # fmt: skip
COVERAGE = Measure(
    "coverage", "Coverage", "high", "Share of the real data's neighbourhoods that have a sample in them.",
    decides="covering more of the real data",
)  # fmt: skip
MEMORISED = Measure("memorised", "Copied from training data", "", "Samples unusually close to one training item.", True)
ANOMALY = Measure("anomaly", "Anomalies told (AUC)", "high", "Real items likelier than halves that do not belong.")
FIRST = (
    ACCURACY,
    Measure("log_loss", "Log-loss, nats an item", "low", "Minus the log-probability of an item's own label."),
    Measure(
        "calibration_error", "Calibration error", "low", "By how much probabilities miss the share that is right.", True
    ),
    AUC,
    Measure("frechet", "Fréchet distance", "low", "Between Gaussians fitted to features; compare at equal sizes only."),
    Measure("kernel", "Kernel distance", "low", "Squared MMD of features, cubic kernel; 0 for equal distributions."),
    ENERGY,
    Measure("gaussian", "Kernel distance, Gaussian", "low", "Squared MMD at the median distance of real items."),
    Measure("sliced", "Sliced Wasserstein distance", "low", "Squared, of features; compare at equal sizes only."),
    Measure("precision", "Precision", "high", "Share of samples that look like real data."),
    Measure("recall", "Recall", "high", "Share of real data that the samples could look like."),
    Measure("density", "Density", "", "How deep samples lie inside the real data; may exceed 1."),
    COVERAGE,
)
"""Of labels, and of samples of any kind. In a report those special to a kind of data follow: `Modality.measures`."""
LAST = (
    Measure("diversity", "Diversity", "", "Vendi score over that of as many real items; 1: as diverse."),
    Measure("conditional", "Made what was asked for", "high", "By a classifier trained on real items.", True),
    Measure("tstr", "Trained on samples, tested on real", "high", "Accuracy of a classifier that saw samples only.",
            reference="trtr"),
    MEMORISED,
    Measure("memorised_duplicates", "Near duplicates", "", "Samples nearly equal to a training item.", True),
    Measure("nearer_to_training", "Nearer to training than to unseen items", "", "0.5: nothing was memorised."),
    Measure("membership_by_likelihood", "Membership found by likelihood (AUC)", "", "The same, by what is likely."),
    ANOMALY,
    Measure("likelihood_gap", "Likelihoods, samples against unseen", "low", "Kolmogorov's distance; exact kinds."),
    Measure("membership_by_samples", "Membership found by samples (AUC)", "", "Training items from unseen; 0.5: no."),
)  # fmt: skip
NATS = Measure("nats", "Log-likelihood, nats an item", "high", "Of unseen items; higher is better.")
PER_CHARACTER = Measure(
    "nats_per_character", "Log-likelihood, nats a character", "high", "Of windows that differ in length."
)
LIKELIHOOD = (
    NATS,
    PER_CHARACTER,
    Measure("bits_per_dim", "Bits per dimension", "low", "The same, as a code length; lower is better."),
)
SPEED = Measure("ms_per_sample", "Sampling, ms a sample", "low", "Within 10% is a tie.", tolerance=0.1)
TRAIN_SECONDS = Measure("train_seconds", "Training, seconds", "", "")
COST = (
    Measure("parameters", "Parameters", "low", "", tolerance=0.0),
    TRAIN_SECONDS,
    Measure("steps", "Training steps", "", ""),
    SPEED,
    Measure("peak_mb", "Peak memory, MB", "low", "Within 10% is a tie.", tolerance=0.1),
    Measure(
        "joules", "Energy of training, J", "low", "Of all processors of the machine, whoever used them.", tolerance=0.1
    ),
)


class Figures(NamedTuple):
    """What is measured of samples of one kind of data alone: `values`, each with `NAME_stderr` where it has an error,
    and `notes`, of what they are, in words, that a report shows.
    """

    values: dict[str, float]
    notes: dict[str, str]


class Marks(NamedTuple):
    """How right items are: `figures`, each with `NAME_stderr` where it has an error, and the values of single items, by
    which models are compared; `places` says which items these are, where they are not all.
    """

    figures: dict[str, Any]
    by_item: dict[str, list[float]]
    places: Sequence[int] = ()
