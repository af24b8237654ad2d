"""Rays, and their samples in one dimension: each ray has as many samples as it needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Rays(NamedTuple):
    """Rays, and the part of each that may have samples; lengths in units of the scene."""

    origins: Float[Tensor, "r 3"]
    """Where rays begin."""
    directions: Float[Tensor, "r 3"]
    """Directions, of length 1."""
    nears: Float[Tensor, " r"]
    """Distance of the nearest point that may be sampled."""
    fars: Float[Tensor, " r"]
    """Distance of the farthest such point; at most the near one if the ray has none."""

    def some(self, index: Int[Tensor, " s"]) -> Rays:
        """Some of the rays, by their numbers."""
        return Rays(*(part.index_select(0, index) for part in self))

    @property
    def num(self) -> int:
        """Number of rays."""
        return self.origins.shape[0]


class PackedSamples(NamedTuple):
    """Samples of rays, ray after ray, each ray's from near to far."""

    ray: Int[Tensor, " n"]
    """Ray of each sample."""
    middle: Float[Tensor, " n"]
    """Distance of each sample's middle from the origin of its ray."""
    length: Float[Tensor, " n"]
    """Length of each sample along its ray."""
    first: Int[Tensor, " r1"]
    """Each ray's first sample, and the number of samples at the end: one number more than rays."""

    @property
    def num(self) -> int:
        """Number of samples."""
        return self.ray.shape[0]

    @property
    def counts(self) -> Int[Tensor, " r"]:
        """Number of samples of each ray."""
        return self.first[1:] - self.first[:-1]

    def positions(self, rays: Rays) -> Float[Tensor, "n 3"]:
        """Middles of the samples in space; differentiable in the rays."""
        origins, directions = (x.index_select(0, self.ray) for x in (rays.origins, rays.directions))
        return torch.addcmul(origins, directions, self.middle[:, None])

    def keep(self, kept: Tensor) -> PackedSamples:
        """Some of the samples.

        Args:
            kept: which, one truth value a sample.
        """
        before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
        return PackedSamples(self.ray[kept], self.middle[kept], self.length[kept], before[self.first])
