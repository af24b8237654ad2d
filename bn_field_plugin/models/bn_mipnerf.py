"""mip-NeRF (Barron et al. 2021) with BN-MLPs: one field for both passes, with two sets of statistics."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field

from bn_field_plugin.fields.mip_field import MipRadianceField
from bn_field_plugin.fields.radiance_field import RadianceField, RadianceFieldConfig
from bn_field_plugin.models.bn_nerf import BNNeRFModel, CoarseToFineConfig
from bn_field_plugin.nn import with_own_statistics


@dataclass
class BNMipNeRFModelConfig(CoarseToFineConfig):
    """mip-NeRF with a norm in its network, paper size by default."""

    _target: type = field(default_factory=lambda: BNMipNeRFModel)
    network: RadianceFieldConfig = field(default_factory=lambda: RadianceFieldConfig(position_frequencies=16))
    """Sizes of the field, which the coarse and the fine pass share."""
    num_coarse_samples: int = 128
    """Samples of each ray in the coarse pass, evenly spaced."""
    num_fine_samples: int = 128
    """Samples of each ray in the fine pass, drawn in proportion to the coarse samples' weights."""
    reuse_coarse_samples: bool = False
    """Give the fine pass the coarse samples too; the paper does not."""
    loss_coefficients: dict[str, float] = field(
        default_factory=lambda: {"rgb_loss_coarse": 0.1, "rgb_loss_fine": 1.0}
    )
    """Weights of the losses of both passes."""


class BNMipNeRFModel(BNNeRFModel):
    """Coarse-to-fine rendering of conical frustums by one field.

    The samples of the two passes are distributed differently, so the field stands twice in the model: on the
    same parameters, with statistics of its own for each pass.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: BNMipNeRFModelConfig

    def make_fields(self, unbounded: bool) -> tuple[RadianceField, RadianceField]:
        """The field with the statistics of the coarse pass, and the field with those of the fine pass."""
        config = self.config
        fine = MipRadianceField(self.scene_box.aabb, config.network, config.norm, unbounded)
        return with_own_statistics(fine), fine
