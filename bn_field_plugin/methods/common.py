"""What the configurations of several methods share."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.models.base_model import ModelConfig

from bn_field_plugin.engine.optimizers import AdamConfig, MuonOptimizerConfig
from bn_field_plugin.engine.pipeline import BNPipelineConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig


def machine() -> MachineConfig:
    """CUDA where there is a GPU, else the CPU; with nerfstudio's default, training stops without CUDA."""
    return MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")


def muon_and_adam(hidden_lr: float, lr: float, warmup_steps: int) -> dict[str, Any]:
    """Muon for hidden matrices and Adam for all else, each with a cosine decay over the run."""
    schedule = CosineDecayConfig(warmup_steps=warmup_steps)
    return {
        "hidden_matrices": {"optimizer": MuonOptimizerConfig(lr=hidden_lr), "scheduler": schedule},
        "fields": {"optimizer": AdamConfig(lr=lr), "scheduler": schedule},
    }


def trained_on_a_cpu(method_name: str, model: ModelConfig, optimizers: dict[str, Any]) -> BNTrainerConfig:
    """A method that two CPU cores train in minutes, on Blender data by default.

    Args:
        method_name: name of the method.
        model: config of its model.
        optimizers: optimizer and scheduler of each of the model's parameter groups.
    """
    return BNTrainerConfig(
        method_name=method_name,
        machine=machine(),
        max_num_iterations=2000,
        steps_per_save=500,
        steps_per_eval_batch=250,
        steps_per_eval_image=500,
        pipeline=BNPipelineConfig(
            datamanager=VanillaDataManagerConfig(
                dataparser=BlenderDataParserConfig(),
                train_num_rays_per_batch=1024,
                eval_num_rays_per_batch=1024,
            ),
            model=model,
        ),
        optimizers=optimizers,
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13),
        vis="viewer",
    )


def trained_on_a_gpu(
    method_name: str,
    dataparser: DataParserConfig,
    model: ModelConfig,
    optimizers: dict[str, Any],
    viewer_rays: int,
) -> BNTrainerConfig:
    """A method of paper size, for CUDA; it has not run there yet.

    It trains in single precision. `--mixed-precision True` is faster on CUDA, but has been tested under a
    CPU's autocast only.

    Args:
        method_name: name of the method.
        dataparser: default format of the data.
        model: config of the method's model.
        optimizers: optimizer and scheduler of each of the model's parameter groups.
        viewer_rays: rays that the viewer renders at a time.
    """
    return BNTrainerConfig(
        method_name=method_name,
        machine=machine(),
        max_num_iterations=30_000,
        steps_per_save=2000,
        steps_per_eval_batch=500,
        mixed_precision=False,
        pipeline=BNPipelineConfig(
            datamanager=VanillaDataManagerConfig(
                dataparser=dataparser,
                train_num_rays_per_batch=4096,
                eval_num_rays_per_batch=4096,
            ),
            model=model,
        ),
        optimizers=optimizers,
        viewer=ViewerConfig(num_rays_per_chunk=viewer_rays),
        vis="viewer",
    )
