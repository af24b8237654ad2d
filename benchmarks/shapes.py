"""What the benchmarks on shapes share: shapes, and one fit with its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions, RunOptions
from standalone.shape.inputs import ShapeInput, load_shape
from standalone.shape.metrics import volume_metrics
from standalone.shape.sampling import SamplingConfig
from standalone.shape.task import FitOptions, fit_shape

IOU_POINTS = 2**18
"""Points behind each IoU."""


@dataclass(frozen=True)
class Score:
    """One fit."""

    near: float
    """IoU near the surface."""
    uniform: float
    """IoU of points that are uniform in the box."""
    steps: int
    """Steps taken."""


def load_shapes(paths: Sequence[Path]) -> list[ShapeInput]:
    """The shapes of files; without any, the built-in one."""
    return [load_shape(path) for path in paths] or [load_shape(None)]


def names_of(shapes: Sequence[ShapeInput]) -> str:
    """Names for a table's command."""
    return " ".join(shape.name for shape in shapes)


def fit_and_score(
    shape: ShapeInput,
    network: NetworkOptions,
    run: RunOptions,
    optimization: OptimizationConfig,
    points: int,
) -> Score:
    """Fit a network, and measure the final one."""
    options = FitOptions(network, sampling=SamplingConfig(points), run=run, optimization=optimization)
    fitted, state, _ = fit_shape(shape, options)
    metrics = volume_metrics(shape.solid, fitted.inside, IOU_POINTS, resolution=32)
    return Score(metrics["iou_near_surface"], metrics["iou_uniform"], state.step)
