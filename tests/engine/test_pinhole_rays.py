"""Rays of pinhole cameras are nerfstudio's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.model_components.ray_generators import RayGenerator

from bn_field_plugin.engine.pinhole_rays import PinholeRayGenerator, is_pinhole, quicken_rays
from tests.laws import cases

CAMERAS, HEIGHT, WIDTH = 5, 9, 14


def cameras(seed: int = 0, focal: float = 20.0, **options: object) -> Cameras:
    """Cameras that differ in everything that a pinhole camera has."""
    generator = torch.Generator().manual_seed(seed)
    rotations, _ = torch.linalg.qr(torch.randn(CAMERAS, 3, 3, generator=generator))
    positions = torch.randn(CAMERAS, 3, 1, generator=generator)
    numbers = torch.rand(4, CAMERAS, generator=generator)
    return Cameras(
        camera_to_worlds=torch.cat([rotations, positions], dim=-1),
        fx=focal * (1 + numbers[0].double()),  # as nerfstudio's Blender parser gives it
        fy=focal * (1 + numbers[1]),
        cx=WIDTH * numbers[2],
        cy=HEIGHT * numbers[3],
        height=HEIGHT,
        width=WIDTH,
        **options,
    )


@cases(20)
@given(seed=st.integers(0, 99), focal=st.sampled_from([2.0, 20.0, 200.0]))
def test_they_are_nerfstudios(seed, focal):
    made = cameras(seed, focal)
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([CAMERAS, HEIGHT, WIDTH])
    pixels = (torch.rand(50, 3, generator=generator) * size).long()
    expected, found = RayGenerator(made)(pixels), PinholeRayGenerator(made)(pixels)
    assert torch.equal(found.origins, expected.origins)
    assert found.directions.dtype == expected.directions.dtype
    assert torch.equal(found.camera_indices, expected.camera_indices)
    torch.testing.assert_close(found.directions, expected.directions, rtol=0, atol=5e-7)
    # nerfstudio's are differences of rounded directions.
    torch.testing.assert_close(found.pixel_area, expected.pixel_area, rtol=1e-4 + 1e-5 * focal, atol=0)
    assert found.metadata.keys() == expected.metadata.keys()
    name = "directions_norm"
    torch.testing.assert_close(found.metadata[name], expected.metadata[name])
    assert found.times is None
    assert found.shape == expected.shape


def managed(made: Cameras) -> SimpleNamespace:
    datamanager = SimpleNamespace(train_ray_generator=RayGenerator(made), device="cpu")
    quicken_rays(datamanager)
    return datamanager


def test_undistorted_perspective_cameras_get_them():
    assert is_pinhole(cameras(distortion_params=torch.zeros(CAMERAS, 6)))
    assert type(managed(cameras()).train_ray_generator) is PinholeRayGenerator


@pytest.mark.parametrize(
    "options",
    [
        {"camera_type": CameraType.FISHEYE},
        {"camera_type": torch.tensor([[CameraType.PERSPECTIVE.value]] * 4 + [[CameraType.FISHEYE.value]])},
        {"distortion_params": torch.full((CAMERAS, 6), 0.01)},
        {"times": torch.zeros(CAMERAS, 1)},
        {"metadata": {"fisheye_crop_radius": torch.ones(CAMERAS, 1)}},
    ],
    ids=["fisheye", "one fisheye", "distorted", "times", "metadata"],
)
def test_other_cameras_keep_nerfstudios(options):
    assert type(managed(cameras(**options)).train_ray_generator) is RayGenerator


def test_a_datamanager_without_rays_stays():
    bare = SimpleNamespace()
    quicken_rays(bare)
    assert vars(bare) == {}
