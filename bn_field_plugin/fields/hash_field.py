"""nerfacto's fields with BN-MLPs after the hash grid."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.field_components.activations import trunc_exp
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from torch import Tensor, nn

from bn_field_plugin.fields.hash_encoding import hash_encoding, nerfacto_grid
from bn_field_plugin.fields.scatter import scatter
from bn_field_plugin.fields.tcnn import Implementation
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, Encoding, NormName, frozen_statistics


class HashMLP(nn.Module):
    """A hash grid and a BN-MLP on its features.

    Args:
        encoding: the hash grid.
        hidden_layers: hidden layers of the network.
        width: units of each hidden layer.
        out_dim: number of outputs.
        norm: norm of the hidden layers.
    """

    def __init__(
        self, encoding: Encoding, hidden_layers: int, width: int, out_dim: int, norm: NormName
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.mlp = head_mlp(encoding.out_dim, hidden_layers, width, out_dim, norm)

    def forward(self, positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n o"]:
        """Outputs at positions in [0, 1]^3."""
        # tiny-cuda-nn's features have half precision, also outside autocast; the network converts them.
        outputs: Tensor = self.mlp(self.encoding(2 * positions - 1))
        return outputs


def head_mlp(in_dim: int, hidden_layers: int, width: int, out_dim: int, norm: NormName) -> CoordinateMLP:
    """A BN-MLP that takes features instead of coordinates."""
    return CoordinateMLP(
        CoordinateMLPConfig(
            in_dim=in_dim,
            out_dim=out_dim,
            width=width,
            depth=hidden_layers,
            norm=norm,
        )
    )


class InsideOnly(nn.Module):
    """Applies a network to the samples inside the scene; all others get zeros.

    nerfstudio's field hands over all samples, with those outside the scene moved to one point, which must not
    enter the batch statistics. `inside` tells which samples are inside, and is set before each pass.
    """

    def __init__(self, mlp: CoordinateMLP) -> None:
        super().__init__()
        self.mlp = mlp
        self.inside: Bool[Tensor, " n"] | None = None

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n 3"]:
        """Colours in [0, 1]."""
        if self.inside is None:
            return torch.sigmoid(self.mlp(features).float())
        rgb = torch.sigmoid(self.mlp(features[self.inside]).float())
        return scatter(rgb, self.inside)


def unit_positions(
    field: NerfactoField | HashMLPDensityField, positions: Float[Tensor, "*batch 3"]
) -> tuple[Float[Tensor, "*batch 3"], Bool[Tensor, "*batch"]]:
    """Positions scaled to [0, 1]^3 for the hash grid, and which of them lie strictly inside."""
    if field.spatial_distortion is not None:
        unit = (field.spatial_distortion(positions) + 2.0) / 4.0
    else:
        unit = SceneBox.get_normalized_positions(positions, field.aabb)
    return unit, ((unit > 0.0) & (unit < 1.0)).all(dim=-1)


class BNNerfactoField(NerfactoField):
    """nerfacto's field whose networks for density and colour are BN-MLPs.

    Appearance embeddings, transients, semantics and predicted normals are nerfstudio's.

    Args:
        aabb: corners of the scene's box.
        num_images: number of training images.
        norm: norm of the hidden layers.
        implementation: implementation of the encodings; the BN-MLPs are always torch's.
        options: further arguments of nerfstudio's field.
    """

    def __init__(
        self,
        aabb: Float[Tensor, "2 3"],
        num_images: int,
        norm: NormName,
        implementation: Implementation,
        **options: Any,
    ) -> None:
        # nerfstudio's hash grid is replaced below, so it is made as small as possible.
        super().__init__(
            aabb,
            num_images,
            implementation=implementation,
            **{**options, "log2_hashmap_size": 1, "num_levels": 1},
        )
        encoding = hash_encoding(nerfacto_grid(options), implementation)
        for name in ("num_levels", "log2_hashmap_size"):
            getattr(self, name).fill_(options[name])
        self.mlp_base: HashMLP = HashMLP(  # type: ignore[assignment]
            encoding, 1, options["hidden_dim"], 1 + self.geo_feat_dim, norm
        )
        in_dim: int = self.mlp_head.in_dim  # type: ignore[assignment]
        self.mlp_head: InsideOnly = InsideOnly(  # type: ignore[assignment]
            head_mlp(in_dim, 2, options["hidden_dim_color"], 3, norm)
        )

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Density and features at samples; both zero outside the scene."""
        unit, inside = unit_positions(self, ray_samples.frustums.get_positions())
        raw = self.mlp_base(unit[inside])
        self._sample_locations: Tensor | None = unit  # type: ignore[assignment]
        self.mlp_head.inside = inside.reshape(-1)
        density = self.average_init_density * trunc_exp(raw[:, :1].float())
        return scatter(density, inside), scatter(raw[:, 1:], inside)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """nerfstudio's outputs; colours are zero outside the scene."""
        _, inside = unit_positions(self, ray_samples.frustums.get_positions())
        self.mlp_head.inside = inside.reshape(-1)
        outputs: dict[FieldHeadNames, Tensor] = super().get_outputs(ray_samples, density_embedding)
        return outputs

    def get_normals(self) -> Float[Tensor, "*batch 3"]:
        """Outward unit normals at the latest samples, from the gradient of the density there.

        The running statistics are used: with those of the batch, every sample's density would depend on all
        other samples, and their gradients would mix.
        """
        assert self._sample_locations is not None
        with torch.enable_grad(), frozen_statistics(self):
            points = self._sample_locations.detach().requires_grad_()
            raw = self.mlp_base(points.reshape(-1, 3))[:, 0]
            (gradient,) = torch.autograd.grad(raw.sum(), points)
        return -nn.functional.normalize(gradient, dim=-1)


class BNDensityField(HashMLPDensityField):
    """nerfacto's proposal network with a BN-MLP.

    Args:
        aabb: corners of the scene's box.
        norm: norm of the hidden layer.
        implementation: implementation of the encoding.
        options: further arguments of nerfstudio's field.
    """

    def __init__(
        self, aabb: Float[Tensor, "2 3"], norm: NormName, implementation: Implementation, **options: Any
    ) -> None:
        # nerfstudio's hash grid and network are replaced below, so they are made as small as possible.
        super().__init__(aabb, implementation="torch", **{**options, "log2_hashmap_size": 1, "num_levels": 1})
        self.encoding: Encoding = hash_encoding(nerfacto_grid(options), implementation)  # type: ignore[assignment]
        if self.use_linear:
            self.linear = nn.Linear(self.encoding.out_dim, 1)
        else:
            layers = options.get("num_layers", 2) - 1
            self.mlp_base = nn.Sequential(
                self.encoding,
                head_mlp(self.encoding.out_dim, layers, options.get("hidden_dim", 64), 1, norm),
            )

    def get_density(  # type: ignore[override]  # a proposal's density comes without features
        self, ray_samples: RaySamples
    ) -> tuple[Tensor, None]:
        """Density at samples; zero outside the scene."""
        positions = ray_samples.frustums.get_positions()
        if self.spatial_distortion is not None:  # space is contracted, so all samples are inside
            raw = self._raw(self.spatial_distortion(positions) / 2)
            return self.average_init_density * trunc_exp(raw.float()), None
        unit, inside = unit_positions(self, positions)
        raw = self._raw(2 * unit[inside] - 1)
        return scatter(self.average_init_density * trunc_exp(raw.float()), inside), None

    def _raw(self, scaled: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
        """Logarithm of the density at positions in [-1, 1]^3."""
        features = self.encoding(scaled)
        raw: Tensor = self.linear(features) if self.use_linear else self.mlp_base[1](features)
        return raw
