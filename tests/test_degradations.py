"""Each figure moves the right way, level by level, as real items are made worse, and stays for other real items.

Level 0 are unseen real items in the place of samples, 1 to 5 the same ones with a planted fault. A figure may go back
by twice its standard error at most, and must end beyond three of where it began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_breast_cancer, load_digits

from quintet.metrics import classifiers, memorisation
from quintet.metrics import distances as metrics
from quintet.metrics.estimates import Estimate
from quintet.metrics.features import fit_features
from quintet.modalities.audio import figures as sounds
from quintet.modalities.audio.recordings import Recordings
from quintet.modalities.table import figures as tables
from quintet.modalities.text import figures as corpora
from quintet.sources.load import load_source

Found = Mapping[str, Estimate]
LEVELS = range(6)


def moves(measure: Callable[[Any], Found], degrade: Callable[[int], Any], up: str = "", down: str = "") -> None:
    """`up` and `down`: names of figures."""
    found = [measure(degrade(level)) for level in LEVELS]
    for name in (up + " " + down).split():
        sign = 1 if name in up.split() else -1
        values = [sign * each[name].value for each in found]
        errors = [each[name].stderr for each in found]
        for level in LEVELS[1:]:
            slack = 2 * math.hypot(errors[level], errors[level - 1])
            assert values[level] >= values[level - 1] - slack, f"{name} at level {level}: {values}"
        assert values[-1] > values[0] + 3 * math.hypot(errors[0], errors[-1]), f"{name}: {values} +- {errors}"


def stays(measure: Callable[[Any], Found], one: Any, other: Any, ideal: Mapping[str, float]) -> None:
    """Two sets of real items agree within their intervals (99.7 %), and with the ideal value where there is one."""
    a, b = measure(one), measure(other)
    for name in a:
        slack = 3 * math.hypot(a[name].stderr, b[name].stderr)
        assert abs(a[name].value - b[name].value) <= slack, f"{name}: {a[name]}, {b[name]}"
        if name in ideal:
            assert abs(a[name].value - ideal[name]) <= 3 * a[name].stderr, f"{name}: {a[name]}"


# -- images ----------------------------------------------------------------------------------------------------------

X, Y = load_digits(return_X_y=True)
ORDER = np.random.default_rng(1).permutation(len(X))
X, Y = (X[ORDER] / 8 - 1).reshape(-1, 1, 8, 8), Y[ORDER]
TRAIN, TEST, POOL, N = slice(0, 600), slice(600, 900), slice(900, None), 300
SPACE = fit_features(X[TRAIN], "flattened")
NOISE = np.random.default_rng(2).normal(size=X[POOL].shape)


def distances(fake: np.ndarray) -> Found:
    a, b = SPACE(X[TEST]), SPACE(fake[:N])
    return {
        **metrics.prdc(a, b),
        "frechet": metrics.frechet_distance(a, b),
        "kernel": metrics.kernel_distance(a, b),
        "energy": metrics.energy_distance(a, b),
        "gaussian": metrics.gaussian_distance(a, b),
        "sliced": metrics.sliced_distance(a, b),
        "diversity": metrics.diversity(a, b),
    }


def learnt(fake: np.ndarray, asked: np.ndarray = Y[POOL]) -> Found:
    train, test, made = SPACE(X[TRAIN]), SPACE(X[TEST]), SPACE(fake[:N])
    found = classifiers.conditional_accuracy(train, Y[TRAIN], test, Y[TEST], made, asked[:N])
    return {
        "conditional": found["conditional"],
        "tstr": classifiers.train_synthetic_test_real(fake[:250], asked[:250], X[TEST], Y[TEST]),
        "auc": classifiers.classifier_two_sample(X[TEST][:150], fake[:150]),
    }


def copies(fake: np.ndarray) -> Found:
    train, held, made = SPACE(X[TRAIN]), SPACE(X[TEST]), SPACE(fake[:N])
    found = memorisation.memorised_share(train, held, made)
    return {
        "memorised": Estimate(found["share"], found["stderr"]),
        "duplicates": Estimate(found["duplicates"], found["duplicates_stderr"]),
        "nearer": memorisation.nearer_to_training(train, held, made),
        "membership": memorisation.membership_by_samples(train, held, made),
    }


def noisy(level: int) -> np.ndarray:
    return X[POOL] + 0.25 * level * NOISE


def blurred(level: int) -> np.ndarray:
    return gaussian_filter(X[POOL], (0, 0, 0.3 * level, 0.3 * level))


def fewer_modes(level: int) -> np.ndarray:
    """Digits below ten less twice the level; fewer of them are left than were."""
    return X[POOL][Y[POOL] < max(1, 10 - 2 * level)]


def copied(level: int) -> np.ndarray:
    """A part of training items, ever more often."""
    made = X[POOL][:N].copy()
    count = 40 * level
    made[:count] = X[TRAIN][np.random.default_rng(0).integers(0, 300, count)]
    return made


def test_noise() -> None:
    moves(distances, noisy, "frechet kernel energy gaussian sliced", "precision density coverage")
    moves(learnt, noisy, "auc", "conditional")


def test_blur() -> None:
    moves(distances, blurred, "frechet energy gaussian sliced", "diversity coverage")
    moves(learnt, blurred, "auc", "conditional")


def test_dropped_modes() -> None:
    moves(distances, fewer_modes, "frechet kernel energy gaussian sliced", "recall coverage diversity")


def test_labels_that_were_not_asked_for() -> None:
    def mixed(level: int) -> Found:
        asked = Y[POOL].copy()
        asked[: 50 * level] = np.random.default_rng(0).permutation(asked[: 50 * level])
        return learnt(X[POOL], asked)

    moves(mixed, int, "", "conditional tstr")


def test_copies_of_training_items() -> None:
    moves(copies, copied, "memorised duplicates nearer membership")


def test_real_images() -> None:
    rest = X[POOL][::-1]
    unbiased = {"kernel": 0.0, "energy": 0.0, "gaussian": 0.0, "diversity": 1.0}
    stays(distances, X[POOL], rest, unbiased)
    stays(copies, X[POOL], rest, {"memorised": 0.01, "duplicates": 0.0, "nearer": 0.5, "membership": 0.5})
    found = learnt(X[POOL])
    assert abs(found["auc"].value - 0.5) < 3 * found["auc"].stderr


# -- likelihoods -----------------------------------------------------------------------------------------------------


def test_likelihoods_of_a_model_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    held, sampled, other = rng.normal(size=(3, 400, 8))

    def gap(made: np.ndarray) -> Found:
        return {"gap": metrics.likelihood_gap(-(held**2).sum(1) / 2, -(made**2).sum(1) / 2)}

    moves(gap, lambda level: (1 - 0.1 * level) * sampled, "gap")
    stays(gap, sampled, other, {})


def test_likelihoods_of_a_model_that_remembers() -> None:
    train, held, other = np.random.default_rng(0).normal(size=(3, 200, 4))

    def attack(bandwidth: float) -> Found:
        """A Gaussian kernel density of the training items."""
        far = [((side[:, None] - train) ** 2).sum(-1) / (2 * bandwidth**2) for side in (train, held)]
        seen, unseen = (np.logaddexp.reduce(-each, axis=1) for each in far)
        return {"membership": memorisation.membership_by_likelihood(seen, unseen)}

    moves(attack, lambda level: 3.0 * 0.6**level, "membership")
    fresh = memorisation.membership_by_likelihood(-(other**2).sum(1), -(held**2).sum(1))
    assert abs(fresh.value - 0.5) < 3 * fresh.stderr


# -- tables ----------------------------------------------------------------------------------------------------------

ROWS = load_breast_cancer().data[np.random.default_rng(0).permutation(569)][:, [0, 2, 3, 20, 22, 23]]
NAMES = ("radius", "perimeter", "area", "worst_radius", "worst_perimeter", "worst_area")
SEEN, HELD, MADE = ROWS[:229], ROWS[229:399], ROWS[399:]
NUMERIC = (True,) * 6


def fidelity(made: np.ndarray) -> Found:
    kept = [rule.kept(made) for rule in tables.rules(SEEN, NAMES, NUMERIC)]
    return {
        "shapes": tables.column_shapes(HELD, made, NUMERIC),
        "trends": tables.pair_trends(HELD, made, NUMERIC),
        "ranges": tables.ranges_kept(SEEN, made, NUMERIC),
        "rules": Estimate(float(np.all(kept, axis=0).mean()), 1 / math.sqrt(12 * len(made))),
        "efficacy": tables.efficacy(made, HELD, 5, regression=True),
    }


def shifted(level: int) -> np.ndarray:
    made = MADE.copy()
    made[:, 0] += 2.5 * level
    return made


def independent(level: int) -> np.ndarray:
    """Ever more rows whose cells come from different rows."""
    made, rng = MADE.copy(), np.random.default_rng(1)
    some = rng.permutation(len(made))[: 34 * level]
    made[some] = rng.permuted(made[some], axis=0)
    return made


def test_a_shifted_column() -> None:
    moves(fidelity, shifted, "", "shapes ranges rules")


def test_columns_that_come_apart() -> None:
    moves(fidelity, independent, "", "trends rules efficacy")


def test_real_tables() -> None:
    stays(fidelity, MADE, HELD[::-1][:100], {})


# -- texts -----------------------------------------------------------------------------------------------------------

TEXT = "".join(load_source("pydocs").rows("train"))
LINES = [TEXT[i : i + 120] for i in range(0, 144_000, 120)]
np.random.default_rng(0).shuffle(LINES)
JUDGE, REAL, WRITTEN, MORE = corpora.Judge(LINES[:600]), LINES[:300], LINES[600:800], LINES[800:1000]


def language(made: list[str]) -> Found:
    return {
        "distinct": corpora.distinct_n(made),
        "self_bleu": corpora.self_bleu(made),
        "entropy": corpora.ngram_entropy(made),
        "divergence": corpora.ngram_divergence(REAL, made),
        "judge": JUDGE.bits(made),
    }


def some(level: int, change: Callable[[str, np.random.Generator], str]) -> list[str]:
    """A fifth more of the texts changed at each level."""
    rng = np.random.default_rng(3)
    changed = [change(text, rng) for text in WRITTEN]
    return [*changed[: 40 * level], *WRITTEN[40 * level :]]


def test_shuffled_words() -> None:
    def shuffle(text: str, rng: np.random.Generator) -> str:
        return " ".join(rng.permutation(text.split()))

    moves(language, lambda level: some(level, shuffle), "judge distinct", "self_bleu")


def test_shuffled_characters() -> None:
    def shuffle(text: str, rng: np.random.Generator) -> str:
        return "".join(rng.permutation(list(text)))

    moves(language, lambda level: some(level, shuffle), "judge divergence entropy")


def test_one_text_again_and_again() -> None:
    moves(language, lambda level: some(level, lambda *_: WRITTEN[7]), "self_bleu divergence", "distinct entropy")


def test_real_texts() -> None:
    stays(language, WRITTEN, MORE, {})


# -- recordings ------------------------------------------------------------------------------------------------------

NOTES = load_source("notes")
DRAWN = np.random.default_rng(0).permutation(100)[:80]
HEARD, PLAYED = NOTES.rows("test")[DRAWN], NOTES.rows("validation")[DRAWN]


def sounding(made: Recordings) -> Found:
    found = sounds.sound_figures(HEARD, made)
    return {name: Estimate(found[name], found[f"{name}_stderr"]) for name in ("mel", "cepstral")}


def test_noise_in_recordings() -> None:
    def hiss(level: int) -> Recordings:
        rng = np.random.default_rng(0)
        return Recordings([x + 2e-4 * level**3 * rng.normal(size=len(x)) for x in PLAYED], PLAYED.rate)

    moves(sounding, hiss, "mel cepstral")


def test_clipped_recordings() -> None:
    def clip(level: int) -> Recordings:
        return Recordings([np.clip(x, -top, top) / top for x in PLAYED for top in [0.4**level]], PLAYED.rate)

    moves(sounding, clip, "mel cepstral")


def test_real_recordings() -> None:
    stays(sounding, PLAYED[:40], PLAYED[40:], {"mel": 0.0, "cepstral": 0.0})


# -- a control -------------------------------------------------------------------------------------------------------


def test_these_checks_notice_a_figure_that_does_not_move() -> None:
    still, wrong = (lambda level: {"figure": Estimate(0.5, 0.01)}), (lambda level: {"figure": Estimate(-level, 0.1)})
    for measure in (still, wrong):
        with pytest.raises(AssertionError):
            moves(measure, int, "figure")
    with pytest.raises(AssertionError):
        stays(lambda level: {"figure": Estimate(level, 0.1)}, 0, 1, {})
