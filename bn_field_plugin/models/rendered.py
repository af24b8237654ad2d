"""The result of rendering rays, whichever renderer draws the samples."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.sampling import PackedSamples

MIN_WEIGHT = 2e-4
"""Least weight of a sample in a picture for which its colour is computed."""


class Rendered(NamedTuple):
    """Colour, opacity and depth of rays, without any background."""

    color: Float[Tensor, "r 3"]
    accumulation: Float[Tensor, "r 1"]
    depth: Float[Tensor, "r 1"]
    """Distance at which half of the light is absorbed; the ray's far end where less than half is."""
    densest: Float[Tensor, "r 1"]
    """Largest density of a sample; without a gradient."""


def densest(density: Float[Tensor, " n"], samples: PackedSamples) -> Float[Tensor, "r 1"]:
    """Largest density on each ray, without a gradient; 0 where there is no sample."""
    nothing = density.new_zeros(samples.first.shape[0] - 1)
    return nothing.scatter_reduce(0, samples.ray, density.detach(), "amax")[:, None]
