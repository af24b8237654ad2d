"""Spectra on pages: each eigenvalue by its rank, and how many there are of each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bn_field_plugin.ntk.spectrum_statistics import RESOLVED, log_histogram
from standalone.pages import Line, Plot, line_panels

STYLES = {"batch": ("#c44e52", "solid"), "frozen": ("#222222", "dot"), "running": ("#4c72b0", "dash")}
"""Colour and line of a spectrum by whose statistics its norms take."""


@dataclass(frozen=True)
class ShownSpectrum:
    """A spectrum as a plot shows it: of one network, or the mean over networks that differ in their seeds."""

    name: str
    """Its name in the legend."""
    spectra: Sequence[Float[np.ndarray, " n"]]
    """Eigenvalues, one array for each seed."""
    color: str
    """Its line's colour."""
    dash: str = "solid"
    """Its line's dash, by plotly's name."""


def spectrum_plots(panels: Mapping[str, Sequence[ShownSpectrum]]) -> list[Plot]:
    """Plots of spectra with logarithmic axes, by rank and by size.

    Args:
        panels: the spectra by the panel's title.
    """
    ranks = {title: [by_rank(one) for one in shown] for title, shown in panels.items()}
    counts = {title: histograms(shown) for title, shown in panels.items()}
    axes = ("rank",), ("eigenvalue of the NTK",)
    columns = 2 if len(panels) == 4 else 3
    return [
        Plot(
            "Eigenvalues by rank",
            line_panels(ranks, *axes, log="xy", columns=columns),
            "Means over seeds where there are several. A click on a name in the legend hides its lines.",
        ),
        Plot(
            "Eigenvalues by size",
            line_panels(counts, ("eigenvalue of the NTK",), ("number",), log="xy", columns=columns),
            "Four bins to a factor of ten. What is left out at the left is rounding or zero.",
        ),
    ]


def by_rank(shown: ShownSpectrum) -> Line:
    """Eigenvalues by rank, without rounding errors: means over seeds, with shares of the trace."""
    values = np.mean([np.sort(one)[::-1] for one in shown.spectra], axis=0)
    share = values / max(values.sum(), np.finfo(float).tiny)
    kept = values > RESOLVED * values[0]
    return Line(
        shown.name,
        np.flatnonzero(kept) + 1,
        values[kept],
        shown.color,
        shown.dash,
        "number %{x}: %{y:.3g}, %{customdata:.2%} of the trace",
        share[kept],
    )


def histograms(shown: Sequence[ShownSpectrum]) -> list[Line]:
    """One line for each spectrum: its histogram, means over seeds, in bins that all of them share."""
    top = max((float(values.max()) for one in shown for values in one.spectra), default=0.0)
    if top <= 0:
        return []
    lines = []
    for one in shown:
        found = [log_histogram(values, RESOLVED * top, top) for values in one.spectra]
        counts = np.mean([histogram.counts for histogram in found], axis=0)
        centers = np.sqrt(found[0].edges[:-1] * found[0].edges[1:])
        taken = np.flatnonzero(counts)
        span = slice(taken[0], taken[-1] + 1) if len(taken) else slice(0)
        lines.append(
            Line(
                one.name,
                centers[span],
                np.where(counts > 0, counts, np.nan)[span],
                one.color,
                one.dash,
                "around %{x:.2g}: %{y:.4g}",
                is_histogram=True,
            )
        )
    return lines
