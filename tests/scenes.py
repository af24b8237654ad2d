"""Tiny models, rays and pipelines for the tests of fields, models, engine and export."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import Frustums, RayBundle, RaySamples
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor, nn

from bn_field_plugin.engine.pipeline import BNPipeline, BNPipelineConfig
from bn_field_plugin.fields.hash_radiance_field import HashRadianceFieldConfig
from bn_field_plugin.fields.radiance_field import RadianceField, RadianceFieldConfig
from bn_field_plugin.models.bn_nerf import BNNeRFModel, BNNeRFModelConfig
from bn_field_plugin.models.bn_ngp import BNNGPModelConfig
from bn_field_plugin.models.proposal_renderer import ProposalConfig
from bn_field_plugin.nn import NormName
from tests.nn.cases import vary

BOX = torch.tensor([[-1.5, -1.5, -1.5], [1.5, 1.5, 1.5]])
"""The box that nerfstudio gives to Blender data."""


def tiny_sizes() -> RadianceFieldConfig:
    """A field of a few hundred parameters."""
    return RadianceFieldConfig(
        depth=2,
        width=16,
        skips=(),
        num_features=8,
        head_width=16,
        position_frequencies=3,
        direction_frequencies=1,
    )


def tiny_field(norm: NormName = "batch", unbounded: bool = False, seed: int = 0) -> RadianceField:
    """A tiny field whose statistics and scales differ from those of new norms."""
    torch.manual_seed(seed)
    field = RadianceField(BOX, tiny_sizes(), norm, unbounded)
    vary(field)
    return field


def tiny_model_config(**options: object) -> BNNeRFModelConfig:
    """A model of two tiny fields, eight samples a ray in each pass."""
    settings = {
        "coarse": tiny_sizes(),
        "fine": tiny_sizes(),
        "num_coarse_samples": 8,
        "num_fine_samples": 8,
        "scene": "bounded",
        "eval_num_rays_per_chunk": 64,
        "calibration_rays": 96,
    }
    return BNNeRFModelConfig(**{**settings, **options})


def tiny_model(seed: int = 0, **options: object) -> BNNeRFModel:
    """A model with tiny fields, whose statistics differ from those of new norms."""
    torch.manual_seed(seed)
    model = tiny_model_config(**options).setup(scene_box=SceneBox(BOX), num_train_data=1)
    vary(model)
    return model


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all buffers of a module's norms."""
    return {name: value.clone() for name, value in module.named_buffers() if ".norm." in name}


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two dictionaries hold the same values, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def rays(num: int, seed: int = 0, toward: float = 1.0) -> RayBundle:
    """Rays from distance 4 to points near the origin; `toward` -1 sends them away from the scene."""
    generator = torch.Generator().manual_seed(seed)
    origins = nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=-1) * 4
    targets = torch.rand(num, 3, generator=generator) - 0.5
    directions = nn.functional.normalize(targets - origins, dim=-1) * toward
    return RayBundle(
        origins=origins,
        directions=directions,
        pixel_area=torch.full((num, 1), 1e-4),
        camera_indices=torch.zeros(num, 1, dtype=torch.long),
    )


def samples_at(
    positions: Float[Tensor, "*batch 3"], directions: Float[Tensor, "*batch 3"] | None = None
) -> RaySamples:
    """Samples that stand at given points, seen along given directions."""
    if directions is None:
        directions = torch.zeros_like(positions)
        directions[..., 0] = 1
    zeros = torch.zeros_like(positions[..., :1])
    return RaySamples(
        frustums=Frustums(positions, directions, zeros, zeros, torch.ones_like(zeros)),
        camera_indices=zeros.long(),
    )


def tiny_pipeline_config(
    data: Path, rays_per_batch: int = 48, norm: NormName = "batch", **model: object
) -> BNPipelineConfig:
    """A pipeline over a capture in Blender format."""
    return BNPipelineConfig(
        datamanager=VanillaDataManagerConfig(
            data=data,
            dataparser=BlenderDataParserConfig(),
            train_num_rays_per_batch=rays_per_batch,
            eval_num_rays_per_batch=rays_per_batch,
        ),
        model=tiny_model_config(norm=norm, **model),
    )


def tiny_pipeline(data: Path, seed: int = 0, **options: object) -> BNPipeline:
    """Make that pipeline on the CPU, with validation data."""
    torch.manual_seed(seed)
    random.seed(seed)  # nerfstudio shuffles the images with Python's generator
    pipeline: BNPipeline = tiny_pipeline_config(data, **options).setup(device="cpu")
    return pipeline


def train_steps(pipeline: BNPipeline, num: int, seed: int | None = None) -> None:
    """Train a pipeline by plain gradient descent, in the trainer's order of calls."""
    if seed is not None:
        torch.manual_seed(seed)
    parameters = [p for group in pipeline.get_param_groups().values() for p in group]
    for step in range(num):
        pipeline.train()
        _, losses, _ = pipeline.get_train_loss_dict(step)
        loss = torch.stack(list(losses.values())).sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.05 * gradient


def tiny_ngp_config(**options: object) -> BNNGPModelConfig:
    """A hash-grid model of a few thousand parameters, for bounded and unbounded scenes."""
    settings: dict[str, Any] = {
        "network": HashRadianceFieldConfig(
            num_levels=3,
            features_per_level=2,
            base_res=4,
            max_res=16,
            log2_hashmap_size=8,
            init_scale=0.1,
            hidden_dim=16,
            num_features=7,
            hidden_dim_color=16,
        ),
        "grid_resolution": 8,
        "steps_per_ray": 32,
        "samples_per_step": 1024,
        "proposals": ProposalConfig(
            num_samples=(8,), num_field_samples=6, num_levels=2, max_res=(32,), log2_hashmap_size=6
        ),
        "scene": "bounded",
        "implementation": "torch",
        "calibration_rays": 96,
        "eval_num_rays_per_chunk": 64,
    }
    return BNNGPModelConfig(**{**settings, **options})
