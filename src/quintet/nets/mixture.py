"""A mixture of Gaussians that is fitted to latents when a model stands (Ghosh et al. 2020, arXiv:1903.12436)."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from quintet.core.random import Generator, categorical, normal

FLOOR = 1e-3
"""Least variance of a Gaussian along any axis, as a share of the mean variance of the latents."""
ENOUGH, PLENTY = 4, 16
"""Latents for each of their numbers that a Gaussian needs at least, and beyond which more gain little."""
ROUNDS = 15
"""Of expectation maximisation."""
NEVER = -1e9
"""The logit of a Gaussian that is not used."""


class Mixture(nn.Module):
    """p(z) = sum_k w_k N(z; mean_k, L_k L_k^T) over z (B, dims). It is N(0, 1) until it is fitted.

    `logits` (K,) of the weights, `means` (K, dims), `roots` (K, dims, dims) the lower triangular L_k.
    """

    logits: Tensor
    means: Tensor
    roots: Tensor

    def __init__(self, dims: int, components: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, dims))
        self.register_buffer("roots", torch.eye(dims).repeat(components, 1, 1))

    @property
    def most(self) -> int:
        """Latents beyond which a fit gains little."""
        return PLENTY * self.means.numel()

    def fit(self, z: Tensor) -> None:
        """Expectation maximisation on z (N, dims), the same for the same z.

        With fewer than `ENOUGH` latents a dimension a Gaussian would learn them by heart: of fewer latents there are
        fewer Gaussians, and where there are none it stays as it is.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        count = min(len(self.logits), len(z) // (ENOUGH * z.shape[1]))
        if not count:
            return
        least = FLOOR * float(z.double().var(0, correction=0).mean())
        found = GaussianMixture(count, reg_covar=max(1e-6, least), max_iter=ROUNDS, random_state=0)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # it is good enough by then
            found.fit(z.double().cpu().numpy())
        self.logits.fill_(NEVER)
        for part, value in (
            (self.logits, np.log(found.weights_)),
            (self.means, found.means_),
            (self.roots, np.linalg.cholesky(found.covariances_)),
        ):
            part[:count] = torch.from_numpy(value)

    def log_prob(self, z: Tensor) -> Tensor:
        """(B,) nats."""
        apart = (z - self.means[:, None]).mT  # (K, dims, B)
        unit = torch.linalg.solve_triangular(self.roots, apart, upper=False)
        each = -0.5 * (unit.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
        each = each - self.roots.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
        return torch.logsumexp(self.logits.log_softmax(0)[:, None] + each, 0)

    def sample(self, n: int, temperature: float, generator: Generator | None) -> Tensor:
        """(n, dims), each `temperature` times as far from the mean of its component as it would be."""
        k = categorical(self.logits.expand(n, -1), generator)
        noise = normal(n, self.means.shape[1], generator=generator, like=self.means)
        return self.means[k] + temperature * (self.roots[k] @ noise[..., None])[..., 0]
