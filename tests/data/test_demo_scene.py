"""The rendered data set: the same bytes at every run, and a place of its own in the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bn_field_plugin.data import demo_scene
from bn_field_plugin.data.demo_scene import (
    DemoSceneConfig,
    demo_scene_mesh,
    demo_scene_open3d_mesh,
    ensure_demo_scene,
    render_demo_scene,
)
from bn_field_plugin.errors import UserError

TINY = DemoSceneConfig(image_size=16, num_train=2, num_val=1, num_test=1, samples=1)
ROOT = Path(__file__).parents[2]


def _content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _start(call):
    """Another Python process that evaluates one expression on the module's names."""
    code = f"from bn_field_plugin.data.demo_scene import *; {call}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_renderings_are_equal_byte_for_byte_also_from_another_process(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    render_demo_scene(folders[0], TINY)
    render_demo_scene(folders[1], TINY)
    process = _start(f"render_demo_scene(Path({str(folders[2])!r}), {TINY!r})")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    first, second, third = map(_content, folders)
    assert len(first) == 3 + 4  # transforms files, pictures
    assert first == second == third


def test_it_is_in_blender_format(tmp_path):
    render_demo_scene(tmp_path, TINY)
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        meta = json.loads((tmp_path / f"transforms_{split}.json").read_text())
        assert 0 < meta["camera_angle_x"] < 1
        assert len(meta["frames"]) == count
        for frame in meta["frames"]:
            with Image.open(tmp_path / (frame["file_path"] + ".png")) as picture:
                assert (picture.mode, picture.size) == ("RGBA", (16, 16))


def test_cache_is_filled_once_and_keyed_by_the_configuration(tmp_path):
    folder = ensure_demo_scene(TINY, tmp_path, show_progress=False)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert ensure_demo_scene(TINY, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    other = ensure_demo_scene(DemoSceneConfig(16, 1, 1, 1, samples=1), tmp_path, show_progress=False)
    assert other != folder
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, other.name])


def test_key_depends_on_the_scenes_version(monkeypatch):
    before = TINY.key
    monkeypatch.setattr(demo_scene, "SCENE_VERSION", demo_scene.SCENE_VERSION + 1)
    assert TINY.key != before


def test_full_disk_is_a_users_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="No space left"):
        ensure_demo_scene(TINY, tmp_path, show_progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"image_size": 4}, {"num_train": 0}, {"num_test": -1}, {"samples": 17}])
def test_values_out_of_range_are_users_errors(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name.replace("_", "-")):
        DemoSceneConfig(**wrong)


def test_progress_is_shown_on_standard_error(tmp_path, capsys):
    ensure_demo_scene(TINY, tmp_path)
    output = capsys.readouterr()
    assert "4/4 views" in output.err
    assert not output.out


def test_open3d_mesh_is_the_mesh():
    mesh = demo_scene_mesh()
    theirs = demo_scene_open3d_mesh()
    assert theirs.is_edge_manifold()
    assert theirs.is_orientable()
    assert (len(theirs.vertices), len(theirs.triangles)) == (len(mesh.vertices), len(mesh.faces))
    assert theirs.has_vertex_normals()
