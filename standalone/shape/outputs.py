"""The files that a fit writes into its folder: network, mesh, picture, curves, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bn_field_plugin.files import write_whole
from bn_field_plugin.geometry import write_mesh
from standalone.command_line import CONFIG
from standalone.networks import Variant
from standalone.options import RunOptions
from standalone.plots import draw_curves, save_figure
from standalone.report import csv_text, write_metrics
from standalone.results import Results
from standalone.shape.contender import Contender
from standalone.shape.fitted import FILE_NAME
from standalone.shape.inputs import ShapeInput
from standalone.shape.pictures import draw_contenders
from standalone.shape.shading import Viewpoint

CHECKPOINT = "checkpoint.pt"
"""File of a fit's state."""
RESULTS = Results(
    "bn-shape fit",
    (*(FILE_NAME, "mesh.ply", "picture.png", "curve.png", "curve.csv", "metrics.json", CHECKPOINT, CONFIG),),
    kept=(CHECKPOINT, CONFIG),
)
"""The files that a fit writes into its folder."""


PICTURE_SIDE = 420
"""Pixels along a side of a panel of a fit's picture."""
PANELS = 3
"""Number of shaded panels in a fit's picture."""


def write_fit(
    folder: Path, shape: ShapeInput, result: Contender, run: RunOptions, view: Viewpoint
) -> dict[str, Any]:
    """Write all results of a fit but its checkpoint and options.

    Args:
        folder: folder for the files.
        shape: the true shape.
        result: the fit.
        run: options of the run.
        view: camera of the picture.

    Returns:
        The content of metrics.json.
    """
    result.shape.save(folder / FILE_NAME)
    if result.surface is not None:
        write_mesh(shape.frame.mesh_from_box(result.surface), folder / "mesh.ply")
    save_figure(
        draw_contenders(shape, [result], view, size=PICTURE_SIDE), folder / "picture.png", palette=True
    )
    draw_history([result], folder / "curve.png")
    write_whole(folder / "curve.csv", csv_text(result.history, ["step", "seconds", "loss", "iou"]))
    numbers = {**result.metrics, "notes": list(shape.notes)}
    return write_metrics(folder / "metrics.json", numbers, run.seed, run.torch_device())


def draw_history(results: Sequence[Contender], path: Path) -> None:
    """IoU on held-out points during the fits."""
    histories = ((one.variant, one.history) for one in results)
    draw_curves(histories, "iou", "IoU on held-out points", path)


def label_of(variant: Variant, metrics: dict[str, Any]) -> str:
    """One line on a fit's result."""
    return (
        f"{variant.label}: IoU {metrics['iou_uniform']:.4f} uniform, {metrics['iou_near_surface']:.4f} near "
        f"the surface, after {metrics['steps']} steps ({metrics['seconds']:.1f} s)"
    )
