"""Colours without the background are those before blending."""

import pytest
import torch

from bn_field_plugin.models.background import rgba_without_background


@pytest.mark.parametrize(("name", "value"), [("white", 1.0), ("black", 0.0)])
def test_blending_is_undone(name: str, value: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(20, 3, generator=generator)
    alpha = torch.rand(20, 1, generator=generator) * 0.9 + 0.1
    outputs = {"rgb": rgb * alpha + value * (1 - alpha), "accumulation": alpha}
    torch.testing.assert_close(rgba_without_background(outputs, name), torch.cat([rgb, alpha], dim=-1))


def test_empty_rays_are_transparent() -> None:
    outputs = {"rgb": torch.ones(3, 3), "accumulation": torch.zeros(3, 1)}
    assert (rgba_without_background(outputs, "white")[:, 3] == 0).all()


def test_the_last_sample_is_no_background() -> None:
    rgb, alpha = torch.rand(4, 3), torch.rand(4, 1)
    outputs = {"rgb": rgb, "accumulation": alpha}
    torch.testing.assert_close(rgba_without_background(outputs, "last_sample")[:, :3], rgb)
