"""instant-ngp on BN-MLPs."""

from __future__ import annotations

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import trained_on_a_gpu
from bn_field_plugin.models.bn_ngp import BNNGPModelConfig


def ngp() -> BNTrainerConfig:
    """instant-ngp's settings, with BN-MLPs after the hash grid; for CUDA."""
    optimizers = {
        "fields": {"optimizer": AdamConfig(lr=1e-2), "scheduler": CosineDecayConfig(warmup_steps=50)}
    }
    model = BNNGPModelConfig(eval_num_rays_per_chunk=8192)
    return trained_on_a_gpu("bn-ngp", NerfstudioDataParserConfig(), model, optimizers, viewer_rays=1 << 12)
