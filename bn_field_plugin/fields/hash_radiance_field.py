"""A radiance field on a hash grid and two small BN-MLPs (Müller et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.utils.math import components_from_spherical_harmonics
from torch import Tensor, nn

from bn_field_plugin.fields.contraction import CubeContraction
from bn_field_plugin.fields.hash_encoding import hash_encoding
from bn_field_plugin.fields.scatter import scatter
from bn_field_plugin.fields.tcnn import Implementation
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    HashGridEncoding,
    HashGridEncodingConfig,
    NormName,
    frozen_statistics,
)

DENSITY_SHIFT = -1.0
"""Added to the raw density before the exponential, so that training starts from thin fog."""

HARMONICS = 4
"""Degrees of the spherical harmonics that encode a view direction; its square is their number."""


@dataclass
class HashRadianceFieldConfig:
    """Sizes of a hash grid and of the networks after it."""

    num_levels: int = 8
    """Levels of the hash grid."""
    features_per_level: int = 4
    """Features of each level."""
    base_res: int = 16
    """Cells along each axis of its coarsest level."""
    max_res: int = 512
    """Cells along each axis of its finest level."""
    log2_hashmap_size: int = 17
    """Most rows of a level's table, as a power of two."""
    init_scale: float = 1e-4
    """The features are drawn uniformly between minus this and plus this."""
    hidden_dim: int = 64
    """Units of the hidden layer for the density."""
    num_features: int = 16
    """Features that the density network hands to the colour network, beside the density."""
    num_layers_color: int = 2
    """Hidden layers for the colour."""
    hidden_dim_color: int = 64
    """Units of each hidden layer for the colour."""
    density_norm: Literal["same", "none"] = "same"
    """Norm of the hidden layer for the density: the model's, or none."""
    color_norm: Literal["same", "none"] = "same"
    """Norm of the hidden layers for the colour: that of the density network, or none."""
    placement: Literal["before", "after"] = "before"
    """Where the norm stands: before or after the activation."""
    norm_eps: float = 1e-5
    """Added to the variance by the norm."""

    @property
    def grid(self) -> HashGridEncodingConfig:
        """The hash grid."""
        return HashGridEncodingConfig(
            num_levels=self.num_levels,
            features_per_level=self.features_per_level,
            base_resolution=self.base_res,
            finest_resolution=self.max_res,
            log2_table_size=self.log2_hashmap_size,
            init_scale=self.init_scale,
        )


class HashRadianceField(Field):
    """Density and colour at positions.

    Outside the box of a bounded scene, density and colour are zero.

    Args:
        aabb: corners of the scene's box; ignored where the scene is unbounded.
        config: sizes.
        norm: norm of the hidden layers.
        unbounded: contract all of space (Barron et al. 2022) instead of using the box.
        implementation: of the hash grid.
    """

    aabb: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        config: HashRadianceFieldConfig,
        norm: NormName = "batch",
        unbounded: bool = False,
        implementation: Implementation = "torch",
    ) -> None:
        super().__init__()
        self.register_buffer("aabb", aabb.clone(), persistent=False)
        self.contraction: nn.Module | None = CubeContraction() if unbounded else None
        self.grid = hash_encoding(config.grid, implementation)

        def network(in_dim: int, out_dim: int, width: int, depth: int, norm: NormName) -> CoordinateMLP:
            return CoordinateMLP(
                CoordinateMLPConfig(
                    in_dim=in_dim,
                    out_dim=out_dim,
                    width=width,
                    depth=depth,
                    norm=norm,
                    placement=config.placement,
                    norm_eps=config.norm_eps,
                )
            )

        features = config.num_features
        self.trunk = network(
            self.grid.out_dim,
            1 + features,
            config.hidden_dim,
            1,
            norm if config.density_norm == "same" else "none",
        )
        self.head = network(
            features + HARMONICS**2,
            3,
            config.hidden_dim_color,
            config.num_layers_color,
            norm if config.color_norm == "same" else "none",
        )

    def scaled(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Positions mapped so that the scene fills [-1, 1]^3, as the hash grid expects."""
        if self.contraction is not None:
            contracted: Tensor = self.contraction(positions)
            return contracted / 2
        size = self.aabb[1] - self.aabb[0]
        return torch.addcmul(-(self.aabb[1] + self.aabb[0]) / size, positions, 2 / size)

    def inside(self, positions: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Which positions lie in the scene."""
        if self.contraction is not None:
            return torch.ones_like(positions[..., 0], dtype=torch.bool)
        return ((positions >= self.aabb[0]) & (positions <= self.aabb[1])).all(dim=-1)

    def density_at(self, positions: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n f"]]:
        """Density, in 1 / unit of length, and features for the colour, at positions inside the scene."""
        return self.density_of(self.grid(self.scaled(positions)))

    def encode_again(
        self, positions: Float[Tensor, "n 3"], encoded: Float[Tensor, "n e"]
    ) -> Float[Tensor, "n e"]:
        """The hash grid's features with gradients, where they are known from a pass without gradients.

        Args:
            positions: inside the scene.
            encoded: what the grid gave for them.
        """
        scaled = self.scaled(positions)
        if isinstance(self.grid, HashGridEncoding):
            return self.grid.with_gradients(scaled, encoded)
        found: Tensor = self.grid(scaled)
        return found

    def density_of(self, encoded: Float[Tensor, "n e"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n f"]]:
        """Density, in 1 / unit of length, and features for the colour, from the hash grid's features."""
        raw = self.trunk(encoded)
        return trunc_exp(raw[:, 0].float() + DENSITY_SHIFT), raw[:, 1:]

    def harmonics(self, directions: Float[Tensor, "r 3"]) -> Float[Tensor, "r h"]:
        """Spherical harmonics of directions of length 1, with which the colour network sees them."""
        return components_from_spherical_harmonics(HARMONICS, directions)

    def color_of(
        self, features: Float[Tensor, "n f"], harmonics: Float[Tensor, "n h"]
    ) -> Float[Tensor, "n 3"]:
        """Colour in [0, 1] of samples, from their features and the `harmonics` of their rays' directions."""
        seen = torch.cat([features, harmonics.to(features.dtype)], dim=-1)
        return torch.sigmoid(self.head(seen).float())

    def get_density(
        self, ray_samples: RaySamples
    ) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch f"]]:
        """Density and features at samples; both zero outside the scene."""
        positions = ray_samples.frustums.get_positions()
        inside = self.inside(positions)
        density, features = self.density_at(positions[inside])
        return scatter(density[:, None], inside), scatter(features, inside)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour in [0, 1] at samples from the features of `get_density`; zero outside the scene."""
        assert density_embedding is not None
        inside = self.inside(ray_samples.frustums.get_positions())
        directions = ray_samples.frustums.directions[inside]
        rgb = self.color_of(density_embedding[inside], self.harmonics(directions))
        return {FieldHeadNames.RGB: scatter(rgb, inside)}

    def normals(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Outward unit normals of the density, by its gradient.

        The running statistics are used: with those of the batch, every sample's density would depend on all
        other samples, and their gradients would mix. Normals are zero where the density has no gradient.
        """
        with torch.enable_grad(), frozen_statistics(self):
            points = positions.detach().reshape(-1, 3).requires_grad_()
            raw = self.trunk(self.grid(self.scaled(points)))[:, 0]
            (gradient,) = torch.autograd.grad(raw.sum(), points)
        return -nn.functional.normalize(gradient.detach(), dim=-1).reshape(positions.shape)
