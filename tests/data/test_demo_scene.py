"""The rendered data set: the same bytes at every run, and a cache that never holds half a scene."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from bn_field_plugin.data import demo_scene
from bn_field_plugin.data.demo_scene import (
    ABANDONED_AFTER,
    DemoSceneConfig,
    default_cache_dir,
    demo_scene_mesh,
    demo_scene_open3d_mesh,
    ensure_demo_scene,
    is_whole,
    render_demo_scene,
)
from bn_field_plugin.nn.errors import UserError

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
    assert len(first) == 3 + 4 + 1  # transforms files, pictures, manifest
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


@pytest.mark.parametrize(
    "damage", ["file missing", "file cut", "no manifest", "manifest cut", "only a folder"]
)
def test_damaged_cache_is_rendered_anew(tmp_path, damage):
    folder = ensure_demo_scene(TINY, tmp_path, show_progress=False)
    whole = _content(folder)
    victim = folder / ("train/r_1.png" if "file" in damage else "manifest.json")
    if damage == "only a folder":
        for name in whole:
            (folder / name).unlink()
    elif "cut" in damage:
        victim.write_bytes(victim.read_bytes()[:20])
    else:
        victim.unlink()
    assert not is_whole(folder)
    assert ensure_demo_scene(TINY, tmp_path, show_progress=False) == folder
    assert _content(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_scene_appears_by_one_rename(tmp_path, monkeypatch):
    rendered, inodes = [], []

    def render(folder, *args, **kwargs):
        rendered.append(folder)
        inodes.append(folder.stat().st_ino)
        render_demo_scene(folder, *args, **kwargs)

    monkeypatch.setattr(demo_scene, "render_demo_scene", render)
    folder = ensure_demo_scene(TINY, tmp_path, show_progress=False)
    assert rendered[0].parent == tmp_path  # beside it, so on the same disk
    assert rendered[0] != folder
    assert folder.stat().st_ino == inodes[0]  # the same folder, not a copy


def test_two_processes_may_race(tmp_path):
    processes = [_start(f"print(ensure_demo_scene({TINY!r}, {str(tmp_path)!r}))") for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert {output.strip() for output, _ in outputs} == {str(tmp_path / f"demo-scene-{TINY.key}")}
    assert [path.name for path in tmp_path.iterdir()] == [f"demo-scene-{TINY.key}"]
    assert is_whole(tmp_path / f"demo-scene-{TINY.key}")


def test_the_loser_of_a_race_keeps_the_winners_folder(tmp_path):
    folder = ensure_demo_scene(TINY, tmp_path, show_progress=False)
    late = tmp_path / "late"
    render_demo_scene(late, TINY)
    inode = folder.stat().st_ino
    demo_scene._put_in_place(late, folder)
    assert folder.stat().st_ino == inode
    assert is_whole(folder)


def test_a_killed_run_leaves_nothing_that_passes_for_a_scene(tmp_path):
    large = DemoSceneConfig(image_size=400, num_train=500, num_val=1, num_test=1)
    process = _start(f"ensure_demo_scene({large!r}, {str(tmp_path)!r})")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/train/r_1.png")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".")
    assert not is_whole(leftover)

    # It may still be another process's work, so it stays for a while, and then goes.
    folder = ensure_demo_scene(TINY, tmp_path, show_progress=False)
    assert leftover.exists()
    old = time.time() - ABANDONED_AFTER - 60
    for path in (*leftover.rglob("*"), leftover):
        os.utime(path, (old, old))
    (folder / "manifest.json").unlink()
    ensure_demo_scene(TINY, tmp_path, show_progress=False)
    assert not leftover.exists()


def test_cache_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="BN_FIELD_CACHE") as error:
        ensure_demo_scene(TINY, tmp_path / "file" / "cache")
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_full_disk_is_a_users_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="No space left"):
        ensure_demo_scene(TINY, tmp_path, show_progress=False)
    assert not list(tmp_path.iterdir())


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("BN_FIELD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/bn_field_plugin")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/x")
    assert default_cache_dir() == Path("/var/cache/x/bn_field_plugin")
    monkeypatch.setenv("BN_FIELD_CACHE", "~/own")
    assert default_cache_dir() == Path("/home/someone/own")


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
