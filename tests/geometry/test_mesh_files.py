"""Mesh files: read back as they were, whole or not there."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from bn_field_plugin import files
from bn_field_plugin.errors import UserError
from bn_field_plugin.geometry import write_mesh


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
def test_what_is_written_is_read_back(ending: str, tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2)
    colors = np.rint((mesh.vertices + 1) / 2 * 255).astype(np.uint8)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors)
    path = tmp_path / "new" / "folder" / f"ball.{ending.upper() if ending == 'ply' else ending}"
    write_mesh(mesh, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    back = trimesh.load(path, force="mesh", file_type=ending)
    assert len(back.faces) == len(mesh.faces)
    assert back.volume == pytest.approx(mesh.volume, rel=1e-4)
    if ending != "stl":
        assert len(np.unique(back.visual.vertex_colors, axis=0)) > 10


def test_an_unknown_format_is_the_users_mistake(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere()
    with pytest.raises(UserError, match=r"unknown mesh format '.blend'; use .ply"):
        write_mesh(mesh, tmp_path / "ball.blend")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*choose another place"):
        write_mesh(trimesh.creation.icosphere(), tmp_path / "file" / "ball.ply")


def test_a_write_that_fails_leaves_the_older_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ball.ply"
    write_mesh(trimesh.creation.icosphere(), path)
    older = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_mesh(trimesh.creation.icosphere(subdivisions=1), path)
    assert path.read_bytes() == older
    assert [p.name for p in tmp_path.iterdir()] == ["ball.ply"]
