"""The true shape and its reconstructions side by side, as in the 3D panel of Cai et al."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from standalone.plots import new_figure
from standalone.shape.contender import Contender
from standalone.shape.errors import COLORMAP, WORST, error_colors, surface_error
from standalone.shape.inputs import ShapeInput
from standalone.shape.shading import Viewpoint, shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS_IN_ROW, WRAPPED_ROW = 8, 6
"""Most panels in a single row, and panels in each row if one row is not enough."""


PANEL_SIDE = 260
"""Default number of pixels along a side of a panel."""


def draw_contenders(
    shape: ShapeInput, contenders: Sequence[Contender], view: Viewpoint, size: int = PANEL_SIDE
) -> Figure:
    """The true shape and each reconstruction, shaded above and coloured by its error below.

    Args:
        shape: the true shape.
        contenders: the reconstructions.
        view: the camera of all panels.
        size: pixels along a side of a panel.
    """
    true = shape.solid.surface
    side = size / 120
    columns = len(contenders) + 1
    if columns > PANELS_IN_ROW:
        columns = min(columns, WRAPPED_ROW)
    bands = -(-(len(contenders) + 1) // columns)
    figure, axes = new_figure(2 * bands, columns, size=(side, side * 1.08))
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(shade(true, view, size))
    axes[0, 0].set_title(f"{shape.name}\nground truth", fontsize=8)
    for place, one in enumerate(contenders, start=1):
        band, column = divmod(place, columns)
        shaded, coloured = axes[2 * band, column], axes[2 * band + 1, column]
        colors = None if one.surface is None else error_colors(surface_error(one.surface, true))
        shaded.imshow(shade(one.surface, view, size))
        coloured.imshow(shade(one.surface, view, size, colors))
        near = one.metrics["iou_near_surface"]
        shaded.set_title(f"{one.variant.label}\nIoU {near:.3f} near the surface", fontsize=8)
    scale = axes[1, 0].inset_axes((0.45, 0.1, 0.1, 0.8))
    percent = (0, 1, 0, WORST * 100)
    scale.imshow(
        np.linspace(0, 1, 256)[:, None], aspect="auto", cmap=COLORMAP, origin="lower", extent=percent
    )
    scale.set_xticks([])
    scale.grid(False)
    scale.set_ylabel("distance to the true surface\n(% of the box's side)", fontsize=7)
    scale.tick_params(labelsize=7)
    return figure
