"""instant-ngp (Müller et al. 2022) with BN-MLPs after its hash grid; needs CUDA."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import torch
from nerfstudio.models.instant_ngp import InstantNGPModelConfig, NGPModel
from torch import Tensor

from bn_field_plugin.fields.fused import use_fused_inference
from bn_field_plugin.fields.packed_field import PackedHashField
from bn_field_plugin.fields.tcnn import usable_implementation
from bn_field_plugin.models.background import rgba_without_background
from bn_field_plugin.models.image_metrics import EvaluatesImages, without_lpips
from bn_field_plugin.nn import NormName, UserError


@dataclass
class BNNGPModelConfig(InstantNGPModelConfig):
    """instant-ngp with a norm in its networks."""

    _target: type = field(default_factory=lambda: BNNGPModel)
    norm: NormName = "batch"
    """Norm of the hidden layers for density and colour; none gives the plain networks, in torch."""
    hidden_dim: int = 64
    """Units of the hidden layer for the density."""
    hidden_dim_color: int = 64
    """Units of each hidden layer for the colour."""
    num_levels: int = 16
    """Levels of the hash grid."""
    base_res: int = 16
    """Resolution of its coarsest level."""
    features_per_level: int = 2
    """Features of each level."""
    scene: Literal["auto", "bounded", "unbounded"] = "auto"
    """Bounded: nothing outside the scene's box, one level of the occupancy grid, even steps. Unbounded:
    instant-ngp's own settings for captures. Auto: bounded for Blender data."""
    background_color: Literal["auto", "random", "black", "white"] = "auto"  # type: ignore[assignment]
    """Colour behind everything. Auto: white for bounded scenes, random for unbounded ones."""
    implementation: Literal["tcnn", "torch"] = "tcnn"
    """Implementation of the encodings; torch where tiny-cuda-nn is absent or does not work."""
    calibration_rays: int = 8192
    """Training rays over which the statistics are made exact before evaluation and before a checkpoint."""
    fused_inference: Literal["auto", "never"] = "auto"
    """Auto: evaluate, in the viewer too, the networks that fit (ReLU, no skip connections, at most 127 units)
    by tiny-cuda-nn's fully fused MLP where it is installed and agrees with torch. Never: always by torch."""


class BNNGPModel(EvaluatesImages, NGPModel):
    """instant-ngp whose networks after the hash grid are BN-MLPs.

    Exact statistics are those of the samples that the occupancy grid and the density let through while they
    are computed; the density that the sampler skips by takes the running statistics as they are by then.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).

    Raises:
        UserError: the model is to be on another device than CUDA.
    """

    config: BNNGPModelConfig
    field: PackedHashField

    def populate_modules(self) -> None:
        """Make instant-ngp's modules, then put the BN-MLPs in their place."""
        device = self.kwargs.get("device")
        if device is not None and torch.device(device).type != "cuda":
            raise UserError("bn-ngp needs CUDA; on a CPU take bn-nerf-small")
        self.config = config = resolved(self.config)
        with without_lpips():
            super().populate_modules()
        del self.lpips
        self.field = PackedHashField(
            self.scene_box.aabb,
            self.num_train_data,
            config.norm,
            config.implementation,
            hidden_dim=config.hidden_dim,
            num_levels=config.num_levels,
            max_res=config.max_res,
            base_res=config.base_res,
            features_per_level=config.features_per_level,
            log2_hashmap_size=config.log2_hashmap_size,
            hidden_dim_color=config.hidden_dim_color,
            spatial_distortion=self.field.spatial_distortion,
            appearance_embedding_dim=32 if config.use_appearance_embedding else 0,
        )
        self.sampler.density_fn = self.field.density_fn
        if config.fused_inference == "auto":
            use_fused_inference(self)

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour without the background, and opacity (see `rgba_without_background`)."""
        return rgba_without_background(outputs, self.renderer_rgb.background_color, output_name)


def resolved(config: BNNGPModelConfig) -> BNNGPModelConfig:
    """The config with everything that `scene` decides."""
    bounded = config.scene == "bounded"
    background = config.background_color
    if background == "auto":
        background = "white" if bounded else "random"
    implementation = usable_implementation(config.implementation)
    config = dataclasses.replace(config, background_color=background, implementation=implementation)
    if not bounded:
        return config
    return dataclasses.replace(
        config,
        disable_scene_contraction=True,
        grid_levels=1,
        alpha_thre=0.0,
        cone_angle=0.0,
        near_plane=min(config.near_plane, 0.01),
    )
