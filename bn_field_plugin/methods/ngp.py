"""instant-ngp on BN-MLPs."""

from __future__ import annotations

import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.pipeline import BNPipelineConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import machine
from bn_field_plugin.models.bn_ngp import BNNGPModelConfig


def ngp() -> BNTrainerConfig:
    """instant-ngp's settings, with BN-MLPs after the hash grid; for CUDA."""
    return BNTrainerConfig(
        method_name="bn-ngp",
        machine=machine(),
        max_num_iterations=30_000,
        steps_per_save=2000,
        steps_per_eval_batch=500,
        mixed_precision=torch.cuda.is_available(),
        pipeline=BNPipelineConfig(
            datamanager=VanillaDataManagerConfig(
                dataparser=NerfstudioDataParserConfig(),
                train_num_rays_per_batch=4096,
                eval_num_rays_per_batch=4096,
            ),
            model=BNNGPModelConfig(eval_num_rays_per_chunk=8192),
        ),
        optimizers={
            "fields": {"optimizer": AdamConfig(lr=1e-2), "scheduler": CosineDecayConfig(warmup_steps=50)}
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 12),
        vis="viewer",
    )
