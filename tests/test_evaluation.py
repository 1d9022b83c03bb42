"""The measures against closed forms, scipy and direct sums; and each moves the right way on a planted fault."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import ks_2samp
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from quintet.core.errors import DataError
from quintet.metrics import classifiers, memorisation
from quintet.metrics import distances as metrics
from quintet.metrics.estimates import Estimate, area, bootstrap, share
from quintet.metrics.features import fit_features
from quintet.metrics.samples import evaluate_samples

RNG = np.random.default_rng(0)


def gaussian(n: int, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """n points whose sample mean and covariance are exactly these."""
    x = RNG.normal(size=(n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(cov).T + mean


@pytest.fixture(scope="module")
def digits() -> dict[str, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(x))
    x, y = (x[order] / 8 - 1).reshape(-1, 1, 8, 8), y[order]
    parts = {"train": slice(0, 1000), "test": slice(1000, 1400), "other": slice(1400, None)}
    return {name: x[part] for name, part in parts.items()} | {f"{name}_y": y[part] for name, part in parts.items()}


# Fréchet -----------------------------------------------------------------------------------------------------------


def test_frechet_of_commuting_gaussians_is_the_closed_form() -> None:
    a = gaussian(300, np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]))
    b = gaussian(200, np.array([1.0, 1.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    closed = 5.0 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert metrics.frechet_distance(a, b).value == pytest.approx(closed, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_frechet_agrees_with_scipy(seed: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(60, dims)) @ rng.normal(size=(dims, dims)), rng.normal(size=(70, dims)) + 0.5
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    direct = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert metrics.frechet_distance(a, b).value == pytest.approx(direct, rel=1e-6, abs=1e-6)


def test_frechet_of_a_set_with_itself_is_zero_even_without_full_rank() -> None:
    a = RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 40))
    assert metrics.frechet_distance(a, a).value == pytest.approx(0.0, abs=1e-9)


# Kernel and energy -------------------------------------------------------------------------------------------------


def test_kernel_distance_is_the_direct_sum() -> None:
    a, b = RNG.normal(size=(7, 4)), RNG.normal(size=(5, 4)) + 1

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within_a = sum(k(a[i], a[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_b = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(k(x, y) for x in a for y in b) / 35
    assert metrics.kernel_distance(a, b).value == pytest.approx(within_a + within_b - 2 * between, abs=1e-12)


def test_kernel_distance_is_unbiased_where_the_biased_sum_is_not() -> None:
    rng = np.random.default_rng(3)
    draws = [metrics.kernel_distance(rng.normal(size=(20, 3)), rng.normal(size=(20, 3))).value for _ in range(300)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / math.sqrt(300)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    biased = ((x @ x.T / 3 + 1) ** 3).mean() + ((y @ y.T / 3 + 1) ** 3).mean() - 2 * ((x @ y.T / 3 + 1) ** 3).mean()
    assert biased > metrics.kernel_distance(x, y).value


def test_energy_distance_agrees_with_scipy_up_to_its_bias() -> None:
    a, b = RNG.normal(size=(500, 1)), RNG.normal(size=(500, 1)) * 2 + 1
    n = 500 / 499  # scipy's sum includes the zero distances of an item to itself
    within = [np.abs(x - x.T).mean() for x in (a, b)]
    biased = scipy_energy(a[:, 0], b[:, 0]) ** 2
    assert metrics.energy_distance(a, b).value == pytest.approx(biased - (n - 1) * sum(within), abs=1e-9)


def test_gaussian_distance_is_the_direct_sum_and_no_pooled_bandwidth() -> None:
    a, b = RNG.normal(size=(7, 4)), RNG.normal(size=(5, 4)) + 1
    h = np.median([np.linalg.norm(a[i] - a[j]) for i in range(7) for j in range(i)])

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return math.exp(-float((x - y) @ (x - y)) / (2 * h * h))

    within_a = sum(k(a[i], a[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_b = sum(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(k(x, y) for x in a for y in b) / 35
    assert metrics.gaussian_distance(a, b).value == pytest.approx(within_a + within_b - 2 * between, abs=1e-12)


def test_sliced_distance_of_a_shift_and_of_a_scale() -> None:
    a, shift = RNG.normal(size=(300, 3)), np.array([1.0, -2.0, 2.0])
    assert metrics.sliced_distance(a, a).value == 0
    assert metrics.sliced_distance(a, a + shift).value == pytest.approx(9 / 3, rel=0.2)  # E (v . shift)^2
    doubled = metrics.sliced_distance(a, 2 * a).value  # T(x) = 2x on every line
    assert doubled == pytest.approx((a**2).sum(1).mean() / 3, rel=0.1)
    line = RNG.normal(size=(200, 1)), 3 * RNG.normal(size=(200, 1)) ** 3
    direct = ((np.sort(line[0], 0) - np.sort(line[1], 0)) ** 2).mean()
    assert metrics.sliced_distance(*line).value == pytest.approx(direct)


def repeated(figure: Callable[..., Estimate], make: Callable[[np.random.Generator], tuple[np.ndarray, ...]]) -> float:
    """The mean standard error over the spread of 150 repetitions."""
    rng = np.random.default_rng(5)
    found = [figure(*make(rng)) for _ in range(150)]
    return float(np.mean([f.stderr for f in found]) / np.std([f.value for f in found]))


@pytest.mark.parametrize(
    "distance",
    [metrics.kernel_distance, metrics.energy_distance, metrics.gaussian_distance, metrics.sliced_distance,
     metrics.frechet_distance],
)  # fmt: skip
def test_the_standard_error_is_the_spread_of_repetitions(distance: Callable[..., Estimate]) -> None:
    def pair(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return rng.normal(size=(80, 2)), rng.normal(size=(60, 2)) @ [[1.0, 0.6], [0.0, 1.3]] + 1

    assert repeated(distance, pair) == pytest.approx(1, abs=0.25)


def test_the_error_of_areas_gaps_and_attacks_is_the_spread_of_repetitions() -> None:
    def scores(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return rng.normal(size=120) + 0.5, 2 * rng.normal(size=80)

    def three(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return rng.normal(size=(50, 20)), rng.normal(size=(50, 20)), rng.normal(size=(200, 20))

    assert repeated(area, scores) == pytest.approx(1, abs=0.2)
    assert repeated(metrics.likelihood_gap, scores) == pytest.approx(1, abs=0.25)
    assert repeated(memorisation.nearer_to_training, three) == pytest.approx(1, abs=0.2)
    assert repeated(memorisation.membership_by_samples, three) == pytest.approx(1, abs=0.25)


def test_area_agrees_with_scikit_learn_and_bootstrap_with_the_formula_of_a_mean() -> None:
    high, low = RNG.integers(0, 9, 50), RNG.integers(0, 7, 30)  # with ties
    known = roc_auc_score(np.repeat([1, 0], [50, 30]), np.concatenate([high, low]))
    assert area(high, low).value == pytest.approx(known)
    x = RNG.normal(size=400)
    found = bootstrap(lambda part: float(part.mean()), x, n=400)
    assert found.value == x.mean()
    assert found.stderr == pytest.approx(x.std() / 20, rel=0.15)
    assert found == bootstrap(lambda part: float(part.mean()), x, n=400)
    none = share(np.zeros(300, bool))
    assert none.value == 0 < none.stderr < 0.005


# Diversity and likelihoods -----------------------------------------------------------------------------------------


def test_diversity_of_separate_points_is_their_number() -> None:
    far = 1e4 * np.eye(12)
    assert math.exp(metrics._entropy(np.eye(12)).value) == pytest.approx(12)
    assert math.exp(metrics._entropy(np.ones((12, 12))).value) == pytest.approx(1)
    unequal = np.repeat([0, 1, 2], [6, 3, 1])
    kernel = (unequal[:, None] == unequal).astype(float)
    entropy = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))
    assert metrics._entropy(kernel).value == pytest.approx(entropy)
    assert metrics.diversity(far, far[[0] * 6 + [1] * 6]).value < 0.4
    assert metrics.diversity(far, far[::-1]).value == pytest.approx(1)


def test_likelihood_gap_is_kolmogorovs() -> None:
    a, b = np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.5, 3.5, 4.5])
    assert metrics.likelihood_gap(a, b).value == metrics.likelihood_gap(b, a).value == pytest.approx(3 / 4)
    assert metrics.likelihood_gap(a, a).value == 0
    x, y = RNG.integers(0, 20, 70), RNG.integers(3, 25, 90)
    assert metrics.kolmogorov(x, y) == pytest.approx(ks_2samp(x, y).statistic)


# Precision, recall, density, coverage ------------------------------------------------------------------------------


def test_prdc_on_a_line_by_hand() -> None:
    real, fake = np.array([[0.0], [1.0], [2.0], [10.0]]), np.array([[0.5], [1.5], [30.0]])
    # k=1, real radii 1, 1, 1, 8; fake radii 1, 1, 28.5. Fake 0.5 is in the balls of 0 and 1, 1.5 in those of 1 and 2.
    found = {name: e.value for name, e in metrics.prdc(real, fake, k=1).items()}
    assert found == pytest.approx({"precision": 2 / 3, "recall": 1.0, "density": 4 / 3, "coverage": 3 / 4})


def test_prdc_agrees_with_the_definition() -> None:
    real, fake, k = RNG.normal(size=(40, 3)), RNG.normal(size=(30, 3)) * 1.3, 4

    def radius(x: np.ndarray, i: int) -> float:
        return float(sorted(np.linalg.norm(x - x[i], axis=1))[k])

    inside = np.array([[np.linalg.norm(f - real[i]) <= radius(real, i) for f in fake] for i in range(40)])
    covered = np.array([[np.linalg.norm(r - fake[j]) <= radius(fake, j) for j in range(30)] for r in real])
    direct = [inside.any(0).mean(), covered.any(1).mean(), inside.sum() / k / 30, inside.any(1).mean()]
    assert [e.value for e in metrics.prdc(real, fake, k).values()] == pytest.approx(direct)


def test_prdc_needs_enough_items() -> None:
    with pytest.raises(DataError, match="more than 5 items"):
        metrics.prdc(RNG.normal(size=(5, 2)), RNG.normal(size=(50, 2)))


# Two-sample classifier ---------------------------------------------------------------------------------------------


def test_auc_is_half_for_equal_and_one_for_separate_distributions() -> None:
    a, b = RNG.normal(size=(400, 3)), RNG.normal(size=(500, 3))
    same = classifiers.classifier_two_sample(a, b)
    assert abs(same.value - 0.5) < 3.5 * same.stderr
    ranks = math.sqrt(801 / (12 * 400**2))  # Mann-Whitney under equality
    assert same.stderr == pytest.approx(ranks * math.sqrt(1 + 5 / 4), rel=0.05)  # and the classifiers of five folds
    assert classifiers.classifier_two_sample(a, b + 9).value == pytest.approx(1.0)


def test_auc_sees_what_means_and_covariances_miss() -> None:
    signs = RNG.choice([-1.0, 1.0], size=(600, 2))
    a, b = signs + 0.1 * RNG.normal(size=(600, 2)), RNG.normal(size=(600, 2)) * math.sqrt(1.01)
    assert metrics.frechet_distance(a, b).value < 0.05
    assert classifiers.classifier_two_sample(a, b).value > 0.9


# Memorisation ------------------------------------------------------------------------------------------------------


def test_memorised_share_is_calibrated_and_sees_copies() -> None:
    rng = np.random.default_rng(7)
    flags = []
    for _ in range(60):
        train, held, fake = (rng.normal(size=(n, 3)) for n in (200, 300, 300))
        flags.append(memorisation.memorised_share(train, held, fake)["p_value"] < 0.05)
    assert np.mean(flags) < 0.15
    held, fake = rng.normal(size=(300, 3)), rng.normal(size=(300, 3))
    fake[:15] = train[:15]  # one in twenty
    found = memorisation.memorised_share(train, held, fake)
    assert found["flagged"] is True
    assert found["share"] == pytest.approx(0.05, abs=0.02)
    assert found["expected"] == pytest.approx(3 / 301)


def test_blurred_samples_are_near_to_everything_but_copy_nothing() -> None:
    rng = np.random.default_rng(9)
    train, held, other = (rng.normal(size=(n, 32)) for n in (500, 300, 300))
    blurred = 0.1 * other

    def nearest(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - train[None], axis=2).min(1)

    naive = (nearest(blurred) < np.quantile(nearest(held), 0.01)).mean()
    assert naive > 0.5  # the control: the plain distance accuses the blur
    assert memorisation.memorised_share(train, held, blurred)["flagged"] is False


def test_natural_duplicates_do_not_hide_copies_nor_accuse_the_innocent() -> None:
    rng = np.random.default_rng(8)
    train, held, fresh = (rng.integers(0, 9, size=(n, 3)).astype(float) for n in (1000, 400, 400))  # most rows recur
    assert memorisation.memorised_share(train, held, fresh)["flagged"] is False
    wide_train, wide_held = (
        rng.integers(0, 9, size=(1000, 8)).astype(float),
        rng.integers(0, 9, size=(400, 8)).astype(float),
    )
    wide_held[:20] = wide_train[:20]  # a threshold of zero
    assert memorisation.memorised_share(wide_train, wide_held, wide_train[500:900])["flagged"] is True


def test_near_duplicates_and_the_nearer_side_by_hand() -> None:
    train, held = np.array([[0.0], [10.0], [20.0]]), np.array([[4.0], [14.0], [24.0]])
    fake = np.array([[0.1], [10.0], [11.0], [15.0], [2.0]])
    found = memorisation.memorised_share(train, held, fake)
    assert found["duplicates"] == 2 / 5  # within 0.4 = CLOSE * the median of 4, 4, 4
    assert memorisation.nearer_to_training(train, held, fake).value == pytest.approx((3 + 0.5) / 5)
    weights = np.array([1.5, 2, 0, 0.5, 1, 0]) / 5
    deals = [weights[list(side)].sum() for side in itertools.combinations(range(6), 3)]
    assert memorisation.nearer_to_training(train, held, fake).stderr == pytest.approx(np.std(deals))


def test_attacks_find_copies_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    train, held, fresh = (rng.normal(size=(n, 8)) for n in (300, 200, 400))
    for fake, near in ((fresh, False), (train[rng.integers(0, 300, 400)] + 0.05, True)):
        nearer = memorisation.nearer_to_training(train, held, fake)
        attack = memorisation.membership_by_samples(train, held, fake)
        assert (nearer.value - 3 * nearer.stderr > 0.5) is near
        assert (attack.value - 3 * attack.stderr > 0.5) is near
    spread = memorisation.membership_by_likelihood(-rng.exponential(size=300), -rng.exponential(size=300))
    assert abs(spread.value - 0.5) < 3 * spread.stderr


# Train on samples, test on real ------------------------------------------------------------------------------------


def test_tstr(digits: dict[str, np.ndarray]) -> None:
    good = classifiers.train_synthetic_test_real(digits["other"], digits["other_y"], digits["test"], digits["test_y"])
    wrong = classifiers.train_synthetic_test_real(
        digits["other"], RNG.permutation(digits["other_y"]), digits["test"], digits["test_y"]
    )
    one = classifiers.train_synthetic_test_real(digits["other"], np.full(397, 3), digits["test"], digits["test_y"])
    assert good.value > 0.9 > 0.3 > wrong.value
    assert one.value == pytest.approx((digits["test_y"] == 3).mean())
    assert good.stderr == pytest.approx(math.sqrt(good.value * (1 - good.value) / 400), rel=0.1)


def test_conditional_accuracy(digits: dict[str, np.ndarray]) -> None:
    flat = {name: x.reshape(len(x), -1) for name, x in digits.items() if x.ndim > 1}
    asked = digits["other_y"].copy()
    asked[:100] = (asked[:100] + 1) % 10
    found = classifiers.conditional_accuracy(
        flat["train"], digits["train_y"], flat["test"], digits["test_y"], flat["other"], asked
    )
    assert found["conditional_real"].value > 0.98
    assert found["conditional"].value == pytest.approx(297 / 397, abs=0.02)


# All together ------------------------------------------------------------------------------------------------------


def test_each_figure_moves_the_right_way(digits: dict[str, np.ndarray]) -> None:
    train, test, other = digits["train"], digits["test"], digits["other"]
    features = fit_features(train, "flattened")
    some = np.isin(digits["train_y"], [0, 1, 2])
    fakes = {
        "real": other,
        "noise": other + 0.3 * np.random.default_rng(0).normal(size=other.shape),
        "modes": train[some] + 0.02 * np.random.default_rng(1).normal(size=train[some].shape),
        "copies": train[:397],
    }
    found = {
        name: evaluate_samples(
            train, test, fake, features, train_labels=digits["train_y"], test_labels=digits["test_y"],
            fake_labels=digits["other_y"] if name in ("real", "noise") else None,
        )
        for name, fake in fakes.items()
    }  # fmt: skip
    real, noise, modes, copies = found.values()
    assert abs(real["auc"] - 0.5) < 0.1 < 0.4 < noise["auc"] - 0.5
    assert modes["auc"] > real["auc"] + 0.1
    for name in ("frechet", "energy", "kernel"):
        assert modes[name] > real[name] + 3 * real.get(f"{name}_stderr", 0.0)
    assert noise["frechet"] > 2 * real["frechet"]
    assert noise["precision"] < real["precision"] - 0.2
    assert noise["density"] < real["density"] - 0.2
    assert modes["recall"] < real["recall"] - 0.3
    assert modes["coverage"] < real["coverage"] - 0.3
    assert modes["precision"] > 0.9  # the three digits that are left look real
    assert copies["memorised_flagged"] is True
    assert copies["memorised"] > 0.99
    assert real["memorised_flagged"] is False
    assert "tstr" in real
    assert "tstr" not in modes
    assert json.loads(json.dumps(found)) == found


def test_evaluation_is_deterministic_and_of_equal_sizes() -> None:
    train, test, fake = (RNG.normal(size=(n, 4)) for n in (100, 90, 60))
    features = fit_features(train, "standardised")
    first = evaluate_samples(train, test, fake, features)
    assert first == evaluate_samples(train, test, fake, features)
    assert first["items"] == 60
    assert evaluate_samples(train, test, fake, features, max_items=40)["items"] == 40
    with pytest.raises(DataError, match="4 items on each side are too few"):
        evaluate_samples(train, test[:4], fake, features)


# Features ----------------------------------------------------------------------------------------------------------


def test_image_features_keep_distances_up_to_one_scale() -> None:
    train = RNG.normal(size=(300, 3, 4, 4)) * 0.2
    features = fit_features(train, "flattened")
    mapped, flat = features(train[:20]), train[:20].reshape(20, -1)
    ratio = np.linalg.norm(mapped[1:] - mapped[0], axis=1) / np.linalg.norm(flat[1:] - flat[0], axis=1)
    assert mapped.shape == (20, 49)
    assert mapped.dtype == np.float64
    assert ratio == pytest.approx(ratio[0], rel=1e-9)


def test_table_features_do_not_depend_on_units() -> None:
    train = RNG.normal(size=(200, 3))
    units = np.array([1.0, 1000.0, 0.001])
    a, b = fit_features(train, "standardised")(train), fit_features(train * units, "standardised")(train * units)
    assert np.linalg.norm(a[5] - a[9]) == pytest.approx(np.linalg.norm(b[5] - b[9]))


@pytest.mark.parametrize("width", [10, 200])
def test_an_item_off_the_subspace_is_as_far_away_as_it_is(width: int) -> None:
    train = np.zeros((300, width))
    train[:, :3] = RNG.normal(size=(300, 3))
    off = train[:1].copy()
    off[0, 7] = 1.0  # a direction without variance, of which 64 components hold a part at most
    features = fit_features(train, "flattened")
    assert np.linalg.norm(features(off) - features(train[:1])) == pytest.approx(1 / features.scale[7])


def test_token_features_see_order_and_ignore_padding() -> None:
    rng = np.random.default_rng(2)
    rising = (rng.integers(0, 20, size=(300, 1)) + np.arange(12)) % 20
    shuffled = rng.permuted(rising, axis=1)
    features = fit_features(rising[:200], "symbols", pad=20)
    order = metrics.energy_distance(features(rising[200:]), features(shuffled[200:]))
    assert order.value > 5 * order.stderr
    padded = np.concatenate([rising[:5], np.full((5, 3), 20)], axis=1)
    assert features(padded) == pytest.approx(features(rising[:5]))


def test_features_refuse_what_they_cannot_measure() -> None:
    features = fit_features(RNG.normal(size=(20, 4)), "standardised")
    with pytest.raises(DataError, match="NaN or infinite"):
        features(np.full((2, 4), np.nan))
    with pytest.raises(DataError, match="fitted on items of 4 values"):
        features(np.zeros((2, 5)))
    with pytest.raises(DataError, match="at least two"):
        fit_features(np.zeros((1, 4)), "standardised")
    assert features(np.zeros((0, 4))).shape == (0, 5)
    assert json.loads(json.dumps(features.description)) == features.description


def test_too_few_items_for_neighbours_are_refused() -> None:
    few = np.random.default_rng(0).normal(size=(5, 2))
    for figure in (metrics.balls, metrics.prdc):
        with pytest.raises(DataError, match="more than 5 items"):
            figure(few, few)
