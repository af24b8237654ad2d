"""Pictures of views: each in its own file, and how far it is on standard error."""

import numpy as np
import pytest
from PIL import Image

from bn_field_plugin.data.view_files import write_views


def _draw(pose):
    return np.full((2, 3, 3), pose[0, 3])


def _views(folder, count=5):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count) / 255
    return {folder / f"{index}.png": pose for index, pose in enumerate(poses)}


def test_each_file_has_the_view_of_its_pose(tmp_path):
    write_views(_views(tmp_path), _draw, title="Drawing", show_progress=False)
    for index in range(5):
        picture = Image.open(tmp_path / f"{index}.png")
        assert (picture.mode, picture.size) == ("RGB", (3, 2))
        assert np.asarray(picture).tolist() == np.full((2, 3, 3), index).tolist()


def test_progress_is_shown_on_standard_error_if_asked_for(tmp_path, capsys):
    write_views(_views(tmp_path), _draw, title="Drawing (once)", show_progress=False)
    assert capsys.readouterr() == ("", "")
    write_views(_views(tmp_path), _draw, title="Drawing (once)", show_progress=True)
    output = capsys.readouterr()
    assert output.err.splitlines() == ["Drawing (once): 5 to do", "Drawing (once): done"]
    assert not output.out


def test_an_error_ends_it(tmp_path):
    def fail(pose):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_views(_views(tmp_path), fail, title="", show_progress=False)
