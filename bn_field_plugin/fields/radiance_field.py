"""A radiance field on two BN-MLPs: a trunk for density and features, a head for view-dependent colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor, nn

from bn_field_plugin.fields.contraction import CubeContraction
from bn_field_plugin.fields.scatter import scatter
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    NoEncoding,
    NormName,
    PositionalEncodingConfig,
    frozen_statistics,
)

DENSITY_SHIFT = -1.0
"""Added to the raw density before the exponential, so that training starts from thin fog."""


@dataclass
class RadianceFieldConfig:
    """Sizes of one radiance field."""

    depth: int = 8
    """Hidden layers of the trunk."""
    width: int = 256
    """Units of each hidden layer of the trunk."""
    skips: tuple[int, ...] = (4,)
    """Hidden layers of the trunk (counted from 0) that see the encoded position again."""
    num_features: int = 256
    """Features that the trunk hands to the colour head."""
    head_depth: int = 1
    """Hidden layers of the colour head."""
    head_width: int = 128
    """Units of each hidden layer of the colour head."""
    position_frequencies: int = 10
    """Octaves of the positional encoding of positions."""
    direction_frequencies: int = 4
    """Octaves of the positional encoding of view directions."""
    placement: Literal["before", "after"] = "before"
    """Where the norm stands: before or after the activation."""
    activation: Literal["relu", "sine"] = "relu"
    """Activation of the hidden layers; with sine, the network takes bare coordinates and SIREN's
    initialisation."""


class RadianceField(Field):
    """Density and colour at samples along rays.

    Samples outside the box of a bounded scene have density and colour zero. They never reach the networks, so
    they cost nothing and do not enter the batch statistics.

    Args:
        aabb: corners of the scene's box; ignored where the scene is unbounded.
        config: sizes.
        norm: norm of the hidden layers.
        unbounded: contract all of space (Barron et al. 2022) instead of using the box.
    """

    aabb: Tensor

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        config: RadianceFieldConfig,
        norm: NormName = "batch",
        unbounded: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("aabb", aabb.clone(), persistent=False)
        self.contraction: nn.Module | None = CubeContraction() if unbounded else None
        sine = config.activation == "sine"
        hidden: dict[str, Any] = {
            "norm": norm,
            "placement": config.placement,
            "activation": config.activation,
            "init": "paper" if sine else "pytorch",
        }
        self.trunk = CoordinateMLP(
            CoordinateMLPConfig(
                in_dim=3,
                out_dim=1 + config.num_features,
                width=config.width,
                depth=config.depth,
                skips=config.skips,
                encoding=NoEncoding() if sine else PositionalEncodingConfig(config.position_frequencies),
                **hidden,
            )
        )
        self.direction_encoding = PositionalEncodingConfig(config.direction_frequencies).build(3)
        self.head = CoordinateMLP(
            CoordinateMLPConfig(
                in_dim=config.num_features + self.direction_encoding.out_dim,
                out_dim=3,
                width=config.head_width,
                depth=config.head_depth,
                **hidden,
            )
        )

    def normalized(
        self, positions: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch d"], Bool[Tensor, "*batch"] | None]:
        """Positions scaled to [-1, 1] for the encoding, and which of them lie in the scene (None: all)."""
        if self.contraction is not None:
            return self.contraction(positions) / 2, None
        scaled = 2 * (positions - self.aabb[0]) / (self.aabb[1] - self.aabb[0]) - 1
        return scaled, (scaled.abs() <= 1).all(dim=-1)

    def sampled(self, frustums: Frustums) -> tuple[Float[Tensor, "*batch d"], Bool[Tensor, "*batch"] | None]:
        """The trunk's inputs for samples, here scaled centres, and which lie in the scene (None: all)."""
        return self.normalized(frustums.get_positions())

    def _density_of(
        self, scaled: Float[Tensor, "*batch d"]
    ) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch f"]]:
        raw = self.trunk(scaled)
        return trunc_exp(raw[..., :1].float() + DENSITY_SHIFT), raw[..., 1:]

    def _color_of(
        self, features: Float[Tensor, "*batch f"], directions: Float[Tensor, "*batch 3"]
    ) -> Float[Tensor, "*batch 3"]:
        encoded = self.direction_encoding(directions)
        return torch.sigmoid(self.head(torch.cat([features, encoded.to(features.dtype)], dim=-1)).float())

    def get_density(
        self, ray_samples: RaySamples
    ) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch f"]]:
        """Density and features at samples; both zero outside the scene."""
        scaled, inside = self.sampled(ray_samples.frustums)
        if inside is None:
            return self._density_of(scaled)
        density, features = self._density_of(scaled[inside])
        return scatter(density, inside), scatter(features, inside)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour in [0, 1] at samples from the features of `get_density`; zero outside the scene."""
        assert density_embedding is not None
        directions = ray_samples.frustums.directions
        _, inside = self.sampled(ray_samples.frustums)
        if inside is None:
            return {FieldHeadNames.RGB: self._color_of(density_embedding, directions)}
        rgb = self._color_of(density_embedding[inside], directions[inside])
        return {FieldHeadNames.RGB: scatter(rgb, inside)}

    def forward(self, ray_samples: RaySamples, compute_normals: bool = False) -> dict[FieldHeadNames, Tensor]:
        """Density and colour at samples, in one pass over the samples inside the scene.

        Args:
            ray_samples: samples along rays.
            compute_normals: also the outward unit normals of the density.
        """
        scaled, inside = self.sampled(ray_samples.frustums)
        directions = ray_samples.frustums.directions
        if inside is None:
            density, features = self._density_of(scaled)
            outputs = {
                FieldHeadNames.DENSITY: density,
                FieldHeadNames.RGB: self._color_of(features, directions),
            }
        else:
            density, features = self._density_of(scaled[inside])
            rgb = self._color_of(features, directions[inside])
            outputs = {
                FieldHeadNames.DENSITY: scatter(density, inside),
                FieldHeadNames.RGB: scatter(rgb, inside),
            }
        if compute_normals:
            outputs[FieldHeadNames.NORMALS] = self.normals(ray_samples.frustums.get_positions())
        return outputs

    def normals(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Outward unit normals at positions, from the gradient of the density there.

        The running statistics are used: with those of the batch, every sample's density would depend on all
        other samples, and their gradients would mix. Normals are zero where the density has no gradient.
        """
        with torch.enable_grad(), frozen_statistics(self):
            points = positions.detach().requires_grad_()
            raw = self.trunk(self.normalized(points)[0])[..., 0]
            (gradient,) = torch.autograd.grad(raw.sum(), points)
        return -nn.functional.normalize(gradient.detach(), dim=-1)
