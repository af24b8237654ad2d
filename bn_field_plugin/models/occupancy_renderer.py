"""Rendering a bounded scene: samples where an occupancy grid has something, and none behind opaque matter."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.fields.hash_radiance_field import HashRadianceField
from bn_field_plugin.nn import UserError, frozen_statistics
from bn_field_plugin.nn.errors import tell
from bn_field_plugin.sampling import OccupancyGrid, PackedSamples, Rays, composite, march, sample_weights
from bn_field_plugin.sampling.box import crossing
from bn_field_plugin.sampling.compositing import median_depth

MIN_LIGHT = 1e-3
"""Share of light that must get through to a sample: what lies further behind is not seen."""

MIN_WEIGHT = 2e-4
"""Least weight of a sample in a picture whose colour is asked for."""

FIRST_WAVE, LAST_WAVE = 4, 32
"""Samples of a ray that are looked at before what lies behind: many rays end at the first surface."""

UPDATE_EVERY = 16
"""Steps between two looks at the grid's cells."""

ALL_CELLS_UNTIL = 256
"""Steps during which each update looks at all cells, later at a quarter of them."""

MAX_RAYS = 2**13
"""Most rays of a training step."""


class Rendered(NamedTuple):
    """What rays see, without any background."""

    color: Float[Tensor, "r 3"]
    accumulation: Float[Tensor, "r 1"]
    depth: Float[Tensor, "r 1"]
    """Distance at which half of the light has been absorbed; where less is, the far end."""


class OccupancyRenderer(nn.Module):
    """Renders rays through a box.

    Args:
        aabb: corners of the box.
        resolution: cells of the grid along each axis.
        steps_per_ray: samples on the box's diagonal.
        samples_per_step: samples of a training step, of all processes together, after `MIN_LIGHT`.
        near: smallest distance of a sample from the camera.

    Raises:
        UserError: fewer than two steps or samples, or a grid as `OccupancyGrid` refuses it.
    """

    num_rays: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        resolution: int,
        steps_per_ray: int,
        samples_per_step: int,
        near: float,
    ) -> None:
        super().__init__()
        for name, value in (("steps-per-ray", steps_per_ray), ("samples-per-step", samples_per_step)):
            if value < 2:
                raise UserError(f"--pipeline.model.{name} is {value}: it must be at least 2")
        self.grid = OccupancyGrid(aabb, resolution)
        self.step = float((aabb[1] - aabb[0]).norm()) / steps_per_ray
        self.samples_per_step = samples_per_step
        self.near = near
        self.register_buffer("num_rays", torch.tensor(0))
        self._begin()

    def _begin(self) -> None:
        """As few rays as fit if every step of a ray has a sample."""
        steps = int(float((self.grid.aabb[1] - self.grid.aabb[0]).norm()) / self.step)
        self.num_rays.fill_(max(self.samples_per_step // steps, 8))

    def rays_of(self, origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"]) -> Rays:
        """Rays from where they enter the box to where they leave it."""
        nears, fars = crossing(origins.detach(), directions.detach(), self.grid.aabb)
        return Rays(origins, directions, nears.clamp_min(self.near), fars)

    def update(self, field: HashRadianceField, step: int) -> None:
        """Look at the grid's cells, if it is time; the statistics stay as they are."""
        if step % UPDATE_EVERY:
            return
        fraction = 1.0 if step < ALL_CELLS_UNTIL else 0.25
        with frozen_statistics(field):
            if not self.grid.update(lambda points: field.density_at(points)[0], self.step, fraction):
                tell(
                    f"step {step}: the occupancy grid has become empty, all of it is looked at again; "
                    "if this comes back, the box misses the object, or the pictures are empty"
                )
                self._begin()

    def train_rays(self, field: HashRadianceField, rays: Rays) -> Rendered:
        """Render with gradients, or as if there were, each ray's samples shifted at random."""
        samples = march(rays, self.grid.cells, self.step, torch.rand_like(rays.nears)).samples
        samples = self._visible(field, rays, samples)
        if torch.is_grad_enabled():
            self._adapt(rays.num, samples.num)
        # One sample alone has no statistics; among several processes, the others' are in them too.
        alone = samples.num < 2 and not _is_joined()
        with frozen_statistics(field) if alone else nullcontext():
            density, features = field.density_at(samples.positions(rays))
            color = field.color_at(features, rays.directions[samples.ray])
        seen = composite(density, color, samples)
        nothing = torch.zeros_like(seen.accumulation)
        depth = median_depth(seen.weights.detach(), samples, nothing)
        return Rendered(seen.color, seen.accumulation[:, None], _depth_or_far(depth, rays))

    @torch.no_grad()
    def _visible(self, field: HashRadianceField, rays: Rays, samples: PackedSamples) -> PackedSamples:
        """Samples that light gets through to, by the running statistics."""
        if samples.num == 0:
            return samples
        with frozen_statistics(field):
            density, _ = field.density_at(samples.positions(rays))
        _, light = sample_weights(density, samples)
        return samples.keep(light >= MIN_LIGHT)

    def _adapt(self, rays: int, samples: int) -> None:
        """Choose the next step's rays, so that it holds as many samples as asked for."""
        total = torch.tensor(float(samples), device=self.num_rays.device)
        if _is_joined():
            dist.all_reduce(total)
        change = min(max(self.samples_per_step / max(float(total), 1.0), 0.5), 1.5)
        self.num_rays.fill_(int(min(max(rays * change, 8), MAX_RAYS)))

    @torch.no_grad()
    def render(self, field: HashRadianceField, rays: Rays) -> Rendered:
        """Render a picture's rays, from near to far until no light gets through."""
        color = torch.zeros_like(rays.origins)
        accumulation = torch.zeros_like(rays.nears)
        depth = torch.full_like(accumulation, torch.inf)
        alive = (rays.fars > rays.nears).nonzero()[:, 0]
        next_step = torch.zeros_like(alive)
        wave = FIRST_WAVE
        while len(alive):
            ahead = rays.some(alive)
            middle = torch.full_like(ahead.nears, 0.5)
            samples, next_step, is_over = march(
                ahead, self.grid.cells, self.step, middle, next_step, limit=wave
            )
            before = accumulation[alive]
            density, features = field.density_at(samples.positions(ahead))
            weights, _ = sample_weights(density, samples)
            weights = weights * (1 - before)[samples.ray]
            matters = weights >= MIN_WEIGHT
            rgb = color.new_zeros(samples.num, 3)
            rgb[matters] = field.color_at(features[matters], ahead.directions[samples.ray[matters]])
            color.index_add_(0, alive[samples.ray], weights[:, None] * rgb)
            accumulation.index_add_(0, alive[samples.ray], weights)
            depth[alive] = torch.minimum(depth[alive], median_depth(weights, samples, before))
            goes_on = ~is_over & (accumulation[alive] < 1 - MIN_LIGHT)
            alive, next_step = alive[goes_on], next_step[goes_on]
            wave = min(2 * wave, LAST_WAVE)
        return Rendered(color, accumulation[:, None], _depth_or_far(depth, rays))


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _depth_or_far(depth: Float[Tensor, " r"], rays: Rays) -> Float[Tensor, "r 1"]:
    """Depths, and the far end of rays that have none."""
    return torch.where(depth.isfinite(), depth, torch.maximum(rays.fars, rays.nears))[:, None]
