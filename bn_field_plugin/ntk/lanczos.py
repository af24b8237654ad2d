"""Spectra from products with the kernel alone, where no matrix fits: largest eigenvalues, and density.

The largest eigenvalues come from ARPACK's Lanczos iteration (scipy's `eigsh`), the density of all eigenvalues
from stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017; Ghorbani et al. 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from bn_field_plugin.ntk.kernel import Jacobian
from bn_field_plugin.progress import Tracker, silent

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


class Density(NamedTuple):
    """A spectrum as weighted points: `weights` is the share of the eigenvalues near each of `values`."""

    values: Float[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]

    def mean(self) -> float:
        """An unbiased estimate of the mean eigenvalue."""
        return float(self.weights @ self.values)

    def variance(self) -> float:
        """An estimate of the variance of the eigenvalues."""
        return float(self.weights @ self.values**2 - self.mean() ** 2)

    def quantile(self, share: float) -> float:
        """The value below which a share of the eigenvalues lies."""
        order = np.argsort(self.values)
        reached = np.cumsum(self.weights[order])
        index = min(int(np.searchsorted(reached, share * reached[-1])), len(order) - 1)
        return float(self.values[order][index])


def kernel_operator(found: Jacobian) -> LinearOperator:
    """`J J^T` as scipy's linear operator, which only multiplies."""
    from scipy.sparse.linalg import LinearOperator

    def product(vector: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            u = torch.as_tensor(np.ascontiguousarray(vector).reshape(-1), dtype=torch.float64)
            return found.times(found.transposed_times(u)).cpu().numpy()

    m = found.num_outputs
    return LinearOperator((m, m), matvec=product, rmatvec=product, dtype=np.float64)


def largest(operator: LinearOperator, count: int = 10, seed: int = 0) -> Float[np.ndarray, " k"]:
    """The largest eigenvalues, the largest first.

    Args:
        operator: symmetric and positive semi-definite.
        count: number of eigenvalues; less than the operator's size.
        seed: seed of the random first vector.
    """
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(seed).standard_normal(operator.shape[0])
    count = min(count, operator.shape[0] - 1)
    return np.sort(eigsh(operator, k=count, v0=start, return_eigenvectors=False))[::-1]


def density(
    operator: LinearOperator, steps: int = 60, probes: int = 8, seed: int = 0, tracker: Tracker = silent
) -> Density:
    """The density of the eigenvalues by stochastic Lanczos quadrature.

    Args:
        operator: symmetric and positive semi-definite.
        steps: Lanczos steps of each probe; the ends of the spectrum are sharp after a few tens.
        probes: number of random vectors; the error of the mean falls as 1 / sqrt(size * probes).
        seed: seed of the probes.
        tracker: shows progress.
    """
    generator = np.random.default_rng(seed)
    size = operator.shape[0]
    values, weights = [], []
    for _ in tracker(range(probes), "Lanczos probes"):
        start = generator.choice([-1.0, 1.0], size)
        nodes, shares = _quadrature(operator, start / np.sqrt(size), min(steps, size))
        values.append(nodes)
        weights.append(shares / probes)
    return Density(np.clip(np.concatenate(values), 0, None), np.concatenate(weights))


def _quadrature(
    operator: LinearOperator, start: Float[np.ndarray, " n"], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss quadrature from one Lanczos run with full reorthogonalisation."""
    from scipy.linalg import eigh_tridiagonal

    basis = [start]
    diagonal: list[float] = []
    off: list[float] = []
    while True:
        vector = operator.matvec(basis[-1])
        diagonal.append(float(vector @ basis[-1]))
        known = np.stack(basis)
        for _ in range(2):  # orthogonalising once loses digits, twice is enough (Parlett)
            vector = vector - known.T @ (known @ vector)
        norm = float(np.linalg.norm(vector))
        if len(basis) == steps or norm <= 1e-12 * max(abs(d) for d in diagonal):
            break
        off.append(norm)
        basis.append(vector / norm)
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(off))
    return nodes, vectors[0] ** 2
