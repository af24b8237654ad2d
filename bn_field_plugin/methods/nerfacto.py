"""nerfacto with BN-MLPs after its hash grids."""

from __future__ import annotations

import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.pipeline import BNPipelineConfig
from bn_field_plugin.engine.schedulers import ExponentialDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import machine
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModelConfig


def nerfacto() -> BNTrainerConfig:
    """nerfacto's settings, with BN-MLPs after the hash grids."""
    # nerfacto's own: to a tenth in 100,000 steps, half in 30,000. A cosine costs short runs quality.
    schedule = ExponentialDecayConfig(final_fraction=0.5)
    camera_schedule = ExponentialDecayConfig(final_fraction=0.1)
    return BNTrainerConfig(
        method_name="bn-nerfacto",
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
            model=BNNerfactoModelConfig(eval_num_rays_per_chunk=1 << 15, average_init_density=0.01),
        ),
        optimizers={
            "proposal_networks": {"optimizer": AdamConfig(lr=1e-2), "scheduler": schedule},
            "fields": {"optimizer": AdamConfig(lr=1e-2), "scheduler": schedule},
            "camera_opt": {"optimizer": AdamConfig(lr=1e-3), "scheduler": camera_schedule},
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    )
