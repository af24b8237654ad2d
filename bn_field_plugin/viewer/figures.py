"""The panel's plots, as plotly figures in the colours of the viewer's dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bn_field_plugin.viewer.history import History

ASPECT, TALL = 0.4, 0.54
"""Height over width of most plots, and of those with a bar for each layer. viser 0.2.7 documents its `aspect`
as width over height, but its page multiplies the width by it."""
BINS_PER_DECADE = 4
"""Bars of the histogram for each factor of ten."""
MOST_TICKS = 6
"""Most ticks of a logarithmic axis."""
INK, PAPER, GRID = "#c1c2c5", "#1a1b1e", "#373a40"
COLORS = ("#ffd369", "#74c0fc", "#ff8787", "#8ce99a", "#b197fc", "#ffa94d", "#66d9e8", "#f783ac")


def histogram(spectra: Mapping[str, Float[np.ndarray, " n"] | None], title: str) -> Any:
    """Histograms of log10 of eigenvalues, each with a mark at its mean; an empty plot without eigenvalues.

    Args:
        spectra: eigenvalues by the name that tells a spectrum from the others; with one spectrum it is not
            shown.
        title: title above the plot.
    """
    figure = _figure(title, "log10 eigenvalue", "count")
    for index, (name, values) in enumerate(spectra.items()):
        if values is not None and len(values) and values.max() > 0:
            _add_histogram(figure, values, name, COLORS[index % len(COLORS)])
    figure.update_layout(bargap=0.08, barmode="overlay")
    if len(spectra) > 1:
        figure.update_traces(opacity=0.65)
        _add_legend(figure, x=1, xanchor="right", y=1, yanchor="bottom")  # above: the axis' title is below
    return figure


def _add_histogram(figure: Any, values: Float[np.ndarray, " n"], name: str, color: str) -> None:
    from bn_field_plugin.ntk.spectrum_statistics import log_histogram

    found = log_histogram(values, per_decade=BINS_PER_DECADE)
    centers = np.log10(found.edges[:-1]) + 0.5 / BINS_PER_DECADE
    first = int(np.flatnonzero(found.counts)[0])  # empty bins below the first full one are left out
    bars: dict[str, Any] = {"name": name, "legendgroup": name, "marker_color": color}
    figure.add_bar(x=centers[first:].tolist(), y=found.counts[first:].tolist(), **bars)
    if found.below:  # one bar at the left, for eigenvalues that are rounding errors or zero
        left = float(centers[first]) - 1
        bars |= {"marker_color": GRID, "showlegend": False}
        figure.add_bar(x=[left], y=[found.below], width=1 / BINS_PER_DECADE, **bars)
        figure.add_annotation(x=left, y=found.below, text="~0", showarrow=False, yshift=8)
    mean = float(np.log10(values.mean()))
    figure.add_vline(x=mean, line_color=INK if not name else color, line_width=1, line_dash="dot")


def curves(history: History, names: Mapping[str, str], title: str, unit: str, log: bool = False) -> Any:
    """Curves over training steps.

    Args:
        history: numbers by step.
        names: label of each curve to draw, by its name in the history.
        title: title above the plot.
        unit: unit of the numbers.
        log: whether the numbers' axis is logarithmic.
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
        _add_legend(figure)
    return figure


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round values around others on a logarithmic axis, to be written out in full.

    Args:
        values: positive numbers.

    Returns:
        Two to `MOST_TICKS` rising values, the first below and the last above all `values`: 1, 2 and 5 times
        powers of ten where that makes few enough, else powers of ten; an empty list without values.
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
    """A plot with one bar for each name."""
    figure = _figure(title, unit, "")
    figure.add_bar(
        x=list(values.values())[::-1], y=list(values)[::-1], orientation="h", marker_color=COLORS[1]
    )
    figure.update_yaxes(dtick=1, tickfont_size=min(10, 100 // max(1, len(values))))  # a name to each bar
    return figure


def _add_legend(figure: Any, **place: Any) -> None:
    legend = {"orientation": "h", "y": -0.32, "x": 0, "font_size": 9, "bgcolor": "rgba(0,0,0,0)"}
    figure.update_layout(showlegend=True, legend={**legend, **place})


def _figure(title: str, x: str, y: str) -> Any:
    import plotly.graph_objects as go  # imported here: it takes a second, and only viewers need it

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
