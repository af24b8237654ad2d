"""A radiance field that sees the space each sample covers: mip-NeRF's cones (Barron et al. 2021)."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import Frustums
from nerfstudio.field_components.spatial_distortions import SceneContraction
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.fields.radiance_field import RadianceField, RadianceFieldConfig
from bn_field_plugin.nn import CoordinateMLP, IntegratedEncodingConfig, NormName

POINT_VARIANCE = (2 / 256) ** 2 / 12
"""Variance along each axis that a bare point is given, in a scene scaled to [-1, 1]: that of a cell of a grid
of 256^3 cells.

In training every sample has an extent, so at a sample without extent the finest octaves of the encoding would
be noise."""


class MipRadianceField(RadianceField):
    """Density and colour of conical frustums, each seen as a Gaussian through the integrated encoding.

    A sample belongs to a bounded scene where the mean of its Gaussian does. Samples without extent (points
    of exports, of grids, of surfaces) count as small cells, see `POINT_VARIANCE`.

    Args:
        aabb: corners of the scene's box; ignored where the scene is unbounded.
        config: sizes; position_frequencies are those of the integrated encoding.
        norm: norm of the hidden layers.
        unbounded: contract all of space to a ball (Barron et al. 2022) instead of using the box.

    Raises:
        UserError: the activation is the sine, whose networks take bare coordinates instead of an encoding.
    """

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        config: RadianceFieldConfig,
        norm: NormName = "batch",
        unbounded: bool = False,
    ) -> None:
        if config.activation == "sine":
            raise UserError("activation 'sine' sees no encoding that could be integrated: choose relu")
        super().__init__(aabb, config, norm, unbounded)
        encoding = IntegratedEncodingConfig(config.position_frequencies)
        self.trunk = CoordinateMLP(dataclasses.replace(self.trunk.config, in_dim=6, encoding=encoding))
        if unbounded:
            self.contraction = SceneContraction()  # with the 2-norm, which is smooth, as the Gaussians need

    def normalized(
        self, positions: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch 6"], Bool[Tensor, "*batch"] | None]:
        """Means in [-1, 1] and variances for points, and which of the points lie in the scene (None: all)."""
        mean, inside = super().normalized(positions)
        return torch.cat([mean, torch.full_like(mean, POINT_VARIANCE)], dim=-1), inside

    def sampled(self, frustums: Frustums) -> tuple[Float[Tensor, "*batch 6"], Bool[Tensor, "*batch"] | None]:
        """Means in [-1, 1] and variances of frustums, and which of them lie in the scene (None: all)."""
        is_point = frustums.starts == frustums.ends  # the Gaussian of a point at the camera would be NaN
        blob = frustums.get_gaussian_blob()
        points, inside = self.normalized(torch.where(is_point, frustums.get_positions(), blob.mean))
        if self.contraction is None:
            half = (self.aabb[1] - self.aabb[0]) / 2
            variance = torch.diagonal(blob.cov, dim1=-2, dim2=-1) / half.square()
        else:
            variance = contracted_variance(blob.mean, blob.cov) / 4  # radius 2 is scaled to 1
        return torch.cat([points[..., :3], torch.where(is_point, points[..., 3:], variance)], dim=-1), inside


def contracted_variance(
    mean: Float[Tensor, "*batch 3"], cov: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch 3"]:
    """Variances of Gaussians after the contraction of space, which is linearised at their means.

    `x -> (2 - 1/|x|) x/|x|` outside the unit ball (Barron et al. 2022, eq. 10) stretches by 1/|x|^2 along x
    and by (2 - 1/|x|)/|x| across it.
    """
    norm = mean.norm(dim=-1, keepdim=True).clamp_min(1)
    along, across = norm.pow(-2), (2 - 1 / norm) / norm
    unit = mean / norm  # not of length 1 inside the unit ball, where both factors are 1 and it has no effect
    turned = unit[..., :, None] * unit[..., None, :]
    jacobian = across[..., None] * torch.eye(3).to(mean) + (along - across)[..., None] * turned
    return torch.einsum("...ki,...ij,...kj->...k", jacobian, cov, jacobian)
