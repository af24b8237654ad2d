"""instant-ngp on BN-MLPs."""

from __future__ import annotations

from typing import Any

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import trained_on_a_cpu
from bn_field_plugin.models.bn_ngp import BNNGPModelConfig
from bn_field_plugin.nn import NormName


def ngp(method_name: str, norm: NormName, lr: float, betas: tuple[float, float]) -> BNTrainerConfig:
    """A hash grid and small networks, trained in a minute on two CPU cores.

    Args:
        method_name: name of the method.
        norm: norm of the networks. Methods with different norms differ in Adam's rate and betas too, in
            nothing else.
        lr: learning rate of Adam.
        betas: Adam's betas, for grid and networks.
    """
    schedule = CosineDecayConfig(warmup_steps=50)
    adam = AdamConfig(lr=lr, betas=betas, fused=True)
    group: dict[str, Any] = {"optimizer": adam, "scheduler": schedule}
    cameras: dict[str, Any] = {"optimizer": AdamConfig(lr=1e-3), "scheduler": schedule}
    config = trained_on_a_cpu(
        method_name,
        BNNGPModelConfig(norm=norm, eval_num_rays_per_chunk=1 << 15),
        {"fields": group, "proposal_networks": group, "camera_opt": cameras},
    )
    config.viewer.num_rays_per_chunk = 1 << 15
    return config
