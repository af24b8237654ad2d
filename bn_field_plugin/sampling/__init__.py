"""Samples along rays behind an occupancy grid: marching, packed samples, compositing.

Each part is written twice: in torch, for any device, and as compiled loops for a CPU, with the same results.
"""

from bn_field_plugin.sampling.compositing import (
    Composite,
    composite,
    light_along,
    median_depth,
    sample_weights,
)
from bn_field_plugin.sampling.marching import Cells, March, march
from bn_field_plugin.sampling.occupancy import OccupancyGrid
from bn_field_plugin.sampling.packed import PackedSamples, Rays

__all__ = [
    "Cells",
    "Composite",
    "March",
    "OccupancyGrid",
    "PackedSamples",
    "Rays",
    "composite",
    "light_along",
    "march",
    "median_depth",
    "sample_weights",
]
