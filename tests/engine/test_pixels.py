"""Pixels are drawn where masks allow it: for one image, for several, and where few are left."""

import pytest
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.pixel_samplers import PairPixelSamplerConfig, PixelSamplerConfig

from bn_field_plugin.engine.pixels import MaskPixelSampler, sample_masks_rightly


def batch(images: int, height: int = 6, width: int = 8) -> dict:
    mask = torch.zeros(images, height, width, 1, dtype=torch.bool)
    mask[:, 1:5, 2:7] = True
    return {
        "image": torch.rand(images, height, width, 3),
        "mask": mask,
        "image_idx": torch.arange(images),
    }


def sampler(rays: int, **options) -> MaskPixelSampler:
    return MaskPixelSampler(PixelSamplerConfig(num_rays_per_batch=rays, **options))


@pytest.mark.parametrize("images", [1, 2, 5])
def test_pixels_lie_in_the_masks_and_are_spread_evenly(images: int) -> None:
    torch.manual_seed(0)
    data = batch(images)
    drawn = sampler(4000 * images).sample(data)
    c, y, x = drawn["indices"].unbind(1)
    assert data["mask"][c, y, x].all()
    torch.testing.assert_close(drawn["image"], data["image"][c, y, x])
    counts = torch.bincount(c * 48 + y * 8 + x, minlength=48 * images)
    assert counts[data["mask"].flatten()].min() > 130  # of 200
    assert counts.max() < 270


def test_images_of_several_sizes_have_masks_too() -> None:
    parts = [batch(1), batch(1, 9, 7)]
    data = {
        "image": [part["image"][0] for part in parts],
        "mask": [part["mask"][0] for part in parts],
        "image_idx": torch.arange(2),
    }
    drawn = sampler(64).sample(data)
    assert all(data["mask"][c][y, x] for c, y, x in drawn["indices"])


def test_a_single_pixel_serves_all_rays() -> None:
    data = batch(2, 50, 50)
    data["mask"][:] = False
    data["mask"][1, 3, 4] = True
    drawn = sampler(16, max_num_iterations=2).sample(data)
    assert (drawn["indices"] == torch.tensor([1, 3, 4])).all()


def test_only_nerfstudio_s_own_sampler_is_replaced() -> None:
    config = VanillaDataManagerConfig()
    sample_masks_rightly(config)
    assert isinstance(config.pixel_sampler.setup(), MaskPixelSampler)
    config = VanillaDataManagerConfig(pixel_sampler=PairPixelSamplerConfig())
    sample_masks_rightly(config)
    assert not isinstance(config.pixel_sampler.setup(), MaskPixelSampler)
    sample_masks_rightly(object())
