"""What a classifier finds in samples, or learns from them: pure functions of arrays."""

from __future__ import annotations

import math

import numpy as np

from quintet.core.random import some
from quintet.metrics.estimates import FOLDS, REFIT, Array, Estimate, placements, share

MAX_COLUMNS = 512
MAX_TAUGHT = 4000
"""Items of a conditional classifier, whose time grows with their square."""


def classifier_two_sample(real: Array, fake: Array, seed: int = 0) -> Estimate:
    """AUC of a gradient-boosted classifier that tells real (N, ...) from fake (M, ...), on raw values, cross-validated.

    0.5: it cannot tell; 1: it always can (Lopez-Paz & Oquab 2017, arXiv:1610.06545, with the AUC for the accuracy).
    Equal sizes: of the larger side as many are drawn. Predictions are out of fold (5 folds). Below 0.5 by more than
    chance, items recur on both sides (samples that copy the test items). The error is that of the ranks (DeLong) times
    `REFIT`.
    """
    return area_of_placements(*told_apart(real, fake, seed))


def area_of_placements(real: Array, fake: Array) -> Estimate:
    """The AUC of what `told_apart` gives, with the error of the ranks and of the classifier."""
    return Estimate(float(real.mean()), REFIT * math.sqrt(real.var(ddof=1) / len(real) + fake.var(ddof=1) / len(fake)))


def told_apart(real: Array, fake: Array, seed: int = 0) -> tuple[Array, Array]:
    """What `classifier_two_sample` is the mean of: for each real item, in order, the share of samples that look more
    like samples than it does, and for each sample the share of real items that look less so.

    Two models that were measured on the same real items, with the same folds, are compared by the differences of these.
    """
    n = min(len(real), len(fake))
    x = np.concatenate([side[some(side, n, seed)].reshape(n, -1) for side in (real, fake)]).astype(np.float64)
    if x.shape[1] > MAX_COLUMNS:  # a bound on time; the columns are drawn from the seed
        x = x[:, some(x.shape[1], MAX_COLUMNS, seed)]
    y = np.repeat([0, 1], n)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    p = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    of_samples, of_real = placements(p[n:], p[:n])
    return of_real, of_samples


def train_synthetic_test_real(fake_x: Array, fake_y: Array, test_x: Array, test_y: Array) -> Estimate:
    """Accuracy on real (test_x, test_y) of a logistic regression trained on samples.

    Esteban et al. 2017, arXiv:1706.02633. x (N, ...) are standardised by the training side, y (N,) are labels. Trained
    on real items it gives the reference.
    """
    x, unseen = fake_x.reshape(len(fake_x), -1), test_x.reshape(len(test_x), -1)
    if len(np.unique(fake_y)) < 2:  # a generator that makes one class only
        return share(test_y == fake_y[0])
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x, fake_y)
    return share(model.predict(unseen) == test_y)


def conditional_accuracy(
    train: Array, train_labels: Array, test: Array, test_labels: Array, fake: Array, asked: Array
) -> dict[str, Estimate]:
    """Share of samples (M, d) that a classifier of real items takes for the label that was asked for (M,).

    `conditional`, and `conditional_real`: the same classifier's accuracy on real test items, the most that can be
    expected. A support vector machine with Gaussian kernel on MAX_TAUGHT of the training items (N, d).
    """
    taught = some(train, MAX_TAUGHT, 0)
    from sklearn.svm import SVC

    model = SVC(C=10.0).fit(train[taught], train_labels[taught])
    return {
        "conditional": share(model.predict(fake) == asked),
        "conditional_real": share(model.predict(test) == test_labels),
    }
