"""NeRF (Mildenhall et al. 2020) with BN-MLPs: a coarse and a fine field, each with statistics of its own."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from nerfstudio.cameras.rays import RayBundle
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.losses import MSELoss
from nerfstudio.model_components.ray_samplers import (
    PDFSampler,
    UniformLinDispPiecewiseSampler,
    UniformSampler,
)
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor, nn
from torch.nn import Parameter

from bn_field_plugin.fields.fused import use_fused_inference
from bn_field_plugin.fields.radiance_field import RadianceField, RadianceFieldConfig
from bn_field_plugin.models.chunks import RendersInChunks
from bn_field_plugin.models.colliders import scene_collider
from bn_field_plugin.models.image_metrics import EvaluatesImages, ray_psnr
from bn_field_plugin.models.normals import NormalsOnRequest
from bn_field_plugin.models.parameters import hidden_and_rest
from bn_field_plugin.models.scene import CalibratedSceneConfig, ExportsColors
from bn_field_plugin.nn import NormName


@dataclass
class CoarseToFineConfig(CalibratedSceneConfig, ModelConfig):
    """A radiance field that is sampled twice, with a norm in its networks."""

    norm: NormName = "batch"
    """Norm of the hidden layers of all networks; none gives the plain network for comparison."""
    num_coarse_samples: int = 64
    """Samples of each ray for the coarse field, evenly spaced."""
    num_fine_samples: int = 128
    """Samples of each ray for the fine field, drawn in proportion to the coarse samples' weights."""
    reuse_coarse_samples: bool = True
    """Give the fine field the coarse samples too, as the paper does."""
    render_normals: bool = False
    """Add normals to rendered images (viewer, ns-render); exports get them in any case."""
    fused_inference: Literal["auto", "never"] = "never"
    """Auto: evaluate, in the viewer too, the networks that fit (ReLU, no skip connections, at most 127 units)
    by tiny-cuda-nn's fully fused MLP where it is installed and agrees with torch; no GPU has run this yet.
    Never: always by torch."""


@dataclass
class BNNeRFModelConfig(CoarseToFineConfig):
    """NeRF with a norm in its networks."""

    _target: type = field(default_factory=lambda: BNNeRFModel)
    coarse: RadianceFieldConfig = field(default_factory=RadianceFieldConfig)
    """Sizes of the coarse field, whose weights tell where the fine field is sampled."""
    fine: RadianceFieldConfig = field(default_factory=RadianceFieldConfig)
    """Sizes of the fine field, which renders the picture."""


class BNNeRFModel(EvaluatesImages, ExportsColors, RendersInChunks, NormalsOnRequest, Model):
    """Coarse-to-fine NeRF on BN-MLPs.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: CoarseToFineConfig
    field_coarse: RadianceField
    field_fine: RadianceField

    def populate_modules(self) -> None:
        """Make fields, samplers, renderers and losses."""
        super().populate_modules()  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        config = self.config
        unbounded = not config.is_bounded
        self.field_coarse, self.field_fine = self.make_fields(unbounded)

        spaced = UniformLinDispPiecewiseSampler if unbounded else UniformSampler
        self.sampler_coarse = spaced(num_samples=config.num_coarse_samples)
        self.sampler_fine = PDFSampler(
            num_samples=config.num_fine_samples, include_original=config.reuse_coarse_samples
        )
        if config.enable_collider:
            planes = config.collider_params or {}
            far_plane = planes.get("far_plane", 6.0)
            self.collider = scene_collider(self.scene_box, unbounded, far_plane)  # type: ignore[assignment]

        self.renderer_rgb = RGBRenderer(background_color=config.shown_background())
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer(method="median")
        self.rgb_loss = MSELoss()
        if config.fused_inference == "auto":
            use_fused_inference(self)

    def make_fields(self, unbounded: bool) -> tuple[RadianceField, RadianceField]:
        """The coarse and the fine field."""
        config = cast(BNNeRFModelConfig, self.config)
        coarse, fine = (
            RadianceField(self.scene_box.aabb, sizes, config.norm, unbounded)
            for sizes in (config.coarse, config.fine)
        )
        return coarse, fine

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Hidden matrices (for Muon) and all else (for Adam)."""
        # Both fields are looked at together, because they may share their parameters.
        hidden, rest = hidden_and_rest(nn.ModuleList([self.field_coarse, self.field_fine]))
        groups = {"hidden_matrices": hidden, "fields": rest}
        return {name: group for name, group in groups.items() if group}

    def get_outputs(  # type: ignore[override]  # nerfstudio's also takes cameras, for splats
        self, ray_bundle: RayBundle
    ) -> dict[str, Tensor]:
        """Render rays.

        Returns:
            `rgb`, `depth`, `accumulation` of the fine field; in training also `rgb_coarse` and
            `accumulation_coarse`; in evaluation also `normals` in [0, 1].
        """
        outputs: dict[str, Tensor] = {}
        coarse_samples = self.sampler_coarse(ray_bundle)
        if self.training:
            coarse = self.field_coarse(coarse_samples)
            weights = coarse_samples.get_weights(coarse[FieldHeadNames.DENSITY])
            outputs["rgb_coarse"] = self.renderer_rgb(rgb=coarse[FieldHeadNames.RGB], weights=weights)
            outputs["accumulation_coarse"] = self.renderer_accumulation(weights)
        else:
            weights = coarse_samples.get_weights(self.field_coarse.get_density(coarse_samples)[0])

        fine_samples = self.sampler_fine(ray_bundle, coarse_samples, weights)
        fine = self.field_fine(fine_samples)
        weights = fine_samples.get_weights(fine[FieldHeadNames.DENSITY])
        outputs["rgb"] = self.renderer_rgb(rgb=fine[FieldHeadNames.RGB], weights=weights)
        outputs["accumulation"] = self.renderer_accumulation(weights)
        outputs["depth"] = self.renderer_depth(weights, fine_samples)
        if not self.training and self._normals_wanted:
            outputs["normals"] = self._surface_normals(ray_bundle, outputs["depth"])
        return outputs

    def _surface_normals(self, rays: RayBundle, depth: Tensor) -> Tensor:
        """Normals at the rendered depth, in [0, 1] as nerfstudio's exports read them."""
        return (self.field_fine.normals(rays.origins + rays.directions * depth) + 1) / 2

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error of the colours, of the coarse field too where it was rendered."""
        losses = {}
        for name, suffix in (("rgb_loss_fine", ""), ("rgb_loss_coarse", "_coarse")):
            if f"rgb{suffix}" not in outputs:
                continue
            pred, image = self.renderer_rgb.blend_background_for_loss_computation(
                pred_image=outputs[f"rgb{suffix}"],
                pred_accumulation=outputs[f"accumulation{suffix}"],
                gt_image=batch["image"].to(self.device),
            )
            losses[name] = self.config.loss_coefficients.get(name, 1.0) * self.rgb_loss(image, pred)
        return losses

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch of rays, in dB."""
        return ray_psnr(outputs, self.renderer_rgb.blend_background(batch["image"].to(self.device)))
