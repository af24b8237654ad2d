"""NeuS on BN-MLPs."""

from __future__ import annotations

from typing import Any

from bn_field_plugin.engine.optimizers import AdamConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.methods.common import muon_and_adam, trained_on_a_cpu
from bn_field_plugin.models.bn_neus import BNNeuSModelConfig


def neus() -> BNTrainerConfig:
    """NeuS, small: two CPU cores train it in minutes."""
    model = BNNeuSModelConfig(
        num_samples=32, num_samples_importance=32, num_samples_outside=16, eval_num_rays_per_chunk=1024
    )
    variance = {"optimizer": AdamConfig(lr=5e-3), "scheduler": CosineDecayConfig(warmup_steps=50)}
    optimizers = muon_and_adam(hidden_lr=2e-2, lr=5e-3, warmup_steps=50) | {"variance": variance}
    config = trained_on_a_cpu("bn-neus", model, optimizers)
    datamanager: Any = config.pipeline.datamanager
    datamanager.train_num_rays_per_batch = 512
    return config
