"""Samples at even steps along rays, in the occupied cells of a grid."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.workers import run_blocks
from bn_field_plugin.sampling.packed import PackedSamples, Rays

BLOCK = 512
"""Rays that a thread takes at a time."""

COARSE = 4
"""Number of cells along each axis of a block, over which rays can leap when all of them are empty."""


class Cells(NamedTuple):
    """A box of equal cells, some of them occupied."""

    occupied: Bool[Tensor, "x y z"]
    """Which cells are occupied; the number of cells is the same along each axis."""
    low: Float[Tensor, " 3"]
    """Lowest corner of the box."""
    high: Float[Tensor, " 3"]
    """Highest corner."""
    coarse: Bool[Tensor, "x2 y2 z2"] | None = None
    """Whether any cell is occupied in each block of `COARSE`^3 cells. Rays leap over a block without any.
    None if the resolution is not a multiple of `COARSE`.
    """

    @property
    def resolution(self) -> int:
        """Cells along each axis."""
        return self.occupied.shape[0]

    @property
    def per_unit(self) -> Float[Tensor, " 3"]:
        """Cells in a unit of length, along each axis."""
        return self.resolution / (self.high - self.low)

    def at(self, positions: Float[Tensor, "*batch 3"]) -> Int[Tensor, "*batch"]:
        """Cell that holds each position, the last axis running fastest; those outside get the nearest."""
        cell = ((positions - self.low) * self.per_unit).long().clamp(0, self.resolution - 1)
        return (cell[..., 0] * self.resolution + cell[..., 1]) * self.resolution + cell[..., 2]


class March(NamedTuple):
    """What a march found."""

    samples: PackedSamples
    next_step: Int[Tensor, " r"]
    """Step at which a further march of each ray is to begin."""
    is_over: Bool[Tensor, " r"]
    """Whether the ray has been followed to its end."""


@torch.no_grad()
def march(
    rays: Rays,
    cells: Cells,
    step: float,
    jitter: Float[Tensor, " r"],
    first_step: Int[Tensor, " r"] | None = None,
    limit: int | None = None,
) -> March:
    """Samples in occupied cells: sample k of a ray lies `(k + jitter) * step` behind its near end.

    No gradient flows into where the samples lie along their rays.

    Args:
        rays: the rays.
        cells: the box, with its occupied cells.
        step: distance of the samples, and length of each; above 0.
        jitter: shift of each ray's samples in steps, in [0, 1).
        first_step: k of the first sample of each ray; 0 where None.
        limit: most samples of a ray; None for all.
    """
    if first_step is None:
        first_step = torch.zeros(rays.num, dtype=torch.int64, device=rays.origins.device)
    kernels = _kernels(rays.origins)
    route = march_by_torch if kernels is None else _march_compiled
    return route(rays, cells, step, jitter, first_step, limit)


def blocks_of(occupied: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x2 y2 z2"] | None:
    """Whether any cell is occupied in each block, as `Cells.coarse` has it."""
    if occupied.shape[0] % COARSE:
        return None
    pooled = torch.nn.functional.max_pool3d(occupied[None, None].float(), COARSE)
    return pooled[0, 0] > 0


def most_steps(rays: Rays, step: float) -> int:
    """Most samples that a ray can have, and one more: rounding decides which of them lie before its end."""
    longest = float((rays.fars - rays.nears).amax()) if rays.num else 0.0
    return max(int(longest / step) + 2, 0)


def march_by_torch(
    rays: Rays,
    cells: Cells,
    step: float,
    jitter: Float[Tensor, " r"],
    first_step: Int[Tensor, " r"],
    limit: int | None,
) -> March:
    """The march for any device, and the oracle of the compiled one: looks at every step of every ray."""
    steps = torch.arange(most_steps(rays, step), device=rays.origins.device)
    middle = rays.nears[:, None] + (steps + jitter[:, None]) * step
    inside = (middle < rays.fars[:, None]) & (steps >= first_step[:, None])
    positions = rays.origins[:, None] + rays.directions[:, None] * middle[..., None]
    all_hit = hit = inside & cells.occupied.flatten()[cells.at(positions)]
    if limit is not None:
        hit = all_hit & (all_hit.cumsum(1) <= limit)
    left = all_hit & ~hit
    is_over = ~left.any(1)
    # Where samples are left, the march goes on with the first of them.
    next_step = torch.where(is_over, len(steps), left.to(torch.int8).argmax(1)) if len(steps) else first_step
    ray, index = hit.nonzero(as_tuple=True)
    first = torch.nn.functional.pad(hit.sum(1).cumsum(0), (1, 0))
    middle = middle[ray, index]
    samples = PackedSamples(ray, middle, torch.full_like(middle, step), first)
    return March(samples, next_step, is_over)


def _march_compiled(
    rays: Rays,
    cells: Cells,
    step: float,
    jitter: Float[Tensor, " r"],
    first_step: Int[Tensor, " r"],
    limit: int | None,
) -> March:
    kernels = _kernels(rays.origins)
    n, most = rays.num, most_steps(rays, step)
    most = most if limit is None else min(most, limit)
    parts = [part.detach().contiguous().numpy() for part in rays]
    coarse = cells.occupied if cells.coarse is None else cells.coarse
    grid = [part.contiguous().numpy() for part in (cells.occupied, coarse, cells.low, cells.per_unit)]
    found = torch.empty(n, max(most, 1), dtype=torch.int32)
    counts, next_step = torch.empty(n, dtype=torch.int64), first_step.clone()
    is_over = torch.empty(n, dtype=torch.bool)
    shifts = jitter.contiguous().numpy()
    outputs = [x.numpy() for x in (found, counts, next_step, is_over)]
    run_blocks(partial(kernels.find, *parts, *grid, step, shifts, *outputs), n, BLOCK)
    first = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    total = int(first[-1])
    ray, middle = torch.empty(total, dtype=torch.int64), rays.origins.new_empty(total)
    packed = [x.numpy() for x in (first, ray, middle)]
    run_blocks(partial(kernels.pack, parts[2], step, shifts, outputs[0], *packed), n, BLOCK)
    return March(PackedSamples(ray, middle, torch.full_like(middle, step), first), next_step, is_over)


def _kernels(like: Tensor) -> Any:
    """The compiled loops; None where torch has to do it: not on a CPU, or not in fp32."""
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return None
    return load_compiled("bn_field_plugin.sampling.marching_kernels")
