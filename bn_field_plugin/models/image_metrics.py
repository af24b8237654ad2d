"""Image metrics that never need a network connection."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.model_components.renderers import RGBRenderer
from torch import Tensor, nn

from bn_field_plugin.lpips import has_lpips


class ImageMetrics:
    """PSNR, SSIM and, where its weights are at hand, LPIPS of rendered images.

    This is no torch module, so that the weights of LPIPS do not enter a checkpoint.
    """

    def __init__(self) -> None:
        self._lpips: nn.Module | None = None

    def __call__(self, image: Float[Tensor, "h w 3"], rendered: Float[Tensor, "h w 3"]) -> dict[str, float]:
        """Metrics of a rendered image against the true one, both in [0, 1].

        Returns:
            `psnr` in dB, `ssim`, and `lpips` where its weights are at hand.
        """
        # Importing torchmetrics takes a second, which every ns-* command would pay at its start.
        from torchmetrics.functional.image import (
            peak_signal_noise_ratio,
            structural_similarity_index_measure,
        )

        true, ours = (x.clamp(0, 1).moveaxis(-1, 0)[None] for x in (image, rendered))
        metrics = {
            "psnr": float(peak_signal_noise_ratio(ours, true, data_range=1.0)),
            "ssim": float(torch.as_tensor(structural_similarity_index_measure(ours, true, data_range=1.0))),
        }
        if has_lpips():
            if self._lpips is None:
                from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

                self._lpips = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
            self._lpips.to(true.device)
            metrics["lpips"] = float(self._lpips(ours, true))
        return metrics


class EvaluatesImages:
    """Mixin that gives models the metrics and pictures of a rendered image.

    It stands before nerfstudio's class among the bases of a model, whose methods it replaces.
    """

    renderer_rgb: RGBRenderer

    @cached_property
    def image_metrics(self) -> ImageMetrics:
        """What computes the metrics; made when first needed."""
        return ImageMetrics()

    def pictures(self, outputs: dict[str, Tensor], image: Float[Tensor, "h w 3"]) -> dict[str, Tensor]:
        """Pictures of a rendered image by name (see `shown_images`); a model may add more."""
        return shown_images(outputs, image)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics and pictures of a rendered image, as nerfstudio asks for them in an evaluation."""
        rgb = outputs["rgb"]
        image = self.renderer_rgb.blend_background(batch["image"].to(rgb.device))
        return self.image_metrics(image, rgb), self.pictures(outputs, image)


def ray_psnr(outputs: dict[str, Tensor], image: Float[Tensor, "n 3"]) -> dict[str, Tensor]:
    """PSNR in dB of the colours of a batch of rays, without gradients."""
    with torch.no_grad():
        return {"psnr": -10 * torch.log10(torch.mean((image - outputs["rgb"]) ** 2))}


def shown_images(outputs: dict[str, Tensor], image: Float[Tensor, "h w 3"]) -> dict[str, Tensor]:
    """Pictures of a rendered image: the true one beside it, its accumulation and its depth."""
    from nerfstudio.utils import colormaps

    accumulation = outputs["accumulation"]
    return {
        "img": torch.cat([image, outputs["rgb"].clamp(0, 1)], dim=1),
        "accumulation": colormaps.apply_colormap(accumulation),
        "depth": colormaps.apply_depth_colormap(outputs["depth"], accumulation=accumulation),
    }
