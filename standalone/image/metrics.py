"""How close a reconstruction is to its image. Both are compared as 8-bit values, as a screen shows them."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import UInt8

from bn_field_plugin.lpips import has_lpips
from standalone.image.similarity import similarity

LPIPS_SIDE = 32
"""Length in pixels of the shortest side of an image that AlexNet, and so LPIPS, can take."""

Image8 = UInt8[np.ndarray, "h w c"]
"""8-bit pixels."""


def psnr(truth: Image8, ours: Image8) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite where they are equal."""
    error = squared_error(truth, ours)
    return math.inf if error == 0 else 10 * math.log10(255.0**2 / error)


def squared_error(truth: UInt8[np.ndarray, "*n"], ours: UInt8[np.ndarray, "*n"]) -> float:
    """Mean squared error of 8-bit values. The sum is of integers, and therefore exact."""
    difference = truth.astype(np.int32) - ours.astype(np.int32)
    return int(np.square(difference).sum(dtype=np.int64)) / truth.size


def image_metrics(truth: Image8, ours: Image8) -> dict[str, float | None]:
    """All metrics of a reconstruction.

    Returns:
        `psnr` in dB, `ssim` and `ms_ssim` (None where the image is too small for their windows), and `lpips`,
        which is present only if AlexNet's weights are and the image has colours. The alpha channel
        counts as one more channel, but not for LPIPS.
    """
    found: dict[str, float | None] = {"psnr": psnr(truth, ours), **similarity(truth, ours)._asdict()}
    if has_lpips() and truth.shape[2] >= 3 and min(truth.shape[:2]) >= LPIPS_SIDE:
        # Importing torchmetrics takes seconds, which an image without LPIPS should not cost.
        from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

        a, b = (
            torch.from_numpy(x[..., :3].astype(np.float32) / 255).movedim(-1, 0)[None] for x in (ours, truth)
        )
        value = learned_perceptual_image_patch_similarity(a, b, net_type="alex", normalize=True)
        found["lpips"] = float(value)
    return found
