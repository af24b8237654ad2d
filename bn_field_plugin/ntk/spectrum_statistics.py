"""Summaries of a spectrum: a few numbers and a histogram of its eigenvalues."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

TAIL = 0.1
"""Share of the eigenvalues, taken from the largest on, that `tail_share` leaves out."""

RESOLVED = 1e-12
"""Eigenvalues below this share of the largest are rounding errors of fp64, and count as zero."""


@dataclass(frozen=True)
class SpectrumStatistics:
    """Numbers of a spectrum of n eigenvalues; ratios do not depend on the kernel's scale."""

    mean: float
    """Mean eigenvalue, the trace over n."""
    variance: float
    """Variance of the eigenvalues (divided by n, not n - 1)."""
    maximum: float
    """Largest eigenvalue."""
    top_share: float
    """Largest eigenvalue over the trace, in [1/n, 1]."""
    effective_rank: float
    """Exponential of the entropy of the eigenvalues' shares of the trace (Roy & Vetterli 2007), in [1, n]."""
    condition: float
    """Largest over smallest eigenvalue; infinite if the smallest counts as zero."""
    median_to_mean: float
    """Median over mean: 1 for equal eigenvalues, near 0 where a few are huge."""
    tail_share: float
    """Share of the trace that lies outside the largest tenth of the eigenvalues."""
    resolved: float
    """Share of the eigenvalues that are above rounding errors."""

    def as_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


def statistics_of(values: Float[np.ndarray, " n"]) -> SpectrumStatistics:
    """Numbers of a spectrum.

    Args:
        values: all eigenvalues, zeros included, in any order; at least one is above zero.
    """
    values = np.sort(np.clip(values, 0, None))[::-1]
    total = values.sum()
    if total <= 0:
        nan = float("nan")
        return SpectrumStatistics(0.0, 0.0, 0.0, nan, nan, float("inf"), nan, nan, 0.0)
    shares = values / total
    positive = shares[shares > 0]
    smallest = values[-1]
    top = max(1, round(TAIL * len(values)))
    return SpectrumStatistics(
        mean=float(values.mean()),
        variance=float(values.var()),
        maximum=float(values[0]),
        top_share=float(shares[0]),
        effective_rank=float(np.exp(-(positive * np.log(positive)).sum())),
        condition=float(values[0] / smallest) if smallest > RESOLVED * values[0] else float("inf"),
        median_to_mean=float(np.median(values) / values.mean()),
        tail_share=float(shares[top:].sum()),
        resolved=float((values > RESOLVED * values[0]).mean()),
    )


@dataclass(frozen=True)
class Histogram:
    """Eigenvalues counted in bins of equal width on a logarithmic axis."""

    edges: Float[np.ndarray, " b1"]
    """Edges of the bins, one more than bins."""
    counts: Int[np.ndarray, " b"]
    """Eigenvalues in each bin."""
    below: int
    """Number of eigenvalues below the first edge, which are rounding errors or zero."""


def log_histogram(
    values: Float[np.ndarray, " n"], low: float | None = None, high: float | None = None, per_decade: int = 4
) -> Histogram:
    """Count eigenvalues in bins of `1 / per_decade` decades.

    Args:
        values: the eigenvalues; one is above zero.
        low: lower end of the axis; by default `RESOLVED` times the largest eigenvalue.
        high: upper end of the axis; by default the largest eigenvalue.
        per_decade: bins in a factor of ten.
    """
    top = float(values.max()) if high is None else high
    bottom = RESOLVED * top if low is None else low
    first = np.floor(np.log10(bottom) * per_decade)
    last = max(np.ceil(np.log10(top) * per_decade), first + 1)
    edges = 10 ** (np.arange(first, last + 1) / per_decade)
    edges[-1] *= 1 + 1e-12
    counts, _ = np.histogram(values, edges)
    return Histogram(edges, counts, int((values < edges[0]).sum()))
