"""A signed distance field with colours on two BN-MLPs (NeuS, Wang et al. 2021)."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field, FieldConfig
from nerfstudio.fields.sdf_field import LearnedVariance, SDFField
from torch import Tensor, nn

from bn_field_plugin.fields.scatter import scatter
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    NormName,
    PositionalEncodingConfig,
    value_and_gradient,
)


@dataclass
class BNSDFFieldConfig(FieldConfig):
    """Sizes and start of a signed distance field."""

    _target: type = field(default_factory=lambda: BNSDFField)
    depth: int = 4
    """Hidden layers of the trunk, which gives the distance."""
    width: int = 64
    """Units of each hidden layer of the trunk."""
    skips: tuple[int, ...] = ()
    """Hidden layers of the trunk (counted from 0) that see the encoded position again."""
    geo_feat_dim: int = 32
    """Features that the trunk hands to the colour head."""
    head_depth: int = 2
    """Hidden layers of the colour head."""
    head_width: int = 64
    """Units of each hidden layer of the colour head."""
    position_frequencies: int = 5
    """Octaves of the positional encoding of positions."""
    direction_frequencies: int = 4
    """Octaves of the positional encoding of view directions."""
    placement: Literal["before", "after"] = "before"
    """Where the norm stands: before or after the activation."""
    radius: float = 0.5
    """Radius of the sphere that training starts from, in halves of the box's longest side."""
    inside_out: bool = False
    """Start from the space inside the sphere, as for a room, instead of a solid ball."""
    beta_init: float = 0.3
    """Start of NeuS's variance: at first the surface is blurred over exp(-10 * this) units of length."""


class BNSDFField(SDFField):
    """Signed distance, normal and colour at samples along rays.

    With u the position in halves of the box's longest side h, the distance is `h * (|u| - radius + g(u))` for
    a network g whose last layer starts at zero. So training starts from the sphere itself, whatever norm the
    network has. The usual geometric initialisation acts through the weights of the hidden layers, whose
    effect a norm would remove.

    Normals, the eikonal term and the opacities are derivatives with the batch's statistics held constant
    (`value_and_gradient`). Samples outside the scene's box never reach the networks: they are empty. The
    class inherits from nerfstudio's SDFField the opacity (`get_alpha`) and the names that nerfstudio's
    samplers and exports call.

    Args:
        config: sizes of the networks, and the sphere from which training starts.
        aabb: corners of the scene's box.
        norm: norm of the hidden layers.
    """

    aabb: Tensor  # type: ignore[assignment]
    config: BNSDFFieldConfig  # type: ignore[assignment]

    def __init__(
        self, config: BNSDFFieldConfig, aabb: Float[Tensor, "2 3"], norm: NormName = "batch", **_: Any
    ) -> None:
        Field.__init__(self)  # SDFField.__init__ would make nerfstudio's networks by tiny-cuda-nn
        self.config = config
        self.register_buffer("aabb", aabb.clone(), persistent=False)
        self._training_ratio = 1.0
        self.trunk = CoordinateMLP(
            CoordinateMLPConfig(
                in_dim=3,
                out_dim=1 + config.geo_feat_dim,
                width=config.width,
                depth=config.depth,
                skips=config.skips,
                encoding=PositionalEncodingConfig(config.position_frequencies),
                norm=norm,
                placement=config.placement,
            )
        )
        with torch.no_grad():
            self.trunk.output.weight[0] = 0
            self.trunk.output.bias[0] = 0
        self.view_encoding = PositionalEncodingConfig(config.direction_frequencies).build(3)
        self.head = CoordinateMLP(
            CoordinateMLPConfig(
                in_dim=6 + self.view_encoding.out_dim + config.geo_feat_dim,
                out_dim=3,
                width=config.head_width,
                depth=config.head_depth,
                norm=norm,
                placement=config.placement,
            )
        )
        self.deviation_network = LearnedVariance(init_val=config.beta_init)

    @property
    def _cos_anneal_ratio(self) -> float:  # type: ignore[override]  # it is read only, and set below
        """How far NeuS's softening of the opacity, early in training, is over: 0 to 1; 1 in evaluation."""
        return self._training_ratio if self.training else 1.0

    def set_cos_anneal_ratio(self, anneal: float) -> None:
        """Set how much of NeuS's softening is over, from 0 to 1."""
        self._training_ratio = anneal

    @property
    def sharpness(self) -> Float[Tensor, " 1"]:
        """NeuS's s, in 1 / unit of length: how fast opacity rises through the surface."""
        return self.deviation_network.get_variance()

    @property
    def _half_side(self) -> Tensor:
        return (self.aabb[1] - self.aabb[0]).max() / 2

    def scaled(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Positions around the box's centre, in halves of its longest side."""
        return (positions - self.aabb.mean(dim=0)) / self._half_side

    def is_inside(self, positions: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Which positions lie in the scene's box."""
        return ((positions >= self.aabb[0]) & (positions <= self.aabb[1])).all(dim=-1)

    def _sphere(self, scaled: Float[Tensor, "*batch 3"]) -> tuple[Float[Tensor, "*batch 1"], Tensor]:
        """Signed distance from the initial sphere, in halves of the box's longest side, and its gradient."""
        sign = -1.0 if self.config.inside_out else 1.0
        length = scaled.norm(dim=-1, keepdim=True)
        return sign * (length - self.config.radius), sign * scaled / length.clamp_min(1e-12)

    def forward_geonetwork(self, inputs: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch f"]:
        """Signed distance in units of length (first) and features, anywhere in space."""
        scaled = self.scaled(inputs)
        raw = self.trunk(scaled).to(scaled.dtype)
        distance = self._half_side * (self._sphere(scaled)[0] + raw[..., :1])
        return torch.cat([distance, raw[..., 1:]], dim=-1)

    def signed_distance(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
        """Signed distance in units of length, negative inside."""
        return self.forward_geonetwork(positions)[..., :1]

    def distance_and_gradient(
        self, positions: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 3"], Float[Tensor, "n f"]]:
        """Signed distance, its gradient in the sample's own position with statistics held, and features."""
        scaled = self.scaled(positions.detach())
        raw, slope = value_and_gradient(self.trunk, scaled)
        distance, direction = self._sphere(scaled)
        return self._half_side * (distance + raw[:, :1].to(distance.dtype)), direction + slope, raw[:, 1:]

    def get_density(self, ray_samples: RaySamples) -> tuple[Float[Tensor, "*batch 1"], Tensor]:
        """NeuS's opaque density for rays that meet the surface at right angles, and features.

        With s the sharpness and f the distance it is `s * sigmoid(-s f)`, in 1 / unit of length (eq. 10 of
        the paper for |cos| = 1): s / 2 on the surface.
        """
        outputs = self.forward_geonetwork(ray_samples.frustums.get_start_positions())
        return self.sharpness * torch.sigmoid(-self.sharpness * outputs[..., :1]), outputs[..., 1:]

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None, return_alphas: bool = False
    ) -> dict[FieldHeadNames, Tensor]:
        """Distance, its gradient, normal (outward, unit) and colour in [0, 1] at samples; opacity if asked.

        Outside the box the distance is that from the initial sphere, and colour and opacity are zero.
        """
        positions = ray_samples.frustums.get_start_positions()
        inside = self.is_inside(positions)
        scaled = self.scaled(positions[inside])
        distance, gradient, features = self.distance_and_gradient(positions[inside])
        directions = self.view_encoding(ray_samples.frustums.directions[inside])
        normals = nn.functional.normalize(gradient, dim=-1)
        colors = self.head(torch.cat([scaled, directions, normals, features], dim=-1))

        far_distance, far_gradient = self._sphere(self.scaled(positions))
        is_near = inside[..., None]
        distance = torch.where(is_near, scatter(distance, inside), self._half_side * far_distance)
        gradient = torch.where(is_near, scatter(gradient, inside), far_gradient)
        outputs = {
            FieldHeadNames.RGB: scatter(torch.sigmoid(colors.to(positions.dtype)), inside),
            FieldHeadNames.SDF: distance,
            FieldHeadNames.NORMALS: nn.functional.normalize(gradient, dim=-1),
            FieldHeadNames.GRADIENT: gradient,
        }
        if return_alphas:
            outputs[FieldHeadNames.ALPHA] = is_near * self.get_alpha(ray_samples, distance, gradient)
        return outputs
