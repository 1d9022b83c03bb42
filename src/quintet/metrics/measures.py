"""The figures that a report shows: their names, which way is better, and what they mean."""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """A row of the table of figures. `better`: "low", "high", "half" (nearest to 0.5) or "" (no winner).

    `tolerance`: two values that differ by less than this part of the smaller tie, of what a clock or the machine
    measures; None of a figure that has an error of its own.
    """

    key: str
    name: str
    better: str
    note: str
    percent: bool = False
    tolerance: float | None = None


QUALITY = (
    Measure("accuracy", "Accuracy", "high", "Share of items whose likeliest label is their own.", True),
    Measure("log_loss", "Log-loss, nats an item", "low", "Minus the log-probability of an item's own label."),
    Measure(
        "calibration_error", "Calibration error", "low", "By how much probabilities miss the share that is right.", True
    ),
    Measure(
        "character_error_rate", "Character error rate", "low", "Edits a character of the text that is wanted.", True
    ),
    Measure("word_error_rate", "Word error rate", "low", "Edits a word of the text that is wanted.", True),
    Measure("exact_match", "Exact matches", "high", "Share of texts without any error.", True),
    Measure("bleu", "BLEU", "high", "0 to 100; its signature is in the settings of the measurement."),
    Measure("chrf", "chrF", "high", "0 to 100: characters in common."),
    Measure("auc", "Told from real data (AUC)", "half", "A classifier on raw values; 0.5: coin toss, 1: every time."),
    Measure("frechet", "Fréchet distance", "low", "Between Gaussians fitted to features; compare at equal sizes only."),
    Measure("kernel", "Kernel distance", "low", "Squared MMD of features, cubic kernel; 0 for equal distributions."),
    Measure("energy", "Energy distance", "low", "Between features; 0 for equal distributions."),
    Measure("gaussian", "Kernel distance, Gaussian", "low", "Squared MMD at the median distance of real items."),
    Measure("sliced", "Sliced Wasserstein distance", "low", "Squared, of features; compare at equal sizes only."),
    Measure("precision", "Precision", "high", "Share of samples that look like real data."),
    Measure("recall", "Recall", "high", "Share of real data that the samples could look like."),
    Measure("density", "Density", "", "How deep samples lie inside the real data; may exceed 1."),
    Measure("coverage", "Coverage", "high", "Share of the real data's neighbourhoods that have a sample in them."),
    Measure("column_shapes", "Column shapes", "high", "1 - Kolmogorov's distance or total variation, mean of columns."),
    Measure("pair_trends", "Pair trends", "high", "Of two columns: 1 - difference of correlations or contingencies."),
    Measure("ranges_kept", "Ranges kept", "high", "Rows within the ranges and categories of training.", True),
    Measure("rules_kept", "Rules kept", "high", "Rows that keep what every training row keeps.", True),
    Measure("efficacy", "Trained on samples, a column predicted", "high", "R2, AUC of two categories, or accuracy."),
    Measure("mel", "Distance of mel bands, dB", "low", "Energy distance of mean levels and how much they vary."),
    Measure("cepstral", "Distance of mel cepstra, dB", "low", "The same of the shape of the spectrum."),
    Measure("autocorrelation", "Distance of autocorrelations", "low", "Mean over lags, of mean autocorrelations."),
    Measure("spectrum", "Distance of spectra", "low", "Total variation of mean shares of power; 0 to 1."),
    Measure("predictive", "Trained on samples, the next step", "low", "Absolute error on real windows, in deviations."),
    Measure("crps", "Forecasts, CRPS", "low", "Of the last quarter of unseen windows, in deviations."),
    Measure("crps_covered", "Forecasts within 90 %", "", "True values between the 5 % and 95 % quantiles.", True),
    Measure("judge_bits", "Bits a character, by a judge", "", "An n-gram model of held-out text; as real is best."),
    Measure("ngram_divergence", "N-gram divergence", "low", "Jensen-Shannon, of three characters, in bits; 0 to 1."),
    Measure("ngram_entropy", "N-gram entropy", "", "Of three characters, in bits; near to real is best."),
    Measure("distinct", "Distinct pairs of words", "", "Over all pairs of words; near to real is best."),
    Measure("self_bleu", "Self-BLEU", "", "Of each text against the others; 1 if they all agree."),
    Measure("diversity", "Diversity", "", "Vendi score over that of as many real items; 1: as diverse."),
    Measure("conditional", "Made what was asked for", "high", "By a classifier trained on real items.", True),
    Measure("tstr", "Trained on samples, tested on real", "high", "Accuracy of a classifier that saw samples only."),
    Measure("memorised", "Copied from training data", "", "Samples unusually close to one training item.", True),
    Measure("memorised_duplicates", "Near duplicates", "", "Samples nearly equal to a training item.", True),
    Measure("nearer_to_training", "Nearer to training than to unseen items", "", "0.5: nothing was memorised."),
    Measure("membership_by_likelihood", "Membership found by likelihood (AUC)", "", "The same, by what is likely."),
    Measure("anomaly", "Anomalies told (AUC)", "high", "Real items likelier than halves that do not belong."),
    Measure("likelihood_gap", "Likelihoods, samples against unseen", "low", "Kolmogorov's distance; exact kinds."),
    Measure("membership_by_samples", "Membership found by samples (AUC)", "", "Training items from unseen; 0.5: no."),
)
NATS = Measure("nats", "Log-likelihood, nats an item", "high", "Of unseen items; higher is better.")
PER_CHARACTER = Measure(
    "nats_per_character", "Log-likelihood, nats a character", "high", "Of windows that differ in length."
)
LIKELIHOOD = (
    NATS,
    PER_CHARACTER,
    Measure("bits_per_dim", "Bits per dimension", "low", "The same, as a code length; lower is better."),
)
COST = (
    Measure("parameters", "Parameters", "low", "", tolerance=0.0),
    Measure("train_seconds", "Training, seconds", "", ""),
    Measure("steps", "Training steps", "", ""),
    Measure("ms_per_sample", "Sampling, ms a sample", "low", "Within 10% is a tie.", tolerance=0.1),
    Measure("peak_mb", "Peak memory, MB", "low", "Within 10% is a tie.", tolerance=0.1),
    Measure(
        "joules", "Energy of training, J", "low", "Of all processors of the machine, whoever used them.", tolerance=0.1
    ),
)
MEASURES = {measure.key: measure for measure in (*QUALITY, *LIKELIHOOD, *COST)}
"""Every one of them by its key, as results name it."""
