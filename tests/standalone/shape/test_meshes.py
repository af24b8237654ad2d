"""Meshes: welded by position, refused or repaired where they enclose nothing, whatever their scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.shape.demo import knurled_torus
from standalone.shape.frames import Frame, boundary_edges, load_mesh, weld


def ball(scale: float = 1.0, subdivisions: int = 2) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return trimesh.Trimesh(mesh.vertices * scale, mesh.faces, process=False)


def write(mesh: trimesh.Trimesh, path: Path) -> Path:
    path.write_bytes(
        data.encode() if isinstance(data := mesh.export(file_type=path.suffix[1:]), str) else data
    )
    return path


@pytest.mark.parametrize("ending", ["obj", "ply", "stl", "off", "glb"])
def test_every_format_is_read(ending: str, tmp_path: Path) -> None:
    mesh = load_mesh(write(ball(), tmp_path / f"ball.{ending}"))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(ball().volume, rel=1e-4)


def test_seams_are_welded_by_position() -> None:
    """Every triangle with vertices of its own, as along a seam of texture coordinates."""
    torn = ball()
    vertices, faces = torn.triangles.reshape(-1, 3), np.arange(3 * len(torn.faces)).reshape(-1, 3)
    assert boundary_edges(trimesh.Trimesh(vertices, faces, process=False)) > 0
    welded = weld(vertices, faces)
    assert boundary_edges(welded) == 0
    assert len(welded.vertices) == len(torn.vertices)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_scale_does_not_matter(scale: float, tmp_path: Path) -> None:
    mesh = load_mesh(write(ball(scale), tmp_path / "ball.ply"))
    assert mesh.is_watertight
    assert mesh.volume / scale**3 == pytest.approx(ball().volume, rel=1e-4)


def test_an_open_mesh_is_told_and_closed_on_request(tmp_path: Path) -> None:
    torn = ball()
    path = write(trimesh.Trimesh(torn.vertices, torn.faces[1:], process=False), tmp_path / "open.ply")
    with pytest.raises(UserError, match=r"open.ply is not watertight \(3 boundary edges\).*--repair"):
        load_mesh(path)
    assert load_mesh(path, repair=True).volume == pytest.approx(torn.volume, rel=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_turned_faces_are_told_and_mended_on_request(share: float, tmp_path: Path) -> None:
    whole = ball()
    faces = whole.faces.copy()
    faces[: int(share * len(faces))] = faces[: int(share * len(faces)), ::-1]
    path = write(trimesh.Trimesh(whole.vertices, faces, process=False), tmp_path / "turned.ply")
    with pytest.raises(UserError, match="--repair"):
        load_mesh(path)
    assert load_mesh(path, repair=True).volume == pytest.approx(whole.volume, rel=1e-6)


def test_several_parts_are_one_shape(tmp_path: Path) -> None:
    two = trimesh.util.concatenate(
        [ball(), trimesh.Trimesh(ball().vertices + 3, ball().faces, process=False)]
    )
    assert load_mesh(write(two, tmp_path / "two.ply")).volume == pytest.approx(2 * ball().volume, rel=1e-4)


def broken(name: str) -> trimesh.Trimesh:
    whole = ball()
    vertices = np.array(whole.vertices)
    if name == "nan":
        vertices[3, 1] = np.nan
    if name == "point":
        vertices[:] = 1.0
    if name == "flat":
        return trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 1]], process=False)
    return trimesh.Trimesh(vertices, whole.faces, process=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "1 vertices that are not finite"),
        ("point", "at one point"),
        ("flat", "encloses no volume"),
    ],
)
def test_a_mesh_that_encloses_nothing_is_one_clear_line(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_mesh(write(broken(name), tmp_path / "mesh.ply"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"", "a.obj holds no mesh"),
        ("a.ply", b"not a ply", "neither faces nor points"),
        ("a.stl", b"x" * 200, "holds no mesh"),
        ("a.txt", b"", "unknown ending"),
    ],
)
def test_no_mesh_is_one_clear_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_mesh(tmp_path / name)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_mesh(tmp_path / "none.ply")


def test_a_cloud_with_normals_becomes_a_solid_and_one_without_is_refused(tmp_path: Path) -> None:
    import open3d as o3d

    points = ball(subdivisions=4).vertices * 7 + 3
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    o3d.io.write_point_cloud(str(tmp_path / "bare.ply"), cloud)
    with pytest.raises(UserError, match="point cloud without normals"):
        load_mesh(tmp_path / "bare.ply")
    cloud.normals = o3d.utility.Vector3dVector((points - 3) / 7)
    o3d.io.write_point_cloud(str(tmp_path / "cloud.ply"), cloud)
    mesh = load_mesh(tmp_path / "cloud.ply")
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 343, rel=0.02)


@given(scale=st.floats(1e-9, 1e9), x=st.floats(-1e3, 1e3), y=st.floats(-1e3, 1e3), z=st.floats(-1e3, 1e3))
def test_the_frame_goes_there_and_back(scale: float, x: float, y: float, z: float) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3)) * scale + np.array([x, y, z]) * scale
    frame = Frame.around(points)
    inside = frame.to_box(points)
    assert np.ptp(inside, axis=0).max() == pytest.approx(1.8, rel=1e-6)
    assert np.abs(inside).max() <= 0.9 + 1e-6
    np.testing.assert_allclose(frame.from_box(inside), points, rtol=1e-9, atol=1e-9 * scale)


def test_the_default_shape_is_a_closed_ring() -> None:
    mesh = knurled_torus(180, 90)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 0
    assert mesh.volume > 0
