"""The pictures agree with the geometry, by methods that share no code with the renderer."""

import builtins

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from PIL import Image

from bn_field_plugin.data.demo_renderer import (
    FLOOR,
    LIGHTING,
    OBJECTS,
    shared_renderer,
)
from bn_field_plugin.data.demo_scene import CAMERA_ANGLE_X, DemoScene, camera_poses
from bn_field_plugin.data.rendering import Renderer, import_open3d
from bn_field_plugin.errors import UserError
from tests.captures import write_blender_capture
from tests.data.surfaces import signed_distance

SIZE = 48
POST = np.array([0.36, 0.40, FLOOR + 0.84])
"""The middle of the target on top of the post: coral, the scene's highest point."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_blender_capture(tmp_path_factory.mktemp("scene"), SIZE, num_train=3, num_val=1, num_test=1)


@pytest.fixture(scope="module")
def parsed(capture):
    return BlenderDataParserConfig(data=capture).setup().get_dataparser_outputs("train")


def _pixels(parsed, index):
    return np.asarray(Image.open(parsed.image_filenames[index])).astype(np.float64) / 255


def _rays(parsed, index):
    bundle = parsed.cameras.generate_rays(camera_indices=index)
    return bundle.origins.numpy().astype(np.float64), bundle.directions.numpy().astype(np.float64)


def _closest_approach(origins, directions):
    """March along each ray by the distance function: the smallest distance met, and the depth of a hit."""
    origins, directions = origins.reshape(-1, 3), directions.reshape(-1, 3)
    depth, smallest = np.full(len(origins), 1.5), np.full(len(origins), np.inf)
    for _ in range(250):
        distance = signed_distance(OBJECTS, origins + depth[:, None] * directions)
        smallest = np.minimum(smallest, distance)
        depth = np.minimum(depth + np.maximum(distance, 0), 7)
    return smallest, depth


@pytest.mark.parametrize("index", range(3))
def test_alpha_is_the_silhouette_seen_along_nerfstudios_rays(parsed, index):
    smallest, _ = _closest_approach(*_rays(parsed, index))
    alpha = _pixels(parsed, index)[..., 3].reshape(-1)
    pixel = 4 * 2 * np.tan(CAMERA_ANGLE_X / 2) / SIZE  # width of a pixel at the scene
    outside, inside = smallest > 1.1 * pixel, smallest < 1e-4
    assert (alpha[outside] == 0).all()
    assert outside.mean() > 0.3
    # Where the ray through the middle of a pixel hits, some of the pixel is covered, most often all of it.
    assert (alpha[inside] > 0).all()
    assert inside.mean() > 0.1
    assert (alpha[inside] == 1).mean() > 0.8


def test_depth_of_the_mesh_is_that_of_the_distance_function(parsed):
    open3d = import_open3d()
    origins, directions = (part.reshape(-1, 3) for part in _rays(parsed, 0))
    scene = open3d.t.geometry.RaycastingScene()
    for item in OBJECTS:
        mesh = item.mesh()
        scene.add_triangles(
            open3d.core.Tensor(mesh.vertices.astype(np.float32)),
            open3d.core.Tensor(mesh.faces.astype(np.uint32)),
        )
    rays = np.concatenate([origins, directions], axis=1).astype(np.float32)
    cast = scene.cast_rays(open3d.core.Tensor(rays))["t_hit"].numpy()
    smallest, marched = _closest_approach(origins, directions)
    both = (smallest < 1e-5) & np.isfinite(cast)
    assert both.mean() > 0.1
    error = np.abs(cast[both] - marched[both])
    assert np.median(error) < 1e-3
    assert np.quantile(error, 0.95) < 2e-2  # facets show most where a ray grazes the surface


def test_a_known_point_appears_at_its_pixel(tmp_path):
    """The post's top is coral; where nerfstudio's rays pass it, the picture must be, too."""
    capture = write_blender_capture(tmp_path, 200, num_train=3, num_val=1, num_test=1)
    parsed = BlenderDataParserConfig(data=capture).setup().get_dataparser_outputs("train")
    checked = 0
    for index in range(len(parsed.image_filenames)):
        origins, directions = _rays(parsed, index)
        if origins[0, 0, 2] < 2.0:  # this camera is too low to see the top
            continue
        towards = POST - origins
        along = np.einsum("hwc,hwc->hw", towards, directions)
        miss = np.linalg.norm(towards - along[..., None] * directions, axis=-1)
        row, column = np.unravel_index(miss.argmin(), miss.shape)
        assert miss.min() < 0.01
        red, green, blue, alpha = _pixels(parsed, index)[row, column]
        assert alpha == 1
        assert red > 0.6
        assert red > 1.6 * max(green, blue)
        checked += 1
    assert checked


def test_a_pixel_is_the_mean_over_its_area_with_straight_alpha():
    pose = camera_poses(1, (0.1, 0.4))[0, :3]
    coarse = shared_renderer().render(pose, 16, CAMERA_ANGLE_X, samples=4)
    fine = shared_renderer().render(pose, 64, CAMERA_ANGLE_X, samples=1)
    alpha = fine[..., 3]
    assert set(np.unique(alpha)) == {0.0, 1.0}
    mean = fine.reshape(16, 4, 16, 4, 4).mean(axis=(1, 3))  # colours times alpha, which is 0 or 1
    np.testing.assert_allclose(coarse[..., 3], mean[..., 3])
    # The sun's soft edge is sampled in another order, so shadows differ a little.
    edge = (mean[..., 3] > 0) & (mean[..., 3] < 1)
    assert edge.sum() > 20
    assert np.abs(coarse[edge][:, :3] * coarse[edge][:, 3:] - mean[edge][:, :3]).mean() < 0.01


def test_colours_are_finite_in_range_and_empty_where_nothing_is():
    image = shared_renderer().render(camera_poses(1, (0.1, 0.4))[0, :3], 40, CAMERA_ANGLE_X, samples=2)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1 + 1e-6
    assert (image[image[..., 3] == 0] == 0).all()


def test_shadow_and_sky_darken_the_floor_behind_the_sphere():
    """Straight from above, the plinth away from the sun of the sphere is darker than the one towards it."""
    pose = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4]])
    size = 200
    image = shared_renderer().render(pose, size, CAMERA_ANGLE_X, samples=2)[..., :3].mean(axis=-1)

    def at(x, y):
        scale = size / 2 / (np.tan(CAMERA_ANGLE_X / 2) * (4 - FLOOR))
        return image[round(size / 2 - y * scale), round(size / 2 + x * scale)]

    # Both points on the cream border of the plinth.
    angle_shadow, angle_light = np.deg2rad(130), np.deg2rad(-50)
    shadow = at(0.95 * np.cos(angle_shadow), 0.95 * np.sin(angle_shadow))
    light = at(0.95 * np.cos(angle_light), 0.95 * np.sin(angle_light))
    assert shadow < 0.85 * light


def test_two_renderers_agree_to_the_bit():
    pose = camera_poses(1, (0.3, 0.7))[0, :3]
    first, second = (
        renderer.render(pose, 32, CAMERA_ANGLE_X, samples=2)
        for renderer in (shared_renderer(), Renderer(OBJECTS, LIGHTING))
    )
    np.testing.assert_array_equal(first, second)


def test_scene_version_is_raised_when_the_scene_changes():
    """A cache would keep the old scene. After a change, raise its version and mend the numbers here."""
    image = shared_renderer().render(camera_poses(1, (0.5, 0.5))[0, :3], 32, CAMERA_ANGLE_X, samples=3)
    image[..., :3] *= image[..., 3:]
    mean = image.mean(axis=(0, 1))
    assert DemoScene.version == 3
    np.testing.assert_allclose(mean, [0.237, 0.227, 0.229, 0.497], atol=1e-3)


def test_missing_open3d_is_a_users_error(monkeypatch):
    real = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.split(".")[0] == "open3d":
            raise ImportError("libfoo.so: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(UserError, match=r"Open3D.*libfoo.*pip install"):
        Renderer(OBJECTS, LIGHTING)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_cameras_stand_on_the_upper_hemisphere_and_look_at_the_origin(split):
    poses = DemoScene().poses(split)
    positions = poses[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), 4)
    assert (positions[:, 2] > 0).all()
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1),
        np.tile(np.eye(3), (len(poses), 1, 1)),
        atol=1e-12,
    )
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1)
    np.testing.assert_allclose(poses[:, :3, 2], positions / 4, atol=1e-12)  # looks along -z
    np.testing.assert_allclose(poses[:, 2, 0], 0, atol=1e-12)  # level horizon
    assert (poses[:, 2, 1] > 0).all()  # upright


def test_held_out_cameras_are_not_training_cameras():
    config = DemoScene()
    train, rest = config.poses("train"), np.concatenate([config.poses("val"), config.poses("test")])
    gaps = np.linalg.norm(train[:, None, :3, 3] - rest[None, :, :3, 3], axis=-1)
    assert gaps.min() > 0.05
    assert gaps.min(axis=0).max() < 1.2  # every direction has a camera near


def test_parser_sees_what_was_written(parsed):
    assert len(parsed.image_filenames) == 3
    expected = DemoScene(SIZE, num_train=3).poses("train")[:, :3]
    torch.testing.assert_close(parsed.cameras.camera_to_worlds, torch.from_numpy(expected).float())
    assert parsed.cameras.fx[0].item() == pytest.approx(SIZE / 2 / np.tan(CAMERA_ANGLE_X / 2), rel=1e-6)
    assert parsed.cameras.width[0].item() == SIZE
