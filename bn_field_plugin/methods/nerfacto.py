"""nerfacto with BN-MLPs after its hash grids."""

from __future__ import annotations

from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.schedulers import ExponentialDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import trained_on_a_gpu
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModelConfig


def nerfacto() -> BNTrainerConfig:
    """nerfacto's settings, with BN-MLPs after the hash grids."""
    # As in nerfacto, rates would fall to a tenth in 100,000 steps, hence to half in a run of 30,000. A cosine
    # decay costs short runs quality.
    schedule = ExponentialDecayConfig(final_fraction=0.5)
    camera_schedule = ExponentialDecayConfig(final_fraction=0.1)
    optimizers = {
        "proposal_networks": {"optimizer": AdamConfig(lr=1e-2), "scheduler": schedule},
        "fields": {"optimizer": AdamConfig(lr=1e-2), "scheduler": schedule},
        "camera_opt": {"optimizer": AdamConfig(lr=1e-3), "scheduler": camera_schedule},
    }
    model = BNNerfactoModelConfig(eval_num_rays_per_chunk=1 << 15, average_init_density=0.01)
    return trained_on_a_gpu(
        "bn-nerfacto", NerfstudioDataParserConfig(), model, optimizers, viewer_rays=1 << 15
    )
