"""The hash-grid field behind an occupancy grid: packed samples, and densities that leave no trace."""

from __future__ import annotations

from contextlib import nullcontext

from jaxtyping import Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from torch import Tensor

from bn_field_plugin.fields.hash_field import BNNerfactoField
from bn_field_plugin.nn import frozen_statistics


class PackedHashField(BNNerfactoField):
    """nerfacto's field with BN-MLPs, for samples packed into one dimension.

    Only the pass that renders a training batch meets the batch's statistics. Occupancy grids and the sampler
    that skips empty space ask for densities at each step, at points that are not distributed like that
    batch: they get the running statistics, in training, with gradients and while statistics are made exact.
    """

    def density_fn(
        self, positions: Float[Tensor, "*batch 3"], times: Float[Tensor, "*batch 1"] | None = None
    ) -> Float[Tensor, "*batch 1"]:
        """Density at positions, with the running statistics, which it does not change."""
        with frozen_statistics(self):
            density: Tensor = super().density_fn(positions, times)
        return density

    def forward(self, ray_samples: RaySamples, compute_normals: bool = False) -> dict[FieldHeadNames, Tensor]:
        """Density and colour at samples.

        nerfstudio's sampler makes up one sample where all space is empty: one alone has no statistics.
        """
        alone = ray_samples.frustums.starts.numel() < 2
        with frozen_statistics(self) if alone else nullcontext():
            outputs: dict[FieldHeadNames, Tensor] = super().forward(ray_samples, compute_normals)
        return outputs
