"""NeuS (Wang et al. 2021) with BN-MLPs: surfaces as signed distances, from images alone."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.renderers import RGBRenderer
from nerfstudio.models.neus import NeuSModel, NeuSModelConfig
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.weak import WeakTensorKeyDictionary

from bn_field_plugin.fields.radiance_field import RadianceField, RadianceFieldConfig
from bn_field_plugin.fields.sdf_field import BNSDFField, BNSDFFieldConfig
from bn_field_plugin.lpips import without_lpips
from bn_field_plugin.models.chunks import RendersInChunks
from bn_field_plugin.models.colliders import UNBOUNDED_NEAR, BoxCollider, scene_collider
from bn_field_plugin.models.image_metrics import EvaluatesImages, ray_psnr
from bn_field_plugin.models.parameters import hidden_and_rest
from bn_field_plugin.models.scene import CalibratedSceneConfig, ExportsColors
from bn_field_plugin.nn import NormName, StatisticsMode, frozen_statistics, running_norms


def _background() -> RadianceFieldConfig:
    return RadianceFieldConfig(depth=3, width=64, skips=(), num_features=32, head_width=32)


@dataclass
class BNNeuSModelConfig(CalibratedSceneConfig, NeuSModelConfig):
    """NeuS with a norm in its networks.

    An unbounded scene has its surface in the box, and a radiance field outside.
    """

    _target: type = field(default_factory=lambda: BNNeuSModel)
    norm: NormName = "batch"
    """Norm of the hidden layers of all networks; none gives the plain networks for comparison."""
    sdf_field: BNSDFFieldConfig = field(default_factory=BNSDFFieldConfig)  # type: ignore[assignment]
    """Sizes of the field of signed distances, and the sphere from which it starts."""
    background_field: RadianceFieldConfig = field(default_factory=_background)
    """Sizes of the radiance field outside the box of an unbounded scene."""
    background_color: Literal["auto", "random", "black", "white"] = "auto"  # type: ignore[assignment]
    """Colour behind everything. Auto: white for bounded scenes, black for unbounded ones."""
    anneal_share: float = 0.2
    """Share of the run's steps in which NeuS's opacity hardens from half to full dependence on the angle."""
    calibration_rays: int = 4096
    """Training rays over which the statistics are made exact before evaluation and before a checkpoint."""


class BNNeuSModel(EvaluatesImages, ExportsColors, RendersInChunks, NeuSModel):
    """NeuS on BN-MLPs.

    The sampler uses the running statistics and never changes them. While statistics are made exact
    (`nn.calibrate`), a bundle of rays keeps the samples of its first pass, so that the statistics of all
    layers come from the same samples.

    Args:
        config: the model; `scene` must be resolved (the pipeline does it).
    """

    config: BNNeuSModelConfig
    field: BNSDFField
    field_background: RadianceField  # type: ignore[assignment]

    def populate_modules(self) -> None:
        """Make nerfstudio's modules, then put our fields and the scene's bounds in their place."""
        config, aabb = self.config, self.scene_box.aabb
        background = config.shown_background(unbounded="black")
        self.config = dataclasses.replace(
            config,
            background_color=background,  # type: ignore[arg-type]  # its own type leaves last_sample out
            background_model="none",
        )
        with without_lpips():
            super().populate_modules()  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        del self.lpips, self.field_background
        self.field = BNSDFField(config.sdf_field, aabb, config.norm)
        if config.is_bounded:
            self.collider = scene_collider(self.scene_box, unbounded=False)  # type: ignore[assignment]
        else:
            # A ray that misses the box gets a short piece near the camera, behind which the background
            # begins.
            box = BoxCollider(self.scene_box, UNBOUNDED_NEAR, 2 * UNBOUNDED_NEAR)
            self.collider = box  # type: ignore[assignment]
            self.config.background_model = "mlp"  # nerfstudio's name for every background but its grid
            self.field_background = RadianceField(aabb, config.background_field, config.norm, unbounded=True)
        self.renderer_rgb = RGBRenderer(background_color=background)
        self._kept_samples = WeakTensorKeyDictionary()

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Hidden matrices (for Muon), NeuS's variance, and all else (for Adam)."""
        variance = list(self.field.deviation_network.parameters())
        fields = nn.ModuleList([self.field])
        if self.config.background_model != "none":
            fields.append(self.field_background)
        hidden, rest = hidden_and_rest(fields)
        groups = {
            "hidden_matrices": hidden,
            "variance": variance,
            "fields": [p for p in rest if p is not variance[0]],
        }
        return {name: group for name, group in groups.items() if group}

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """A callback that hardens NeuS's opacity over the first `anneal_share` of the run."""
        assert attributes.trainer is not None
        self.anneal_end = round(self.config.anneal_share * attributes.trainer.config.max_num_iterations)
        if self.anneal_end == 0:
            self.field.set_cos_anneal_ratio(1.0)
        return super().get_training_callbacks(attributes)

    @torch.no_grad()
    def _samples(self, ray_bundle: RayBundle) -> RaySamples:
        """Samples of rays, close to the surface that the field has with its running statistics."""
        collecting = any(norm.mode is StatisticsMode.COLLECT for norm in running_norms(self.field))
        if not collecting:
            self._kept_samples.clear()
        elif ray_bundle.origins in self._kept_samples:
            kept: RaySamples = self._kept_samples[ray_bundle.origins]
            return kept
        with frozen_statistics(self.field):
            samples: RaySamples = self.sampler(ray_bundle, sdf_fn=self.field.get_sdf)
        if collecting:
            self._kept_samples[ray_bundle.origins] = samples
        return samples

    def sample_and_forward_field(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Samples, the field's outputs at them, and weights: what nerfstudio's surface models render."""
        samples = self._samples(ray_bundle)
        outputs = self.field(samples, return_alphas=True)
        weights, transmittance = samples.get_weights_and_transmittance_from_alphas(
            outputs[FieldHeadNames.ALPHA]
        )
        return {
            "ray_samples": samples,
            "field_outputs": outputs,
            "weights": weights,
            "bg_transmittance": transmittance[:, -1, :],
        }

    def get_outputs(  # type: ignore[override]  # nerfstudio's also takes cameras, for splats
        self, ray_bundle: RayBundle
    ) -> dict[str, Tensor]:
        """Render rays.

        Returns:
            `rgb`, `depth` (distance from the camera's centre, as in the other methods), `accumulation` of the
            surface, and `bg_rgb` of an unbounded scene; in training also the outputs that the losses read; in
            evaluation also `normals` in [0, 1].
        """
        ray_bundle = copy.copy(ray_bundle)  # nerfstudio changes the bundle's ends to render the background
        # nerfstudio's surface models divide the depth by this norm, but its exports multiply unit directions
        # by it.
        ones = torch.ones_like(ray_bundle.origins[..., :1])
        ray_bundle.metadata = {**(ray_bundle.metadata or {}), "directions_norm": ones}
        outputs = super().get_outputs(ray_bundle)
        names = ["rgb", "depth", "accumulation"]
        if self.config.background_model != "none":
            names.append("bg_rgb")
        if self.training:
            return {name: outputs[name] for name in [*names, "normal", "weights", "eik_grad"]}
        normals = (nn.functional.normalize(outputs["normal"], dim=-1) + 1) / 2
        return {name: outputs[name] for name in names} | {"normals": normals.clamp(0, 1)}

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour of the surface without what is behind it, and opacity (see `rgba_without_background`)."""
        if "bg_rgb" in outputs:
            behind = outputs["bg_rgb"] * (1 - outputs["accumulation"])
            outputs = {**outputs, "rgb": outputs["rgb"] - behind}
        return super().get_rgba_image(outputs, output_name)

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch of rays, in dB; in training also the sharpness, in 1 / unit of length."""
        metrics = ray_psnr(outputs, self.renderer_rgb.blend_background(batch["image"].to(self.device)))
        if self.training:
            metrics["sharpness"] = self.field.sharpness.detach()
        return metrics

    def pictures(self, outputs: dict[str, Tensor], image: Float[Tensor, "h w 3"]) -> dict[str, Tensor]:
        """The pictures of every model, and the normals."""
        return super().pictures(outputs, image) | {"normals": outputs["normals"]}
