"""Figures of matplotlib with one look, made without a display and written whole."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bn_field_plugin.files import replacing
from bn_field_plugin.nn import NormName
from standalone.networks import Variant, by_norm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LineStyle = str | tuple[int, tuple[int, ...]]
"""A line style as matplotlib takes it."""

CHART_DPI = 120
"""Default number of dots per inch of figures."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
"""Settings of matplotlib for every figure."""

COLORS = {
    "mlp": "#4c72b0",
    "pemlp-1": "#dd8452",
    "pemlp-5": "#55a868",
    "siren": "#8172b3",
    "fourier": "#937860",
    "hash": "#c44e52",
    "finer": "#da8bc3",
    "wire": "#64b5cd",
    "wire-real": "#2f7f93",
    "gauss": "#ccb974",
}
"""Colours of the networks that are compared most."""

OTHER_COLORS = ("#8c8c8c", "#4d4d4d", "#b07aa1", "#9c755f")
"""Colours of all other networks, chosen by name."""

LINES_IN_PANEL = 8
"""Largest number of lines in a panel whose names fit into the panel."""

LINE_STYLES: dict[NormName, LineStyle] = by_norm(
    "--", "-", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), others=(0, (8, 2))
)
"""Line of each norm: solid with batch norm, dashed without norm."""


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (4.0, 3.0)
) -> tuple[Figure, np.ndarray]:
    """A figure with panels.

    Args:
        rows: rows of panels.
        columns: columns of panels.
        size: width and height of one panel in inches.

    Returns:
        The figure and its axes, always a (rows, columns) array.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Figure, path: Path, dpi: int = CHART_DPI, palette: bool = False) -> None:
    """Write a figure, complete or not at all, in the format that the suffix names.

    Args:
        figure: the figure.
        path: the file; its folder is made if absent.
        dpi: pixels in an inch, for pictures made of pixels.
        palette: write a PNG of 256 colours, whose file is small even if the figure contains pictures.
    """
    with replacing(path) as temporary:
        if not palette:
            figure.savefig(temporary, dpi=dpi)
            return
        from PIL import Image

        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
        with Image.open(drawn) as image:
            small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(temporary, "PNG", optimize=True)


def name_lines(figure: Figure, panel: Any) -> None:
    """Put the legend of a panel's lines into the panel, or beside all panels if it would hide the lines."""
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) > LINES_IN_PANEL:
        figure.legend(handles, labels, loc="outside right upper", fontsize=7)
    else:
        panel.legend(fontsize=7)


def draw_curves(
    histories: Iterable[tuple[Variant, Sequence[Mapping[str, float]]]], column: str, label: str, path: Path
) -> None:
    """Draw a measured quantity against steps and against seconds, with a line for each network.

    Args:
        histories: evaluations of each network during its fit, with `step` and `seconds`.
        column: name of the quantity in the evaluations.
        label: name of the quantity in the figure.
        path: the figure.
    """
    figure, axes = new_figure(1, 2)
    lines = list(histories)
    for panel, (key, name) in zip(axes[0], (("step", "steps"), ("seconds", "seconds")), strict=True):
        for variant, history in lines:
            panel.plot(
                [row[key] for row in history],
                [row[column] for row in history],
                color=color(variant),
                linestyle=linestyle(variant),
                label=variant.label,
            )
        panel.set_xlabel(name)
        panel.set_ylabel(label)
    name_lines(figure, axes[0, 0])
    save_figure(figure, path)


def color(variant: Variant) -> str:
    """Colour of a network, whatever its norm."""
    for name in (variant.network, variant.network.partition("-")[0]):  # hash-8 has the colour of hash
        if name in COLORS:
            return COLORS[name]
    return OTHER_COLORS[sum(variant.network.encode()) % len(OTHER_COLORS)]


def linestyle(variant: Variant) -> LineStyle:
    """Line of a norm, whatever the network."""
    return LINE_STYLES[variant.norm]
