"""Estimates, from small trials, of the time for measuring a fitted shape, to keep a command's time limit."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
import torch

from bn_field_plugin.geometry import isosurface
from bn_field_plugin.nn import CoordinateMLP
from standalone.fitting import finished
from standalone.plots import new_figure
from standalone.shape.inference import inside
from standalone.shape.inputs import ShapeInput
from standalone.shape.metrics import surface_metrics
from standalone.shape.sampling import SamplingConfig, SolidSampler
from standalone.shape.shading import Viewpoint, shade
from standalone.shape.task import CALIBRATION_BATCHES, MeasureOptions
from standalone.time_limit import Timed

MEASURING_SHARE = 0.25
"""Share of the time after reading a shape that mesh and metrics may take."""

LEAST = MeasureOptions(resolution=48, iou_points=2**14, iou_grid=32, surface_points=2**12)
"""The coarsest measuring, which is done however short the time is."""

PROBES = 2**15
"""Number of points in a trial, from which the time of one point is estimated."""

PROBED_GRID = 48
"""Grid points along each side in the trial of marching cubes."""

PROBED_SIDE = 64
"""Side in pixels of the picture in the trial of shading."""


@dataclass(frozen=True)
class MeasuringTimes:
    """Estimated seconds for parts of the measuring."""

    network: float
    """Seconds to evaluate the network at a point."""
    solid: float
    """Seconds to draw a point and to test whether the true shape contains it."""
    marching: float
    """Seconds of marching cubes for a point of the grid."""
    distances: float
    """Seconds of the distances between surfaces for a point on each surface."""
    statistics: float
    """Seconds to make the statistics exact."""

    @classmethod
    def of(cls, shape: ShapeInput, network: CoordinateMLP, points: int) -> MeasuringTimes:
        """Time the parts in small trials.

        Args:
            shape: the true shape.
            network: the network that will be fitted, in any state; it is not changed.
            points: number of points in a training step.
        """
        sampler = SolidSampler(shape.solid, SamplingConfig(PROBES), seed=0)
        sampler.next_batch()  # an untimed call, which does the work that only first calls do
        with Timed() as drawing:
            probes = sampler.next_batch()[0]
        device = next(network.parameters()).device
        batch = probes[:points].to(device)
        folded = finished(network, [batch])
        with Timed() as statistics:
            finished(network, [batch])
        inside(folded, probes[:64].numpy(), 0.0)
        with Timed() as evaluating:
            inside(folded, probes.numpy(), 0.0)
        axis = np.linspace(-1, 1, PROBED_GRID, dtype=np.float32)
        distance = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis)), axis=0)
        with Timed() as marching:
            isosurface(-distance, (-torch.ones(3), torch.ones(3)), -0.7)
        surface = shape.solid.surface
        with Timed() as comparing:
            surface_metrics(surface, surface, LEAST.surface_points)
        return cls(
            evaluating.seconds / PROBES,
            drawing.seconds / PROBES,
            marching.seconds / PROBED_GRID**3,
            comparing.seconds / LEAST.surface_points,
            statistics.seconds * CALIBRATION_BATCHES * points / len(batch),
        )

    def seconds(self, options: MeasureOptions) -> float:
        """Estimated seconds for mesh and metrics."""
        grid = options.resolution**3 * (self.network + self.marching)
        clouds = (2 * options.iou_points + options.iou_grid**3) * (self.network + self.solid)
        return grid + clouds + options.surface_points * self.distances

    def within(self, options: MeasureOptions, seconds: float) -> MeasureOptions:
        """The options, or coarser ones that take at most the given seconds, but never less than `LEAST`.

        Args:
            options: the finest measuring that is wanted.
            seconds: the time for mesh and metrics.
        """
        share = min(1.0, max(0.0, seconds) / self.seconds(options))
        if share == 1:
            return options
        found = {}
        for one in dataclasses.fields(options):
            most, least = getattr(options, one.name), getattr(LEAST, one.name)
            part = share ** (1 / 3) if one.name in ("resolution", "iou_grid") else share
            found[one.name] = max(min(most, least), int(most * part))
        return MeasureOptions(**found)


def rehearse_picture(shape: ShapeInput, panels: int, size: int) -> float:
    """Seconds that a picture of shaded panels and a chart will take; loads what is needed for them.

    Args:
        shape: the true shape.
        panels: number of panels.
        size: pixels along a side of each.
    """
    surface = shape.solid.surface
    shade(surface, Viewpoint(), 8)  # an untimed call, which does the work that only first calls do
    with Timed() as shading:
        shade(surface, Viewpoint(), PROBED_SIDE)
    new_figure()
    with Timed() as chart:
        new_figure(1, 2)[0].savefig(io.BytesIO())
    return shading.seconds * panels * (size / PROBED_SIDE) ** 2 + 2 * chart.seconds
