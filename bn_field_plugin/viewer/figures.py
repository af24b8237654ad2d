"""The panel's plots, as plotly figures in the colours of the viewer's dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bn_field_plugin.viewer.history import History

ASPECT, TALL = 0.4, 0.54
"""Height over width, of most plots and of those with a bar for each layer: viser 0.2.7 documents the inverse,
and its page multiplies.
"""
BINS_PER_DECADE = 4
"""Bars of the histogram in a factor of ten."""
MOST_TICKS = 6
"""Ticks of a logarithmic axis."""
INK, PAPER, GRID, ACCENT = "#c1c2c5", "#1a1b1e", "#373a40", "#ffd369"
COLORS = ("#ffd369", "#74c0fc", "#ff8787", "#8ce99a", "#b197fc", "#ffa94d", "#66d9e8", "#f783ac")


def histogram(values: Float[np.ndarray, " n"] | None, title: str) -> Any:
    """Histogram of log10 of eigenvalues, with a mark at their mean; empty where there are none."""
    figure = _figure(title, "log10 eigenvalue", "count")
    if values is None or not len(values) or values.max() <= 0:
        return figure
    from standalone.ntk.spectrum import log_histogram

    found = log_histogram(values, per_decade=BINS_PER_DECADE)
    centers = np.log10(found.edges[:-1]) + 0.5 / BINS_PER_DECADE
    first = int(np.flatnonzero(found.counts)[0])  # empty bins below it say nothing
    figure.add_bar(x=centers[first:].tolist(), y=found.counts[first:].tolist(), marker_color=ACCENT)
    if found.below:  # one bar at the left, for what is rounding or zero
        left = float(centers[first]) - 1
        figure.add_bar(x=[left], y=[found.below], width=1 / BINS_PER_DECADE, marker_color=GRID)
        figure.add_annotation(x=left, y=found.below, text="~0", showarrow=False, yshift=8)
    figure.update_layout(bargap=0.08)
    figure.add_vline(x=float(np.log10(values.mean())), line_color=INK, line_width=1, line_dash="dot")
    return figure


def curves(history: History, names: Mapping[str, str], title: str, unit: str, log: bool = False) -> Any:
    """Curves over training steps.

    Args:
        history: the numbers.
        names: names of the curves to draw, each with its label.
        title: above the plot.
        unit: of the numbers.
        log: logarithmic axis for the numbers.
    """
    figure = _figure(f"{title}, by step", "", unit)
    for index, (name, label) in enumerate(names.items()):
        steps, values = history.curve(name)
        mode = "lines" if len(steps) > 1 else "markers"
        color = COLORS[index % len(COLORS)]
        figure.add_scatter(x=steps, y=values, mode=mode, name=label, line_color=color, marker_color=color)
    if log:
        ticks = log_ticks([value for name in names for value in history.curve(name)[1] if value > 0])
        labels = [f"{tick:g}" for tick in ticks]
        figure.update_yaxes(type="log", tickmode="array", tickvals=ticks, ticktext=labels)
        if ticks:
            figure.update_yaxes(range=[math.log10(ticks[0]) - 0.03, math.log10(ticks[-1]) + 0.03])
    if len(names) > 1:
        legend = {"orientation": "h", "y": -0.32, "x": 0, "font_size": 9, "bgcolor": "rgba(0,0,0,0)"}
        figure.update_layout(showlegend=True, legend=legend)
    return figure


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round values around others on a logarithmic axis, to be written out in full.

    Args:
        values: positive numbers.

    Returns:
        Two to `MOST_TICKS` values, rising, the first below and the last above all `values`: 1, 2 and 5 times
        powers of ten where these suffice, powers of ten otherwise; nothing where there are no values.
    """
    if not values:
        return []
    low, high = math.log10(min(values)), math.log10(max(values))
    for digits in ((1, 2, 5), (1, 3)):
        decades = range(math.floor(low) - 1, math.ceil(high) + 2)
        grid = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        first = max(index for index, tick in enumerate(grid) if math.log10(tick) < low)
        last = min(index for index, tick in enumerate(grid) if math.log10(tick) > high)
        if last - first < MOST_TICKS:
            return grid[first : last + 1]
    start, end = math.ceil(low) - 1, math.floor(high) + 1
    stride = -(-(end - start) // (MOST_TICKS - 1))
    return [float(f"1e{start + i * stride}") for i in range(-(-(end - start) // stride) + 1)]


def bars(values: Mapping[str, float], title: str, unit: str) -> Any:
    """One bar for each name."""
    figure = _figure(title, unit, "")
    figure.add_bar(
        x=list(values.values())[::-1], y=list(values)[::-1], orientation="h", marker_color=COLORS[1]
    )
    figure.update_yaxes(dtick=1, tickfont_size=min(10, 100 // max(1, len(values))))  # a name to each bar
    return figure


def _figure(title: str, x: str, y: str) -> Any:
    import plotly.graph_objects as go  # a second to import, and for viewers alone

    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True}
    layout = go.Layout(
        template=None,
        title={"text": title, "font_size": 12, "x": 0.02, "y": 0.97},
        font={"color": INK, "size": 10},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        showlegend=False,
        xaxis={"title": {"text": x, "standoff": 4}, **axis},
        yaxis={"title": {"text": y, "standoff": 4}, **axis},
    )
    return go.Figure(layout=layout)
