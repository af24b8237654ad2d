"""mip-NeRF on BN-MLPs."""

from __future__ import annotations

from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.fields.radiance_field import RadianceFieldConfig
from bn_field_plugin.methods.common import muon_and_adam, trained_on_a_cpu
from bn_field_plugin.models.bn_mipnerf import BNMipNeRFModelConfig


def small() -> BNTrainerConfig:
    """A field that two CPU cores train in minutes; its options go up to paper size."""
    network = RadianceFieldConfig(
        depth=4, width=64, skips=(), num_features=32, head_width=64, position_frequencies=5
    )
    model = BNMipNeRFModelConfig(
        network=network, num_coarse_samples=32, num_fine_samples=32, eval_num_rays_per_chunk=4096
    )
    return trained_on_a_cpu("bn-mipnerf", model, muon_and_adam(hidden_lr=2e-2, lr=5e-3, warmup_steps=50))
