"""The cache: a folder is made once, appears whole or not at all, and mends itself."""

import os
import signal
import time
from pathlib import Path

import pytest

from bn_field_plugin.data import scene_cache
from bn_field_plugin.data.scene_cache import (
    ABANDONED_AFTER,
    cache_key,
    default_cache_dir,
    ensure_cached,
    is_whole,
    write_manifest,
)
from bn_field_plugin.errors import UserError
from tests.data.folders import contents
from tests.processes import start_python

NAME = "small-scene-0"


def make(folder, *, pause=0.0):
    """Two files, the second after a while."""
    (folder / "train").mkdir()
    for index in range(2):
        (folder / "train" / f"r_{index}.txt").write_text(f"content of file {index}")
        time.sleep(pause)


def _start(cache, pause):
    """Another process that makes the folder, and prints where it is."""
    code = (
        "import functools, pathlib, tests.data.test_scene_cache as t; print(t.ensure_cached(t.NAME,"
        f" functools.partial(t.make, pause={pause}), pathlib.Path({str(cache)!r})))"
    )
    return start_python(code)


def test_it_is_made_once(tmp_path):
    folder = ensure_cached(NAME, make, tmp_path)
    assert folder == tmp_path / NAME
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert ensure_cached(NAME, pytest.fail, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


@pytest.mark.parametrize(
    "damage", ["file missing", "file cut", "no manifest", "manifest cut", "only a folder"]
)
def test_a_damaged_folder_is_made_anew(tmp_path, damage):
    folder = ensure_cached(NAME, make, tmp_path)
    whole = contents(folder)
    victim = folder / ("train/r_1.txt" if "file" in damage else "manifest.json")
    if damage == "only a folder":
        for name in whole:
            (folder / name).unlink()
    elif "cut" in damage:
        victim.write_bytes(victim.read_bytes()[:9])
    else:
        victim.unlink()
    assert not is_whole(folder)
    assert ensure_cached(NAME, make, tmp_path) == folder
    assert contents(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_it_appears_by_one_rename(tmp_path):
    made, inodes = [], []

    def spy(folder):
        make(folder)
        made.append(folder)
        inodes.append(folder.stat().st_ino)

    folder = ensure_cached(NAME, spy, tmp_path)
    assert made[0].parent == tmp_path  # a rename needs the same disk
    assert made[0] != folder
    assert folder.stat().st_ino == inodes[0]  # the same folder, not a copy


@pytest.mark.slow
def test_two_processes_may_race(tmp_path):
    processes = [_start(tmp_path, 0.2) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert {output.strip() for output, _ in outputs} == {str(tmp_path / NAME)}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert is_whole(tmp_path / NAME)


def test_the_loser_of_a_race_keeps_the_winners_folder(tmp_path):
    folder = ensure_cached(NAME, make, tmp_path)
    late = tmp_path / "late"
    late.mkdir()
    make(late)
    write_manifest(late)
    inode = folder.stat().st_ino
    scene_cache._put_in_place(late, folder)
    assert folder.stat().st_ino == inode
    assert is_whole(folder)


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_passes_for_a_scene(tmp_path):
    process = _start(tmp_path, 60)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/train/r_0.txt")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".")
    assert not is_whole(leftover)

    # It may still be another process's work, so it stays for a while, and then goes; others' stay for ever.
    folder = ensure_cached(NAME, make, tmp_path)
    assert leftover.exists()
    old = time.time() - ABANDONED_AFTER - 60
    for path in (*leftover.rglob("*"), leftover):
        os.utime(path, (old, old))
    (folder / "manifest.json").unlink()
    ensure_cached("other-1", make, tmp_path)
    assert leftover.exists()
    ensure_cached("small-scene-1", make, tmp_path)
    assert not leftover.exists()


def test_cache_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the demo scene.*BN_FIELD_CACHE") as error:
        ensure_cached(NAME, make, tmp_path / "file" / "cache", what="demo scene")
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UserError("no Open3D")])
def test_what_fails_leaves_nothing(tmp_path, error):
    def fail(folder):
        make(folder)
        raise error

    with pytest.raises(UserError, match=r"No space left|no Open3D"):
        ensure_cached(NAME, fail, tmp_path)
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


def test_keys_differ_with_the_content_and_not_with_its_order():
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1}) != cache_key({"a": 1, "b": 3})
