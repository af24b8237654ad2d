"""The rendered data set: the same bytes at every run, and a place of its own in the cache."""

import json

import pytest
from PIL import Image

from bn_field_plugin.data.demo_scene import DemoScene
from bn_field_plugin.errors import UserError
from tests.data.folders import contents
from tests.processes import start_python

TINY = DemoScene(image_size=16, num_train=2, num_val=1, num_test=1, samples=1)


@pytest.mark.slow
def test_two_renderings_are_equal_byte_for_byte_also_from_another_process(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    TINY.render(folders[0])
    TINY.render(folders[1])
    code = "from pathlib import Path; from bn_field_plugin.data.demo_scene import *"
    process = start_python(f"{code}; {TINY!r}.render(Path({str(folders[2])!r}))")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    first, second, third = map(contents, folders)
    assert len(first) == 3 + 4  # transforms files, pictures
    assert first == second == third


def test_it_is_in_blender_format(tmp_path):
    TINY.render(tmp_path)
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        meta = json.loads((tmp_path / f"transforms_{split}.json").read_text())
        assert 0 < meta["camera_angle_x"] < 1
        assert len(meta["frames"]) == count
        for frame in meta["frames"]:
            with Image.open(tmp_path / (frame["file_path"] + ".png")) as picture:
                assert (picture.mode, picture.size) == ("RGBA", (16, 16))


def test_full_disk_is_a_users_error_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="No space left"):
        TINY.ensure(tmp_path, show_progress=False)
    assert not list(tmp_path.iterdir())


def test_progress_is_shown_on_standard_error(tmp_path, capsys):
    TINY.ensure(tmp_path)
    output = capsys.readouterr()
    assert "Rendering the demo scene (once): 4 to do" in output.err
    assert not output.out
