"""Plenoxels (Fridovich-Keil, Yu et al. 2022) in torch: a sum of voxel grids, which finer grids join later."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field
from typing import Any

from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.losses import MSELoss
from nerfstudio.model_components.ray_samplers import UniformLinDispPiecewiseSampler, UniformSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor
from torch.nn import Parameter

from bn_field_plugin.errors import UserError
from bn_field_plugin.fields.voxel_field import VoxelField
from bn_field_plugin.models.colliders import scene_collider
from bn_field_plugin.models.image_metrics import EvaluatesImages, ray_psnr
from bn_field_plugin.models.scene import ExportsColors, SceneConfig


@dataclass
class PlenoxelModelConfig(SceneConfig, ModelConfig):
    """A voxel grid, coarse to fine."""

    _target: type = field(default_factory=lambda: PlenoxelModel)
    resolutions: tuple[int, ...] = (32, 64, 96)
    """Corners of the grid along each axis: at first, and after each share of `refine_at`."""
    refine_at: tuple[float, ...] = (0.2, 0.5)
    """Shares of the run's steps after which the grid is made finer; one fewer than the resolutions."""
    num_samples: int = 128
    """Samples of each ray, evenly spaced."""
    tv_density: float = 1e-3
    """Weight of the density's total variation."""
    tv_color: float = 1e-3
    """Weight of the colours' total variation."""
    tv_cells: int = 2**14
    """Cells that the total variation looks at in a step."""


class PlenoxelModel(EvaluatesImages, ExportsColors, Model):
    """Renders a voxel grid.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: PlenoxelModelConfig
    field: VoxelField

    def populate_modules(self) -> None:
        """Make field, sampler, renderers and losses.

        Raises:
            UserError: resolutions and `refine_at` that do not go together.
        """
        super().populate_modules()  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        config = self.config
        if len(config.refine_at) != len(config.resolutions) - 1 or min(config.resolutions, default=0) < 2:
            raise UserError(
                "--pipeline.model.resolutions needs one number of at least 2 more than "
                f"--pipeline.model.refine-at; got {config.resolutions} and {config.refine_at}"
            )
        unbounded = not config.is_bounded
        self.field = VoxelField(self.scene_box.aabb, config.resolutions, unbounded=unbounded)
        spaced = UniformLinDispPiecewiseSampler if unbounded else UniformSampler
        self.sampler = spaced(num_samples=config.num_samples)
        if config.enable_collider:
            self.collider = scene_collider(self.scene_box, unbounded)  # type: ignore[assignment]
        self.renderer_rgb = RGBRenderer(background_color=config.shown_background())
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer(method="median")
        self.rgb_loss = MSELoss()

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Densities and colours as two groups, because their scales need different learning rates."""
        return {
            "density": list(self.field.density_grids.parameters()),
            "color": list(self.field.color_grids.parameters()),
        }

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """A callback that lets the next finer grid join after each share of `refine_at` of the run."""
        assert attributes.trainer is not None
        steps = attributes.trainer.config.max_num_iterations

        def refine(step: int) -> None:
            joined = 1 + sum(step >= share * steps for share in self.config.refine_at)
            self.field.active.fill_(max(joined, int(self.field.active)))

        return [
            TrainingCallback(
                [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], update_every_num_iters=1, func=refine
            )
        ]

    def get_outputs(  # type: ignore[override]  # nerfstudio's also takes cameras, for splats
        self, ray_bundle: RayBundle
    ) -> dict[str, Tensor]:
        """Render rays.

        Returns:
            `rgb`, `depth`, `accumulation`; in evaluation also `normals` in [0, 1].
        """
        samples = self.sampler(ray_bundle)
        outputs = self.field(samples)
        weights = samples.get_weights(outputs[FieldHeadNames.DENSITY])
        rendered = {
            "rgb": self.renderer_rgb(rgb=outputs[FieldHeadNames.RGB], weights=weights),
            "accumulation": self.renderer_accumulation(weights),
            "depth": self.renderer_depth(weights, samples),
        }
        if not self.training:
            surface = ray_bundle.origins + ray_bundle.directions * rendered["depth"]
            rendered["normals"] = (self.field.normals(surface) + 1) / 2
        return rendered

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error of the colours; in training also the grids' total variation."""
        pred, image = self.renderer_rgb.blend_background_for_loss_computation(
            pred_image=outputs["rgb"],
            pred_accumulation=outputs["accumulation"],
            gt_image=batch["image"].to(self.device),
        )
        losses = {"rgb_loss": self.rgb_loss(image, pred)}
        if self.training:
            density, color = self.field.total_variation(self.config.tv_cells)
            losses["tv_density"] = self.config.tv_density * density
            losses["tv_color"] = self.config.tv_color * color
        return losses

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch of rays, in dB."""
        return ray_psnr(outputs, self.renderer_rgb.blend_background(batch["image"].to(self.device)))
