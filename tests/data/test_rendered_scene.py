"""Embedded scenes: limits of their options, and their places in the cache."""

from dataclasses import replace

import pytest

from bn_field_plugin.data.capture_scene import CaptureScene
from bn_field_plugin.data.demo_scene import DemoScene
from bn_field_plugin.errors import UserError

TINY = DemoScene(image_size=16, num_train=2, num_val=1, num_test=1, samples=1)


def test_it_is_rendered_once_for_each_configuration(tmp_path):
    folder = TINY.ensure(tmp_path, show_progress=False)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert TINY.ensure(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    other = replace(TINY, num_train=1).ensure(tmp_path, show_progress=False)
    assert other != folder
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, other.name])


@pytest.mark.parametrize("scene", [DemoScene(), CaptureScene()], ids=["demo", "capture"])
def test_its_name_in_the_cache_depends_on_options_and_version(scene, monkeypatch):
    names = {scene.cache_name, replace(scene, samples=2).cache_name}
    monkeypatch.setattr(type(scene), "version", scene.version + 1)
    names.add(scene.cache_name)
    assert len(names) == 3
    assert all(name.startswith(scene.scene.replace(" ", "-")) for name in names)


@pytest.mark.parametrize(
    ("scene", "name", "value"),
    [
        (DemoScene, "image_size", 4),
        (DemoScene, "num_train", 0),
        (DemoScene, "num_test", -1),
        (DemoScene, "samples", 17),
        (CaptureScene, "width", 4),
        (CaptureScene, "height", 0),
        (CaptureScene, "num_views", 7),
        (CaptureScene, "pose_error", -1),
        (CaptureScene, "pose_error", float("nan")),
        (CaptureScene, "samples", 17),
    ],
)
def test_options_out_of_their_limits_are_users_errors(scene, name, value):
    with pytest.raises(UserError, match=f"{scene.scene}: {name.replace('_', '-')} must be"):
        scene(**{name: value})


def test_options_come_from_attributes_of_the_same_names():
    class Options:
        image_size, num_train, num_val, num_test, samples, data = 16, 2, 1, 1, 1, None

    assert DemoScene.like(Options) == TINY
