"""Histograms of spectra, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bn_field_plugin.ntk.spectrum_statistics import RESOLVED, log_histogram, statistics_of


def draw_histogram(
    axes: Any,
    spectra: Sequence[Float[np.ndarray, " n"]],
    color: str,
    *,
    outline: bool = False,
    label: str = "",
    low: float | None = None,
    high: float | None = None,
) -> None:
    """Draw a histogram of spectra: mean counts over their seeds, with a line at the mean eigenvalue.

    Args:
        axes: of matplotlib.
        spectra: eigenvalues, one array for each seed.
        color: of the bars.
        outline: draw only their outline.
        label: for the legend.
        low: lower end of the histogram; by default, smaller eigenvalues would be rounding errors.
        high: upper end of the histogram; by default the largest eigenvalue.
    """
    top = max(float(values.max()) for values in spectra) if high is None else high
    bottom = RESOLVED * top if low is None else low
    histograms = [log_histogram(values, bottom, top) for values in spectra]
    counts = np.mean([histogram.counts for histogram in histograms], axis=0)
    edges = histograms[0].edges
    if outline:
        axes.stairs(counts, edges, color="black", linewidth=0.9, label=label)
    else:
        axes.stairs(counts, edges, color=color, fill=True, alpha=0.85, label=label)
        axes.axvline(
            np.mean([values.mean() for values in spectra]), color="black", linewidth=0.8, linestyle=":"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.5, None)


def note_statistics(axes: Any, spectra: Sequence[Float[np.ndarray, " n"]]) -> None:
    """Write numbers of spectra that no scale changes into a corner, as means over seeds."""
    found = [statistics_of(values) for values in spectra]
    text = "\n".join(
        [
            f"max/trace {np.mean([s.top_share for s in found]):.2f}",
            f"median/mean {np.mean([s.median_to_mean for s in found]):.1e}",
        ]
    )
    axes.text(0.03, 0.96, text, transform=axes.transAxes, va="top", fontsize=7.5)
