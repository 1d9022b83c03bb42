"""How far samples are from real data: pure functions of arrays, each checked against a closed form or a direct sum.

Arrays are (N, d) float64, usually features of items (`FeatureSpace`); every figure comes with its standard error.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist, pdist

from quintet.core.errors import DataError
from quintet.core.random import some
from quintet.metrics.estimates import Array, Estimate, bootstrap, mean, share

SLICES = 128
"""Directions of the sliced distance."""


def frechet_distance(a: Array, b: Array) -> Estimate:
    """Fréchet (2-Wasserstein, squared) distance between Gaussians fitted to a (N, d) and b (M, d).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)   (Heusel et al. 2017, arXiv:1706.08500)

    In squared feature units; biased upwards at small N, so compare at equal N only. The error is the first-order term:
    an item x of a moves the distance by (2 (mu_a - mu_b) . y + y' (1 - T) y) / N, where y = x - mu_a, and
    T = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2 is the linear map that carries a to b.
    """
    shift, centred = a.mean(0) - b.mean(0), (a - a.mean(0), b - b.mean(0))
    roots, inverses = zip(*(_roots(np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b)), strict=True)
    # tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of A^1/2 B^1/2: no square root of a rounding error.
    u, cross, v = np.linalg.svd(roots[0] @ roots[1])
    value = (shift**2).sum() + sum((root**2).sum() for root in roots) - 2 * cross.sum()
    variance = 0.0
    for y, side, inverse, vectors in zip(centred, (shift, -shift), inverses, (u, v.T), strict=True):
        carried = ((y @ inverse @ vectors) ** 2) @ cross
        variance += (2 * y @ side + (y**2).sum(1) - carried).var() / len(y)
    return Estimate(float(max(value, 0.0)), math.sqrt(variance))


def _roots(cov: Array) -> tuple[Array, Array]:
    """The symmetric square root of a covariance (d, d), and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(cov)
    roots = np.sqrt(values.clip(0))
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 1e-7 * roots.max())
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T


def kernel_distance(a: Array, b: Array) -> Estimate:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3 (KID; Binkowski et al. 2018, arXiv:1801.01401).

    a (N, d), b (M, d). Zero on average for equal distributions, so it can be slightly negative.
    """

    def kernel(x: Array, y: Array) -> Array:
        values: Array = (x @ y.T / x.shape[1] + 1) ** 3
        return values

    return _mmd(kernel(a, a), kernel(b, b), kernel(a, b))


def energy_distance(a: Array, b: Array) -> Estimate:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased (Székely & Rizzo 2013), in feature units; a (N, d), b (M, d).

    Zero on average only for equal distributions. Cheap, and without a tuned kernel: the live figure during training.
    """
    return _mmd(-cdist(a, a), -cdist(b, b), -cdist(a, b))


def gaussian_distance(real: Array, fake: Array) -> Estimate:
    """Unbiased squared MMD with k(x, y) = exp(-|x - y|^2 / 2 h^2) (Gretton et al. 2012), real (N, d), fake (M, d).

    h is the median distance between real items: unlike the pooled median it is the same for every model. Between 0
    (on average, for equal distributions only) and 2.
    """
    scale = _bandwidth(real)

    def kernel(x: Array, y: Array) -> Array:
        values: Array = np.exp(-cdist(x, y, "sqeuclidean") / (2 * scale**2))
        return values

    return _mmd(kernel(real, real), kernel(fake, fake), kernel(real, fake))


def _bandwidth(x: Array) -> float:
    """The median distance between items; 1 where most are equal."""
    return float(np.median(pdist(x))) or 1.0


def _mmd(aa: Array, bb: Array, ab: Array) -> Estimate:
    """E k(x,x') + E k(y,y') - 2 E k(x,y) from kernel matrices, and its standard error.

    The error is the first-order (Hoeffding) term of a U-statistic, 4 var_x / N + 4 var_y / M of the rows' means.
    """
    n, m = ab.shape
    of_a = (aa.sum(1) - np.diag(aa)) / (n - 1)
    of_b = (bb.sum(1) - np.diag(bb)) / (m - 1)
    value = of_a.mean() + of_b.mean() - 2 * ab.mean()
    variance = 4 * (of_a - ab.mean(1)).var(ddof=1) / n + 4 * (of_b - ab.mean(0)).var(ddof=1) / m
    return Estimate(float(value), math.sqrt(variance))


def sliced_distance(a: Array, b: Array, seed: int = 0) -> Estimate:
    """Sliced 2-Wasserstein distance, squared: the mean over unit vectors v of W2^2(v . a, v . b) (Rabin et al. 2011).

    In one dimension W2^2 is the mean squared difference of sorted values. SLICES directions, drawn from `seed`; equal
    sizes: the larger side is cut. In squared feature units; biased upwards at small N. Error: the variance of the
    Kantorovich potentials, phi'(x) = 2 (x - T(x)) (del Barrio & Loubes 2019, arXiv:1705.01299), meant over directions.
    """
    n = min(len(a), len(b))
    v = np.random.default_rng(seed).normal(size=(a.shape[1], SLICES))
    v /= np.linalg.norm(v, axis=0)
    sides = (a[some(a, n, seed)] @ v, b[some(b, n, seed)] @ v)
    orders = [side.argsort(0) for side in sides]
    x, y = (np.take_along_axis(side, order, 0) for side, order in zip(sides, orders, strict=True))
    variance = 0.0
    for order, here, there in ((orders[0], x, y), (orders[1], y, x)):
        slope = here - there
        steps = (slope[1:] + slope[:-1]) * np.diff(here, axis=0)  # the trapezoidal rule
        potential = np.empty_like(here)
        np.put_along_axis(potential, order, np.concatenate([np.zeros_like(here[:1]), steps.cumsum(0)]), 0)
        variance += potential.mean(1).var() / n
    return Estimate(float(((x - y) ** 2).mean()), math.sqrt(variance))


def prdc(real: Array, fake: Array, k: int = 5) -> dict[str, Estimate]:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et al. 2020,
    arXiv:2002.09797), from balls that reach to the k-th neighbour within real (N, d) and within fake (M, d).

    precision: share of fakes inside some real ball; recall: the converse; density: mean number of real balls around a
    fake, over k (may exceed 1); coverage: share of real balls with a fake inside. The errors hold the other sample
    fixed, but for that of the coverage, which has both (see `covered`).
    """
    enough(real, fake, k)
    between = cdist(real, fake)
    real_radius = np.partition(cdist(real, real), k, axis=1)[:, k]  # position 0 is the item itself
    fake_radius = np.partition(cdist(fake, fake), k, axis=1)[:, k]
    in_real = between <= real_radius[:, None]
    in_fake = between <= fake_radius[None, :]
    hit, drawn = covered(in_real)
    return {
        "precision": share(in_real.any(0)),
        "recall": share(in_fake.any(1)),
        "density": mean(in_real.sum(0) / k),
        "coverage": Estimate(float(hit.mean()), math.hypot(share(hit).stderr, drawn.std() / math.sqrt(len(drawn)))),
    }


def enough(real: Array, fake: Array, k: int) -> None:
    """Raise DataError unless each item has a k-th neighbour."""
    if min(len(real), len(fake)) <= k:
        raise DataError(
            f"precision and coverage need more than {k} items on each side, got {len(real)} and {len(fake)}"
        )


def balls(real: Array, fake: Array, k: int = 5) -> Array:
    """(N, M): whether each fake lies in the ball around each real item that reaches to its k-th neighbour."""
    enough(real, fake, k)
    near: Array = cdist(real, fake) <= np.partition(cdist(real, real), k, axis=1)[:, k, None]
    return near


def covered(within: Array) -> tuple[Array, Array]:
    """The coverage item by item: whether each real item (N,) is covered, which has the coverage as its mean, and what
    each fake (M,) adds to its error. The variances of the two means add up to that of the coverage.

    `within` (N, M): whether the fake lies in the ball of the real item. A fake that is the only one in some balls would
    leave these uncovered: the jackknife's variance, times the balls without any fake over those with just one, since a
    ball is emptied more rarely than that. As balls overlap this is more than the real items show; what it is more is
    given to the fakes.
    """
    n, m = within.shape
    hit, single = within.any(1), within.sum(1) == 1
    alone = within[single].sum(0) * (m / n)
    drawn = alone.var() / m * min(1.0, ((~hit).sum() + 1) / (single.sum() + 1))
    more = max(0.0, drawn - hit.var() / n)
    return hit.astype(float), (alone - alone.mean()) * math.sqrt(more * m / alone.var() if alone.any() else 0.0)


def diversity(real: Array, fake: Array) -> Estimate:
    """How many different items there are among samples, over the same of as many real items; 1: as diverse.

    The Vendi score exp(-sum_i l_i log l_i) of the eigenvalues l of K / N (Friedman & Dieng 2023, arXiv:2210.02410):
    1 if all items are equal, N if they have nothing in common. K is the Gaussian kernel at the median distance between
    real items. Equal sizes: the larger side is cut. Error: that of the mean of -<x| log K/N |x> over items.
    """
    n, scale = min(len(real), len(fake)), _bandwidth(real)
    of_real, of_fake = (
        _entropy(np.exp(-cdist(x, x, "sqeuclidean") / (2 * scale**2)))
        for x in (real[some(real, n, 0)], fake[some(fake, n, 0)])
    )
    ratio = math.exp(of_fake.value - of_real.value)
    return Estimate(ratio, ratio * math.hypot(of_fake.stderr, of_real.stderr))


def _entropy(kernel: Array) -> Estimate:
    """-tr(R log R), nats, with R = kernel (N, N) / N, whose diagonal is 1."""
    values, vectors = np.linalg.eigh(kernel / len(kernel))
    logs = np.log(np.where(values > 1e-12, values, 1.0))
    return mean(-len(kernel) * (vectors**2 @ (values * logs)))


def likelihood_gap(heldout: Array, sampled: Array) -> Estimate:
    """Kolmogorov's distance between a model's log-likelihoods of held-out items (N,) and of its own samples (M,).

    Ranks of unseen items among samples are uniform if the model is right, and the distance is about
    sqrt((N + M) / N M). A model that is too sure of itself finds its samples likelier than real items (Nalisnick et al.
    2019, arXiv:1906.02994, on typicality).
    """
    return bootstrap(kolmogorov, heldout, sampled)


def kolmogorov(a: Array, b: Array) -> float:
    """sup_x |F_a(x) - F_b(x)| of the distribution functions of a (N,) and b (M,)."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    gaps = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return float(np.abs(gaps).max())
