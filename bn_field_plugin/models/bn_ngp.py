"""instant-ngp (Müller et al. 2022) with BN-MLPs after its hash grid, on any device."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.model_components.losses import MSELoss
from nerfstudio.model_components.renderers import RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor
from torch.nn import Parameter

from bn_field_plugin.fields.fused import use_fused_inference
from bn_field_plugin.fields.hash_radiance_field import HashRadianceField, HashRadianceFieldConfig
from bn_field_plugin.fields.tcnn import usable_implementation
from bn_field_plugin.models.chunks import RendersInChunks
from bn_field_plugin.models.colliders import UNBOUNDED_NEAR, scene_collider
from bn_field_plugin.models.image_metrics import EvaluatesImages, ray_psnr
from bn_field_plugin.models.normals import NormalsOnRequest
from bn_field_plugin.models.occupancy_renderer import OccupancyRenderer
from bn_field_plugin.models.proposal_renderer import ProposalConfig, ProposalRenderer
from bn_field_plugin.models.scene import CalibratedSceneConfig, ExportsColors
from bn_field_plugin.nn import NormName


@dataclass
class BNNGPModelConfig(CalibratedSceneConfig, ModelConfig):
    """A hash grid with a norm in the networks after it.

    A bounded scene is sampled in the occupied cells of an occupancy grid, an unbounded one where proposal
    networks expect density.
    """

    _target: type = field(default_factory=lambda: BNNGPModel)
    norm: NormName = "batch"
    """Norm of the hidden layers for density and colour; none gives the plain networks for comparison."""
    freeze_norm_at: float = 0.25
    """Share of training after which the statistics, made exact, stay as they are. 1 is never. On lego, bn-ngp
    loses nothing by a quarter (docs/how-it-works.md)."""
    network: HashRadianceFieldConfig = field(default_factory=HashRadianceFieldConfig)
    """Sizes of hash grid and networks."""
    background_color: Literal["auto", "random", "last_sample", "black", "white"] = "auto"
    """Colour behind everything. Random: another one for each ray and step in training, white in evaluation.
    Auto: random for bounded scenes whose pictures have alpha, white for those without, the last sample's for
    unbounded ones."""
    grid_resolution: int = 64
    """Bounded scenes: cells of the occupancy grid along each axis."""
    steps_per_ray: int = 192
    """Bounded scenes: samples on the box's diagonal, if all of it were occupied."""
    samples_per_step: int = 2**14
    """Samples of a training step. Its rays follow from it: train-num-rays-per-batch is not used."""
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    """Unbounded scenes: sizes and losses of the proposal networks that choose the samples."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=lambda: CameraOptimizerConfig(mode="off"))
    """Refine the cameras' poses while training."""
    implementation: Literal["tcnn", "torch"] = "torch"
    """Implementation of the hash grid: torch (with compiled loops on a CPU), or tcnn for tiny-cuda-nn's on
    CUDA, where it is installed and works. No GPU has run the latter yet."""
    render_normals: bool = False
    """Add normals to rendered images (viewer, ns-render); exports get them in any case."""
    fused_inference: Literal["auto", "never"] = "never"
    """Auto: evaluate, in the viewer too, the networks that fit (ReLU, no skip connections, at most 127 units)
    by tiny-cuda-nn's fully fused MLP where it is installed and agrees with torch; no GPU has run this yet.
    Never: always by torch."""

    @property
    def keeps_alpha(self) -> bool:
        """Whether training takes pictures with their alpha, instead of pictures already on a background."""
        return self.is_bounded and self.background_color in ("auto", "random")


class BNNGPModel(EvaluatesImages, ExportsColors, RendersInChunks, NormalsOnRequest, Model):
    """A hash grid and BN-MLPs, rendered behind an occupancy grid or with proposal networks.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: BNNGPModelConfig
    field: HashRadianceField
    density_wanted: bool = False
    """Whether outputs include `density`, log10(1 + largest density on the ray); set by the viewer."""

    def populate_modules(self) -> None:
        """Make field, renderer and loss.

        Raises:
            UserError: a number out of its range.
        """
        super().populate_modules()  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        config, aabb = self.config, self.scene_box.aabb
        self.is_unbounded = not config.is_bounded
        implementation = usable_implementation(config.implementation)
        self.field = HashRadianceField(aabb, config.network, config.norm, self.is_unbounded, implementation)
        self.occupancy: OccupancyRenderer | None = None
        self.proposals: ProposalRenderer | None = None
        if self.is_unbounded:
            assert self.field.contraction is not None
            self.proposals = ProposalRenderer(
                aabb, config.proposals, self.field.contraction, implementation, config.samples_per_step
            )
            if config.enable_collider:
                self.collider = scene_collider(self.scene_box, True)  # type: ignore[assignment]
        else:
            self.occupancy = OccupancyRenderer(
                aabb, config.grid_resolution, config.steps_per_ray, config.samples_per_step, UNBOUNDED_NEAR
            )
            self.collider = None
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        self.renderer_rgb = RGBRenderer(background_color=self.shown_background)
        self.rgb_loss = MSELoss()
        if config.fused_inference == "auto":
            use_fused_inference(self)

    @property
    def shown_background(self) -> Literal["last_sample", "black", "white"]:
        """Background of rendered pictures."""
        chosen = self.config.shown_background()
        return "white" if chosen == "random" else chosen

    @property
    def wanted_rays(self) -> int:
        """Number of rays of the next training step, for each process."""
        renderer = self.proposals if self.occupancy is None else self.occupancy
        assert renderer is not None
        return int(renderer.num_rays)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Parameters in three groups: hash grid and networks, proposal networks, cameras."""
        groups = {"fields": list(self.field.parameters())}
        if self.proposals is not None:
            groups["proposal_networks"] = list(self.proposals.parameters())
        self.camera_optimizer.get_param_groups(groups)
        return groups

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """A callback before each step, by which the sampling follows the field as it is trained."""

        def follow(step: int) -> None:
            if self.occupancy is not None:
                self.occupancy.update(self.field, step)
            elif self.proposals is not None:
                self.proposals.before_step(step)

        return [
            TrainingCallback(
                [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], update_every_num_iters=1, func=follow
            )
        ]

    def get_outputs(  # type: ignore[override]  # nerfstudio's also takes cameras, for splats
        self, ray_bundle: RayBundle
    ) -> dict[str, Tensor]:
        """Render rays.

        Returns:
            `rgb`, `depth`, `accumulation`. In training, `rgb` has no background yet where that is a fixed or
            a random colour, and the losses of the sampling are added. In evaluation `normals` in [0, 1] are
            added.
        """
        if self.training:
            self.camera_optimizer.apply_to_raybundle(ray_bundle)
        losses: dict[str, Tensor] = {}
        if self.occupancy is not None:
            rays = self.occupancy.rays_of(ray_bundle.origins, ray_bundle.directions)
            render = self.occupancy.train_rays if self.training else self.occupancy.render
            rendered = render(self.field, rays)
            last = torch.zeros_like(rendered.color)
        else:
            assert self.proposals is not None
            rendered, last, losses = self.proposals.render(self.field, ray_bundle)
        color, accumulation, depth, density = rendered
        background = self.renderer_rgb.background_color
        if background == "last_sample":
            color = color + (1 - accumulation) * last
        elif not self.training:
            shown = self.renderer_rgb.get_background_color(background, color.shape, color.device)
            color = color + (1 - accumulation) * shown
        if not self.training:
            color = torch.nan_to_num(color).clamp(0, 1)
        outputs = {"rgb": color, "accumulation": accumulation, "depth": depth, **losses}
        if self.density_wanted:
            outputs["density"] = torch.log10(1 + density)
        if not self.training and self._normals_wanted:
            surface = ray_bundle.origins + ray_bundle.directions * depth
            outputs["normals"] = (self.field.normals(surface) + 1) / 2
        return outputs

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error of the colours, and the losses of the sampling."""
        image = batch["image"].to(self.device)
        color, accumulation = outputs["rgb"], outputs["accumulation"]
        background = self.renderer_rgb.background_color
        if self.training and background != "last_sample":
            # With one fixed background colour, training fills empty space with fog of that colour. Pictures
            # without alpha leave no choice: their background is part of them.
            if self.config.keeps_alpha and image.shape[-1] == 4:
                shown = torch.rand_like(color)
            else:
                shown = self.renderer_rgb.get_background_color(background, color.shape, color.device)
            color = color + (1 - accumulation) * shown
            image = self.renderer_rgb.blend_background(image, shown)
        else:
            image = self.renderer_rgb.blend_background(image)
        losses = {"rgb_loss": self.rgb_loss(image, color)}
        return losses | {name: outputs[name] for name in outputs if name.endswith("_loss")}

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch of rays, in dB, on the background that rendered pictures have."""
        image = self.renderer_rgb.blend_background(batch["image"].to(self.device))
        color, background = outputs["rgb"], self.renderer_rgb.background_color
        if self.training and background != "last_sample":
            shown = self.renderer_rgb.get_background_color(background, color.shape, color.device)
            color = color + (1 - outputs["accumulation"]) * shown
        metrics = ray_psnr({"rgb": color}, image)
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics
