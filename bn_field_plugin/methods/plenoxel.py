"""A voxel grid without any network."""

from __future__ import annotations

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.schedulers import ExponentialDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import trained_on_a_cpu
from bn_field_plugin.models.plenoxel import PlenoxelModelConfig


def plenoxel() -> BNTrainerConfig:
    """A voxel grid, for CPU and CUDA."""
    schedule = ExponentialDecayConfig(final_fraction=0.1)
    optimizers = {
        "density": {"optimizer": AdamConfig(lr=0.3), "scheduler": schedule},
        "color": {"optimizer": AdamConfig(lr=0.05), "scheduler": schedule},
    }
    return trained_on_a_cpu("plenoxel", PlenoxelModelConfig(eval_num_rays_per_chunk=4096), optimizers)
