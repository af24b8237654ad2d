"""nerfstudio's pixel sampler, mended for masks of a single image and for masks that leave few pixels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor


class MaskPixelSampler(PixelSampler):
    """Draws pixels evenly from those where the masks are true.

    nerfstudio's sampler squeezes the masks, which also drops the dimension of the images if there is only
    one: a single evaluation image, or each of images of several sizes. Where masks leave little, nerfstudio's
    draws without replacement, and fails if they leave fewer pixels than there are rays.
    """

    def rejection_sample_mask(
        self,
        mask: Bool[Tensor, "n h w 1"],
        num_samples: int,
        num_images: int,
        image_height: int,
        image_width: int,
        device: torch.device | str,
    ) -> Int[Tensor, "num_samples 3"]:
        """Image, row and column of each sample.

        Args:
            mask: true where pixels count; at least one does.
            num_samples: number of pixels to draw.
            num_images: number n of images.
            image_height: height h of the images in pixels.
            image_width: width w of the images in pixels.
            device: device of the result.
        """
        inside = mask[..., 0].bool()
        size = torch.tensor([num_images, image_height, image_width], device=device)
        found = torch.empty(num_samples, 3, dtype=torch.long, device=device)
        missing = torch.arange(num_samples, device=device)
        for _ in range(self.config.max_num_iterations):
            drawn = (torch.rand((len(missing), 3), device=device) * size).long()
            found[missing] = drawn
            c, y, x = drawn.to(inside.device).unbind(1)
            missing = missing[~inside[c, y, x].to(device)]
            if len(missing) == 0:
                return found
        allowed = inside.nonzero().to(device)
        found[missing] = allowed[torch.randint(len(allowed), (len(missing),), device=device)]
        return found


def sample_masks_rightly(datamanager: Any) -> None:
    """Put `MaskPixelSampler` into a datamanager's config in place of nerfstudio's plain sampler."""
    sampler = getattr(datamanager, "pixel_sampler", None)
    if type(sampler) is PixelSamplerConfig and sampler._target is PixelSampler:
        sampler._target = MaskPixelSampler
