"""The capture: nerfstudio's format, the same bytes at every run, a fixed split, pictures at true poses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from bn_field_plugin.data.capture_objects import LIGHTING, capture_renderer
from bn_field_plugin.data.capture_scene import (
    CAMERA_ANGLE_X,
    CaptureScene,
)
from bn_field_plugin.data.capture_walk import walk, with_errors
from bn_field_plugin.data.rendering import Renderer, SceneObject
from bn_field_plugin.data.shapes import RoundedCylinder
from bn_field_plugin.data.validation import check_dataset

TINY = CaptureScene(width=32, height=18, num_views=10, samples=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return TINY.ensure(tmp_path_factory.mktemp("cache"), show_progress=False)


def test_two_renderings_are_equal_byte_for_byte(folder, tmp_path):
    TINY.render(tmp_path)
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    assert len(files) == 1 + 10
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_it_is_in_nerfstudios_format_and_passes_its_checks(folder):
    meta = json.loads((folder / "transforms.json").read_text())
    assert meta["camera_model"] == "OPENCV"
    assert (meta["w"], meta["h"], meta["cx"], meta["cy"]) == (32, 18, 16, 9)
    assert meta["fl_x"] == meta["fl_y"] == pytest.approx(16 / np.tan(CAMERA_ANGLE_X / 2))
    for frame in meta["frames"]:
        with Image.open(folder / frame["file_path"]) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 18))
    check_dataset(NerfstudioDataParserConfig(data=folder), required_splits=("train", "val", "test"))


@pytest.mark.parametrize("views", [8, 10, 50])
def test_the_split_is_the_same_for_every_method_and_covers_all_views(views):
    meta = replace(TINY, num_views=views).transforms()
    train, test = set(meta["train_filenames"]), set(meta["test_filenames"])
    assert meta["val_filenames"] == meta["test_filenames"]
    assert not train & test
    assert train | test == {frame["file_path"] for frame in meta["frames"]}
    assert len(test) == round(views / 8)


def test_held_out_views_of_the_whole_capture_are_of_both_loops():
    numbers = [int(name[-9:-4]) for name in CaptureScene().transforms()["test_filenames"]]
    assert sum(number <= 25 for number in numbers) == sum(number > 25 for number in numbers) == 3


def test_pictures_are_taken_at_the_true_poses_and_the_file_has_wrong_ones(folder):
    meta = json.loads((folder / "transforms.json").read_text())
    written = np.array([frame["transform_matrix"] for frame in meta["frames"]])
    np.testing.assert_allclose(written, with_errors(walk(10), TINY.pose_error))
    assert np.abs(written - walk(10)).max() > 1e-4
    image = capture_renderer().render(walk(10)[3, :3], (32, 18), CAMERA_ANGLE_X, 1)
    picture = np.asarray(Image.open(folder / meta["frames"][3]["file_path"]))
    np.testing.assert_array_equal(picture, np.rint(255 * image[..., :3]))
    exact = [frame["transform_matrix"] for frame in replace(TINY, pose_error=0).transforms()["frames"]]
    np.testing.assert_allclose(exact, walk(10), atol=1e-12)


def test_pixels_are_seen_along_nerfstudios_rays(tmp_path):
    """Colours of the backdrop are directions, so each pixel tells whether nerfstudio's ray is right."""
    config = replace(TINY, pose_error=0)
    config.render(tmp_path)
    parser = NerfstudioDataParserConfig(
        data=tmp_path, orientation_method="none", center_method="none", auto_scale_poses=False
    )
    cameras = parser.setup().get_dataparser_outputs("test").cameras
    (index,) = range(4, 10, 8)  # the held-out view
    behind = SceneObject(RoundedCylinder.sphere(0.1), (0, 0, -90), lambda points, _: points)
    compass = Renderer([behind], LIGHTING, lambda directions: 0.5 + 0.5 * directions)
    colours = compass.render(walk(10)[index, :3], (32, 18), CAMERA_ANGLE_X, 1)[..., :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    rays = cameras.generate_rays(camera_indices=0)
    np.testing.assert_allclose(2 * linear - 1, rays.directions.numpy(), atol=1e-4)
    np.testing.assert_allclose(rays.origins[0, 0].numpy(), walk(10)[index, :3, 3], atol=1e-6)


def test_version_is_raised_when_the_capture_changes(folder):
    """A cache would keep the old capture. After a change, raise its version and mend the numbers here."""
    pictures = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())])
    assert CaptureScene.version == 1
    np.testing.assert_allclose(pictures.mean(axis=(0, 1, 2)), [108.95, 103.23, 90.87], atol=0.3)
    np.testing.assert_allclose(walk(50)[[3, 40], :3, 3].sum(axis=0), [0.9169, 0.5783, 3.7856], atol=1e-3)
