"""NeRF on BN-MLPs: paper size, and small ones for a CPU."""

from __future__ import annotations

from typing import Literal

from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.fields.radiance_field import RadianceFieldConfig
from bn_field_plugin.methods.common import muon_and_adam, trained_on_a_cpu, trained_on_a_gpu
from bn_field_plugin.models.bn_nerf import BNNeRFModelConfig
from bn_field_plugin.nn import NormName


def paper_size() -> BNTrainerConfig:
    """Vanilla NeRF's networks and samples, for CUDA."""
    return trained_on_a_gpu(
        "bn-nerf",
        BlenderDataParserConfig(),
        BNNeRFModelConfig(eval_num_rays_per_chunk=8192),
        muon_and_adam(hidden_lr=2e-3, lr=2e-3, warmup_steps=500),
        viewer_rays=1 << 14,
    )


def small(
    method_name: str,
    norm: NormName,
    hidden_lr: float,
    lr: float,
    activation: Literal["relu", "sine"] = "relu",
) -> BNTrainerConfig:
    """A field that two CPU cores train in minutes; only the learning rates should depend on the norm."""
    coarse = RadianceFieldConfig(
        depth=2,
        width=32,
        skips=(),
        num_features=16,
        head_width=32,
        position_frequencies=5,
        direction_frequencies=2,
        activation=activation,
    )
    fine = RadianceFieldConfig(
        depth=4,
        width=64,
        skips=(),
        num_features=32,
        head_width=64,
        position_frequencies=5,
        activation=activation,
    )
    model = BNNeRFModelConfig(
        norm=norm,
        coarse=coarse,
        fine=fine,
        num_coarse_samples=48,
        num_fine_samples=48,
        reuse_coarse_samples=False,
        eval_num_rays_per_chunk=4096,
    )
    return trained_on_a_cpu(method_name, model, muon_and_adam(hidden_lr, lr, warmup_steps=50))
