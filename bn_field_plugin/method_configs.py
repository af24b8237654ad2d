"""The methods that nerfstudio finds through the entry points `nerfstudio.method_configs`.

Imported at the start of every ns-* command, so it imports nothing that nerfstudio has not loaded already.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.plugins.types import MethodSpecification

from bn_field_plugin.engine.optimizers import AdamConfig, MuonOptimizerConfig
from bn_field_plugin.engine.pipeline import BNPipelineConfig
from bn_field_plugin.engine.schedulers import CosineDecayConfig, ExponentialDecayConfig
from bn_field_plugin.engine.trainer import BNTrainerConfig
from bn_field_plugin.fields.radiance_field import RadianceFieldConfig
from bn_field_plugin.models.bn_nerf import BNNeRFModelConfig
from bn_field_plugin.models.bn_nerfacto import BNNerfactoModelConfig
from bn_field_plugin.models.plenoxel import PlenoxelModelConfig
from bn_field_plugin.nn import NormName


def _machine() -> MachineConfig:
    """CUDA where it is present, else the CPU; nerfstudio's default stops where it is not."""
    return MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")


def _optimizers(hidden_lr: float, lr: float, warmup_steps: int) -> dict[str, Any]:
    """Muon for hidden matrices and Adam for all else, each with a cosine decay over the run."""
    schedule = CosineDecayConfig(warmup_steps=warmup_steps)
    return {
        "hidden_matrices": {"optimizer": MuonOptimizerConfig(lr=hidden_lr), "scheduler": schedule},
        "fields": {"optimizer": AdamConfig(lr=lr), "scheduler": schedule},
    }


def _paper_size() -> BNTrainerConfig:
    """Vanilla NeRF's networks and samples, for CUDA."""
    return BNTrainerConfig(
        method_name="bn-nerf",
        machine=_machine(),
        max_num_iterations=30_000,
        steps_per_save=2000,
        mixed_precision=True,
        pipeline=BNPipelineConfig(
            datamanager=VanillaDataManagerConfig(
                dataparser=BlenderDataParserConfig(),
                train_num_rays_per_batch=4096,
                eval_num_rays_per_batch=4096,
            ),
            model=BNNeRFModelConfig(eval_num_rays_per_chunk=8192),
        ),
        optimizers=_optimizers(hidden_lr=2e-3, lr=2e-3, warmup_steps=500),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 14),
        vis="viewer",
    )


def _small(
    method_name: str,
    norm: NormName,
    hidden_lr: float,
    lr: float,
    activation: Literal["relu", "sine"] = "relu",
) -> BNTrainerConfig:
    """A field that two CPU cores train in minutes; the same for every norm, but for the learning rates."""
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
    return BNTrainerConfig(
        method_name=method_name,
        machine=_machine(),
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
            model=BNNeRFModelConfig(
                norm=norm,
                coarse=coarse,
                fine=fine,
                num_coarse_samples=48,
                num_fine_samples=48,
                reuse_coarse_samples=False,
                eval_num_rays_per_chunk=4096,
            ),
        ),
        optimizers=_optimizers(hidden_lr, lr, warmup_steps=50),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13),
        vis="viewer",
    )


def _plenoxel() -> BNTrainerConfig:
    """A voxel grid, for CPU and CUDA."""
    schedule = ExponentialDecayConfig(final_fraction=0.1)
    return BNTrainerConfig(
        method_name="plenoxel",
        machine=_machine(),
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
            model=PlenoxelModelConfig(eval_num_rays_per_chunk=4096),
        ),
        optimizers={
            "density": {"optimizer": AdamConfig(lr=0.3), "scheduler": schedule},
            "color": {"optimizer": AdamConfig(lr=0.05), "scheduler": schedule},
        },
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13),
        vis="viewer",
    )


def _nerfacto() -> BNTrainerConfig:
    """nerfacto's settings, with BN-MLPs after the hash grids."""
    schedule = CosineDecayConfig(warmup_steps=50)
    camera_schedule = ExponentialDecayConfig(final_fraction=0.1)
    return BNTrainerConfig(
        method_name="bn-nerfacto",
        machine=_machine(),
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


bn_nerf = MethodSpecification(
    config=_paper_size(),
    description="NeRF with batch-normalised networks, paper size (8 x 256, coarse and fine); for CUDA.",
)
"""`bn-nerf`"""

bn_nerf_small = MethodSpecification(
    config=_small("bn-nerf-small", "batch", hidden_lr=2e-2, lr=5e-3),
    description="NeRF with batch-normalised networks, small: trains in minutes on a laptop's CPU.",
)
"""`bn-nerf-small`"""

nerf_small = MethodSpecification(
    config=_small("nerf-small", "none", hidden_lr=2e-2, lr=5e-3),
    description="bn-nerf-small without norm, for honest comparisons.",
)
"""`nerf-small`"""

bn_nerfacto = MethodSpecification(
    config=_nerfacto(),
    description="nerfacto with batch-normalised networks after its hash grid; for captures, on CUDA.",
)
"""`bn-nerfacto`"""

siren_nerf = MethodSpecification(
    config=_small("siren-nerf", "none", hidden_lr=1e-3, lr=5e-4, activation="sine"),
    description="nerf-small with sines instead of a positional encoding, for comparisons.",
)
"""`siren-nerf`"""

plenoxel = MethodSpecification(
    config=_plenoxel(),
    description="A voxel grid of density and spherical harmonics without any network, for comparisons.",
)
"""`plenoxel`"""
