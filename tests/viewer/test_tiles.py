"""Tiles cover the picture, and each is rendered by the picture's own rays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState, get_camera

from bn_field_plugin.viewer.rendering import render
from bn_field_plugin.viewer.tiles import Mosaic, Size, camera_of, next_tile
from tests.viewer.cases import trained_pipeline

POSE = torch.tensor([[1.0, 0, 0, 0.1], [0, 0, -1, -4.0], [0, 1, 0, 0.2]])


@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_tiles_cover_each_pixel_once_and_are_as_small_as_asked(
    height: int, width: int, rays: list[int]
) -> None:
    size, done, count = Size(height, width), 0, torch.zeros(height, width)
    for step in range(size.rays):
        if done == size.rays:
            break
        asked = rays[step % len(rays)]
        tile = next_tile(size, done, asked)
        assert 1 <= tile.size.rays <= asked
        count[tile.window] += 1
        done += tile.size.rays
        assert count.flatten()[:done].eq(1).all()  # tiles come in the order of rows
    assert count.eq(1).all()


@pytest.mark.parametrize("kind", [CameraType.PERSPECTIVE, CameraType.FISHEYE, CameraType.EQUIRECTANGULAR])
def test_rays_of_tiles_are_rays_of_the_picture(kind: CameraType) -> None:
    size = Size(11, 14)
    camera = get_camera(CameraState(0.7, 14 / 11, POSE, kind, idx=3), size.height, size.width)
    whole, done = camera.generate_rays(camera_indices=0, keep_shape=True), 0
    while done < size.rays:
        tile = next_tile(size, done, 33)
        part = camera_of(camera, tile).generate_rays(camera_indices=0, keep_shape=True)
        for name in ("origins", "directions", "pixel_area", "times"):
            expected = getattr(whole, name)[tile.window]
            torch.testing.assert_close(getattr(part, name), expected, atol=1e-5, rtol=1e-3)
        done += tile.size.rays


@pytest.mark.parametrize("thin", [False, True])
def test_a_mosaic_is_the_picture(capture: Path, thin: bool) -> None:
    model, size = trained_pipeline(capture).model, Size(9, 12)
    camera = get_camera(CameraState(0.7, 12 / 9, POSE, CameraType.PERSPECTIVE), size.height, size.width)
    whole, mosaic = render(model, camera, thin=thin), Mosaic(size)
    while not mosaic.is_whole:
        tile = next_tile(size, mosaic.done, 30)
        mosaic.add(tile, {**render(model, camera_of(camera, tile), thin=thin), "words": ["no", "tensor"]})
    assert mosaic.outputs.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(mosaic.outputs[name], value, atol=1e-4, rtol=1e-4)


def test_the_coarser_picture_stands_where_no_tile_is_yet() -> None:
    before = {"rgb": torch.tensor([[[0.1], [0.2]], [[0.3], [0.4]]]), "flag": torch.tensor([[[True]]])}
    mosaic = Mosaic(Size(4, 6), before)
    assert not mosaic.is_whole
    tile = next_tile(mosaic.size, 0, 6)
    mosaic.add(tile, {"rgb": torch.ones(1, 6, 1), "flag": torch.zeros(1, 6, 1, dtype=torch.bool)})
    assert mosaic.outputs["rgb"][:, :, 0].tolist() == [
        [1.0] * 6,
        *torch.tensor([[0.1] * 3 + [0.2] * 3, [0.3] * 3 + [0.4] * 3, [0.3] * 3 + [0.4] * 3]).tolist(),
    ]
    assert mosaic.outputs["flag"][:, 0, 0].tolist() == [False, True, True, True]
