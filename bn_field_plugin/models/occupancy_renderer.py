"""Rendering a bounded scene: samples in occupied cells of an occupancy grid, none behind opaque matter."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import UserError, tell
from bn_field_plugin.fields.hash_radiance_field import HashRadianceField
from bn_field_plugin.models.rendered import MIN_WEIGHT, Rendered, densest
from bn_field_plugin.nn import StatisticsMode, frozen_statistics, running_norms
from bn_field_plugin.sampling import (
    OccupancyGrid,
    PackedSamples,
    Rays,
    composite,
    light_along,
    march,
    sample_weights,
)
from bn_field_plugin.sampling.box import crossing
from bn_field_plugin.sampling.compositing import median_depth

MIN_LIGHT = 1e-3
"""Share of light that must get through to a sample; samples that get less are left out."""

FIRST_WAVE, LAST_WAVE = 4, 64
"""Most samples of a ray in the first wave and in later waves of `OccupancyRenderer.look`. The first is short
because many rays end at the first surface."""

UPDATE_EVERY = 16
"""Training steps between two updates of the grid's cells."""

ALL_CELLS_UNTIL = 256
"""Training steps during which each update looks at all cells; later it looks at a quarter of them."""

MAX_RAYS = 2**13
"""Most rays of a training step."""


class Visible(NamedTuple):
    """Samples that light gets through to, and the field's values at them, without gradients."""

    samples: PackedSamples
    encoded: Float[Tensor, "n e"]
    """The hash grid's features."""
    density: Float[Tensor, " n"]
    features: Float[Tensor, "n f"]
    """The features from which the field computes colours."""


class OccupancyRenderer(nn.Module):
    """Renders rays through a box.

    Args:
        aabb: corners of the box.
        resolution: cells of the grid along each axis.
        steps_per_ray: samples on the box's diagonal.
        samples_per_step: samples of a training step, over all processes, without those below `MIN_LIGHT`.
        near: smallest distance of a sample from the camera.

    Raises:
        UserError: fewer than two steps or samples, or a grid that `OccupancyGrid` refuses.
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
        """Start with so few rays that the samples fit even if every step of a ray has one."""
        steps = int(float((self.grid.aabb[1] - self.grid.aabb[0]).norm()) / self.step)
        self.num_rays.fill_(max(self.samples_per_step // steps, 8))

    def rays_of(self, origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"]) -> Rays:
        """Rays that start where they enter the box and end where they leave it."""
        nears, fars = crossing(origins.detach(), directions.detach(), self.grid.aabb)
        return Rays(origins, directions, nears.clamp_min(self.near), fars)

    def update(self, field: HashRadianceField, step: int) -> None:
        """Update the grid's cells, if this step is due for it; the field's statistics do not change."""
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

    @torch.no_grad()
    def look(self, field: HashRadianceField, rays: Rays, jitter: Float[Tensor, " r"]) -> Visible:
        """The samples that light gets through to, found with the field's running statistics.

        They are found in waves from near to far, so most samples behind opaque matter are never evaluated.

        Args:
            field: the field.
            rays: the rays.
            jitter: shift of each ray's samples in steps, in [0, 1).
        """
        waves: list[tuple[Tensor, ...]] = []
        alive = (rays.fars > rays.nears).nonzero()[:, 0]
        next_step, light, wave = torch.zeros_like(alive), rays.nears.new_ones(len(alive)), FIRST_WAVE
        with frozen_statistics(field):
            while not waves or len(alive):
                ahead = rays.some(alive)
                samples, next_step, is_over = march(
                    ahead, self.grid.cells, self.step, jitter[alive], next_step, limit=wave
                )
                encoded = field.grid(field.scaled(samples.positions(ahead)))
                density, features = field.density_of(encoded)
                here, light = light_along(density, samples, light)
                ray = alive.index_select(0, samples.ray)
                waves.append((ray, here >= MIN_LIGHT, samples.middle, encoded, density, features))
                goes_on = (~is_over & (light >= MIN_LIGHT)).nonzero()[:, 0]
                alive, next_step, light = (x.index_select(0, goes_on) for x in (alive, next_step, light))
                wave = min(2 * wave, LAST_WAVE)
        return _ray_by_ray(waves, rays.num, self.step)

    def train_rays(self, field: HashRadianceField, rays: Rays) -> Rendered:
        """Render as a training step does, with gradients where they are enabled; samples are jittered."""
        visible = self.look(field, rays, torch.rand_like(rays.nears))
        samples = visible.samples
        if torch.is_grad_enabled():
            self._adapt(rays.num, samples.num)
        # One sample has no variance. Where several processes join their batches, the samples of the others
        # count too.
        alone = samples.num < 2 and not _is_joined()
        with frozen_statistics(field) if alone else nullcontext():
            encoded = field.encode_again(samples.positions(rays), visible.encoded)
            density, features = field.density_of(encoded)
            color = field.color_of(features, field.harmonics(rays.directions)[samples.ray])
        return _rendered(density, color, samples, rays)

    def _adapt(self, rays: int, samples: int) -> None:
        """Choose the next step's number of rays so that it has about `samples_per_step` samples."""
        total = torch.tensor(float(samples), device=self.num_rays.device)
        if _is_joined():
            dist.all_reduce(total)
        change = min(max(self.samples_per_step / max(float(total), 1.0), 0.5), 1.5)
        self.num_rays.fill_(int(min(max(rays * change, 8), MAX_RAYS)))

    @torch.no_grad()
    def render(self, field: HashRadianceField, rays: Rays) -> Rendered:
        """Render a picture's rays. In batch mode, statistics are of the samples that light reaches."""
        visible = self.look(field, rays, torch.full_like(rays.nears, 0.5))
        samples, density, features = visible.samples, visible.density, visible.features
        if any(norm.mode is StatisticsMode.BATCH for norm in running_norms(field)):
            density, features = field.density_of(visible.encoded)
        weights, _ = sample_weights(density, samples)
        matters = weights >= MIN_WEIGHT
        color = rays.origins.new_zeros(samples.num, 3)
        harmonics = field.harmonics(rays.directions)
        color[matters] = field.color_of(features[matters], harmonics[samples.ray[matters]])
        return _rendered(density, color, samples, rays)


def _ray_by_ray(waves: list[tuple[Tensor, ...]], num_rays: int, step: float) -> Visible:
    """The samples of all waves that light gets through to, ray after ray."""
    ray, is_seen, *columns = (torch.cat(column) for column in zip(*waves, strict=True))
    # Samples that are not seen are given the number of an additional last ray, so that sorting puts them
    # last.
    key = torch.where(is_seen, ray, num_rays)
    first = nn.functional.pad(torch.bincount(key, minlength=num_rays)[:num_rays].cumsum(0), (1, 0))
    order = key.argsort(stable=True)[: int(first[-1])]
    ray, middle, *found = (column.index_select(0, order) for column in (ray, *columns))
    return Visible(PackedSamples(ray, middle, torch.full_like(middle, step), first), *found)


def _rendered(
    density: Float[Tensor, " n"], color: Float[Tensor, "n 3"], samples: PackedSamples, rays: Rays
) -> Rendered:
    """Composite samples along rays: colour, accumulation, depth and largest density of each ray."""
    seen = composite(density, color, samples)
    depth = median_depth(seen.weights.detach(), samples)
    far = torch.maximum(rays.fars, rays.nears)
    depth = torch.where(depth.isfinite(), depth, far)[:, None]
    return Rendered(seen.color, seen.accumulation[:, None], depth, densest(density, samples))


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
