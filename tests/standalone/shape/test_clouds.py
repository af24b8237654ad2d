"""Point clouds with normals become solids; those without normals give an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bn_field_plugin import UserError
from standalone.shape.clouds import surface_of_cloud
from standalone.shape.formats.content import MeshContent
from standalone.shape.meshes import load_mesh
from tests.standalone.shape.broken_meshes import ball

NO_FACES = np.empty((0, 3), dtype=np.int64)
NORMALS = np.asarray(ball(4).vertices)


def cloud(path: Path, points: np.ndarray, normals: np.ndarray | None) -> Path:
    names = "xyz" if normals is None else ("x", "y", "z", "nx", "ny", "nz")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property double {name}\n" for name in names) + "end_header\n"
    table = points if normals is None else np.hstack([points, normals])
    path.write_bytes(header.encode() + table.astype("<f8").tobytes())
    return path


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_a_cloud_with_normals_becomes_a_solid(far: float, tmp_path: Path) -> None:
    found = load_mesh(cloud(tmp_path / "a.ply", NORMALS * 7 + far, NORMALS * 0.1))
    assert found.closed
    local = found.mesh.copy()
    local.vertices -= far
    assert local.volume == pytest.approx(4 / 3 * np.pi * 343, rel=0.02)


def test_one_without_normals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="point cloud without normals"):
        load_mesh(cloud(tmp_path / "bare.ply", NORMALS, None))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_normals_without_direction_are_one_line(value: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2,562 of 2,562 normals are zero or not finite"):
        load_mesh(cloud(tmp_path / "bad.ply", NORMALS, np.full_like(NORMALS, value)))


def test_a_few_of_them_are_left_out() -> None:
    normals = NORMALS.copy()
    normals[:5], normals[5] = 0, np.nan
    surface, notes = surface_of_cloud(MeshContent(NORMALS, NO_FACES, normals), "it")
    assert notes == ["it: 6 points whose normals are zero or not finite are left out"]
    assert len(surface.faces) > 100


def test_too_few_points_are_one_line() -> None:
    for count in (2, 3):
        with pytest.raises(UserError, match=f"cloud of {count} points: give at least 4"):
            surface_of_cloud(MeshContent(NORMALS[:count], NO_FACES, NORMALS[:count]), "it")
