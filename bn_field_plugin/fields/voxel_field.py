"""Voxel grids of density and spherical harmonics, without any network (Fridovich-Keil, Yu et al. 2022).

Coarse to fine as a pyramid: the field is a sum of grids, and finer grids join in during training. The sum can
represent just what the finest grid alone can, but no parameter changes its size, which optimizers and
checkpoints would not bear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor, nn

from bn_field_plugin.fields.contraction import CubeContraction
from bn_field_plugin.fields.scatter import scatter

SH_LEVELS = 3
"""Levels of spherical harmonics: 9 coefficients for each colour channel."""


class VoxelField(Field):
    """Density (ReLU) and view-dependent colour (sigmoid), trilinear between the voxels' corners.

    Args:
        aabb: corners of the scene's box; ignored where the scene is unbounded.
        resolutions: corners along each axis of each grid, the coarsest first.
        init_density: density of a fresh field, in 1 / unit of length.
        unbounded: contract all of space (Barron et al. 2022) instead of using the box.

    Attributes:
        active: number of grids that take part, from the coarsest on; kept in checkpoints.
    """

    aabb: Tensor
    active: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        resolutions: Sequence[int],
        init_density: float = 0.1,
        unbounded: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("aabb", aabb.clone(), persistent=False)
        self.register_buffer("active", torch.tensor(1))
        self.contraction: nn.Module | None = CubeContraction() if unbounded else None
        self.density_grids = nn.ParameterList(
            torch.full((1, 1, *[resolution] * 3), init_density if index == 0 else 0.0)
            for index, resolution in enumerate(resolutions)
        )
        self.color_grids = nn.ParameterList(
            torch.zeros(1, 3 * SH_LEVELS**2, *[resolution] * 3) for resolution in resolutions
        )

    def normalized(
        self, positions: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch 3"], Bool[Tensor, "*batch"]]:
        """Positions scaled to [-1, 1], and which lie in the scene."""
        if self.contraction is not None:
            scaled = self.contraction(positions) / 2
        else:
            scaled = 2 * (positions - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) - 1
        return scaled, (scaled.abs() <= 1).all(dim=-1)

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Density at samples, zero outside the scene; and the samples' positions, scaled to [-1, 1]."""
        scaled, inside = self.normalized(ray_samples.frustums.get_positions())
        density = torch.relu(self._sum(self.density_grids, scaled[inside]))
        return scatter(density, inside), scaled

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour in [0, 1] at samples; zero outside the scene."""
        assert density_embedding is not None
        inside = (density_embedding.abs() <= 1).all(dim=-1)
        coefficients = self._sum(self.color_grids, density_embedding[inside])
        basis = components_from_spherical_harmonics(SH_LEVELS, ray_samples.frustums.directions[inside])
        rgb = torch.sigmoid((coefficients.unflatten(-1, (3, -1)) * basis[:, None]).sum(dim=-1))
        return {FieldHeadNames.RGB: scatter(rgb, inside)}

    def normals(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Outward unit normals, from the gradient of the density; zero where that gradient is zero."""
        with torch.enable_grad():
            points = positions.detach().requires_grad_()
            scaled, _ = self.normalized(points)
            values = self._sum(self.density_grids, scaled.reshape(-1, 3))
            (gradient,) = torch.autograd.grad(values.sum(), points)
        return -nn.functional.normalize(gradient.detach(), dim=-1)

    def total_variation(self, cells: int) -> tuple[Tensor, Tensor]:
        """Mean squared differences of neighbouring corners at random cells: for density, and for colours.

        Both are sums over the grids that take part.

        Args:
            cells: number of cells to draw, since a whole grid would cost more than the rest of the training
                step.
        """
        density, color = [], []
        for index in range(int(self.active)):
            grid = self.density_grids[index]
            corner = torch.randint(0, grid.shape[-1] - 1, (3, cells), device=grid.device)
            density.append(_variation(grid, corner))
            color.append(_variation(self.color_grids[index], corner))
        return torch.stack(density).sum(), torch.stack(color).sum()

    def _sum(self, grids: nn.ParameterList, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        """Sum of the grids that take part, at points in [-1, 1]^3."""
        total = interpolate(grids[0], points)
        for index in range(1, int(self.active)):
            total = total + interpolate(grids[index], points)
        return total


def interpolate(grid: Float[Tensor, "1 c x y z"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
    """Trilinear values of a grid at points in [-1, 1]^3."""
    # grid_sample expects coordinates in reverse order: that of the last axis first.
    where = points.flip(-1)[None, None, None]
    values = nn.functional.grid_sample(grid, where, mode="bilinear", align_corners=True)
    return values[0, :, 0, 0].T


def _variation(grid: Float[Tensor, "1 c x y z"], index: Tensor) -> Tensor:
    """Mean squared difference between the corners at `index` and their next corner along each axis."""
    i, j, k = index
    here = grid[0, :, i, j, k]
    ahead = (grid[0, :, i + 1, j, k], grid[0, :, i, j + 1, k], grid[0, :, i, j, k + 1])
    return torch.stack([(other - here).square().mean() for other in ahead]).sum()
