"""Batches of a shape's fit: points drawn anew for every step, and whether they lie inside."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.errors import UserError
from standalone.sampling import Batch
from standalone.shape.metrics import BOX_SIDE, SIGMA
from standalone.shape.solids import Solid, VolumeSolid


@dataclass(frozen=True)
class SamplingConfig:
    """Points of each step: some all over the box, the others near the surface."""

    points: int = 2**14
    """Points in a step."""
    near_surface: float = 0.5
    """Share of the points that is drawn near the surface; the others are uniform in the box."""
    sigma: float = SIGMA
    """Standard deviation of the near points' distance, as a share of the box's side."""

    def check(self) -> None:
        """Check the ranges of the numbers.

        Raises:
            UserError: a number is out of its range.
        """
        if self.points < 2:
            raise UserError(f"--points is {self.points}: it must be at least 2")
        if not 0 <= self.near_surface <= 1:
            raise UserError(f"--near-surface is {self.near_surface}: it must lie in [0, 1]")
        if not self.sigma > 0:
            raise UserError(f"--sigma is {self.sigma}: it must be above 0")


class SolidSampler:
    """Batches of fresh points and their occupancy, 1 inside and 0 outside.

    Args:
        solid: the shape.
        config: how the points are drawn.
        seed: seed of the points.
        device: device of the batches.

    Attributes:
        seconds: seconds that drawing and testing points have taken so far.
    """

    def __init__(
        self, solid: Solid, config: SamplingConfig, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.solid, self.config, self.device = solid, config, device
        self._generator = np.random.default_rng(seed)
        self.seconds = 0.0

    def next_batch(self) -> Batch:
        """Fresh points and their occupancy."""
        start = time.perf_counter()
        config, generator = self.config, self._generator
        near = round(config.points * config.near_surface)
        surface, _ = self.solid.surface_points(near, generator)
        points = np.concatenate(
            [
                surface + generator.normal(0, config.sigma * BOX_SIDE, surface.shape),
                generator.uniform(-1, 1, (config.points - near, 3)),
            ]
        )
        inside = self.solid.inside(points)
        batch = to_tensor(points, self.device), to_tensor(inside[:, None], self.device)
        self.seconds += time.perf_counter() - start
        return batch

    def state_dict(self) -> dict[str, Any]:
        """State of the random numbers."""
        return {"generator": self._generator.bit_generator.state, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the random numbers of a checkpoint."""
        self._generator.bit_generator.state = state["generator"]
        self.seconds = float(state["seconds"])


def voxel_batch(solid: VolumeSolid, indices: Tensor, device: torch.device | str = "cpu") -> Batch:
    """Centres of voxels, by their flat indices, and their occupancy (WIRE's volume protocol)."""
    shape = np.array(solid.occupancy.shape)
    cells = np.stack(np.unravel_index(indices.numpy(), solid.occupancy.shape), axis=-1)
    points = ((cells + 0.5) / shape * 2 - 1) * solid.half
    inside = solid.occupancy.reshape(-1)[indices.numpy()]
    return to_tensor(points, device), to_tensor(inside[:, None], device)


def to_tensor(array: np.ndarray, device: torch.device | str) -> Float[Tensor, "n k"]:
    """The array in fp32 on a device."""
    return torch.from_numpy(array.astype(np.float32)).to(device)
