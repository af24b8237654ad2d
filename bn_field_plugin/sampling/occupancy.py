"""Which cells of a scene's box are occupied, as learnt from a field's density while it trains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.sampling.compositing import OPAQUE_DEPTH
from bn_field_plugin.sampling.marching import Cells, blocks_of

DECAY = 0.95
"""Factor by which an update lowers each cell's density, before it takes the new one if that is larger."""

OPACITY = 0.01
"""A sample of this opacity makes its cell occupied, even where the mean cell is denser."""

POINTS_PER_CALL = 2**16
"""Points at which the density is asked for at a time."""


class OccupancyGrid(nn.Module):
    """Cells of a box, each with the largest density that was found in it lately (Müller et al. 2022).

    A cell is occupied if a sample in it would have at least the opacity `OPACITY`, or at least the mean
    opacity of all cells, if that is less. Else the thin fog of a fresh field would count as empty.

    Args:
        aabb: corners of the box.
        resolution: cells along each axis, at least 2.

    Raises:
        UserError: fewer cells, or a box without volume or without end.
    """

    aabb: Tensor
    densities: Tensor
    occupied: Tensor

    def __init__(self, aabb: Float[Tensor, "2 3"], resolution: int) -> None:
        super().__init__()
        if not 2 <= resolution <= 1024:
            raise UserError(f"the occupancy grid's resolution is {resolution}: choose it from 2 to 1024")
        if not bool(((aabb[1] > aabb[0]) & aabb.isfinite()).all()):
            raise UserError(
                f"the scene's box {aabb.tolist()} has no volume, or no end: its second corner must be above"
            )
        self.resolution = resolution
        self.register_buffer("aabb", aabb.clone().float(), persistent=False)
        self.register_buffer("densities", torch.zeros(resolution**3))
        self.register_buffer("occupied", torch.ones((resolution,) * 3, dtype=torch.bool))
        self._blocks: tuple[int, Tensor | None] | None = None

    @property
    def cells(self) -> Cells:
        """The cells, for `march`."""
        if self._blocks is None or self._blocks[0] != self.occupied._version:
            self._blocks = self.occupied._version, blocks_of(self.occupied)
        return Cells(self.occupied, self.aabb[0], self.aabb[1], self._blocks[1])

    @property
    def share(self) -> float:
        """Share of the cells that are occupied."""
        return float(self.occupied.float().mean())

    @torch.no_grad()
    def update(self, density: Callable[[Tensor], Tensor], step: float, fraction: float = 1.0) -> bool:
        """Ask for the density at a random point of each cell, or of some of them.

        Args:
            density: gives the densities `[n]` at positions `[n, 3]`.
            step: length of a sample.
            fraction: of all cells that are looked at, half of them among the occupied ones.

        Returns:
            Whether any cell is occupied. If none is, all are taken for occupied: a field that has become
            empty by mistake would never be looked at again.
        """
        self.densities *= DECAY
        for index in self._chosen(fraction).split(POINTS_PER_CALL):
            found = density(self._points_in(index)).reshape(-1).to(self.densities.dtype)
            # NaN counts as no density. Infinity counts as opaque, but as a finite number, which can decay.
            found = found.nan_to_num(0.0).clamp_max(OPAQUE_DEPTH / step)
            self.densities.scatter_reduce_(0, index, found, "amax")
        opacity = -torch.expm1(-self.densities * step)
        # The mean is taken in fp64: rounded in fp32, the mean of equal cells might be above all of them.
        threshold = opacity.mean(dtype=torch.float64).to(opacity.dtype).clamp_max(OPACITY)
        occupied = (opacity >= threshold) & (opacity > 0)
        is_empty = not bool(occupied.any())
        self.occupied.copy_((occupied | is_empty).reshape(self.occupied.shape))
        return not is_empty

    def _chosen(self, fraction: float) -> Int[Tensor, " n"]:
        """Cells to look at."""
        total, device = self.resolution**3, self.densities.device
        if fraction >= 1:
            return torch.arange(total, device=device)
        count = max(int(fraction * total / 2), 1)
        anywhere = torch.randint(total, (count,), device=device)
        occupied = self.occupied.flatten().nonzero()[:, 0]
        if len(occupied) > count:
            occupied = occupied[torch.randint(len(occupied), (count,), device=device)]
        return torch.cat([anywhere, occupied])

    def _points_in(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """A random point of each cell."""
        n = self.resolution
        cell = torch.stack([index // (n * n), index // n % n, index % n], dim=-1)
        unit = (cell + torch.rand(cell.shape, device=cell.device)) / n
        return self.aabb[0] + unit * (self.aabb[1] - self.aabb[0])


def occupied_at(cells: Cells, positions: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
    """Whether positions lie in occupied cells of the box; none outside it do."""
    inside = ((positions >= cells.low) & (positions <= cells.high)).all(dim=-1)
    return inside & cells.occupied.flatten()[cells.at(positions)]
