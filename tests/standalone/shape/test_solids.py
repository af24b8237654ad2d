"""Inside and outside against closed forms and against a second method; points on the surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import trimesh

from bn_field_plugin import UserError
from standalone.shape.demo import knurled_torus
from standalone.shape.frames import Frame
from standalone.shape.solids import MeshSolid, Solid, VolumeSolid, load_volume, winding_number


def in_box(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(Frame.around(mesh.vertices).to_box(mesh.vertices), mesh.faces, process=False)


def uniform(count: int, low: float = -1.2, high: float = 1.2) -> np.ndarray:
    return np.random.default_rng(3).uniform(low, high, (count, 3))


def test_a_cube_is_known_in_closed_form() -> None:
    solid = MeshSolid(trimesh.creation.box(extents=(1.0, 0.6, 1.4)))
    points = uniform(20_000)
    expected = (np.abs(points) < np.array([0.5, 0.3, 0.7])).all(axis=1)
    np.testing.assert_array_equal(solid.inside(points), expected)


def test_the_cells_change_nothing() -> None:
    """Points by cells and by rays alone, and by trimesh, are the same."""
    solid = MeshSolid(in_box(knurled_torus(120, 60)))
    near, _ = solid.surface_points(4000, np.random.default_rng(0))
    points = np.concatenate(
        [uniform(4000, -1, 1), near + np.random.default_rng(1).normal(0, 0.01, near.shape)]
    )
    found = solid.inside(points)
    np.testing.assert_array_equal(found, solid._cast(points))
    assert np.mean(found != solid.surface.contains(points)) < 1e-3


def test_the_winding_number_counts() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    points = uniform(500)
    inside = np.linalg.norm(points, axis=1) < 0.5
    clear = np.abs(np.linalg.norm(points, axis=1) - 0.5) > 0.02
    np.testing.assert_allclose(winding_number(mesh, points)[clear], inside[clear], atol=1e-9)
    twice = trimesh.util.concatenate([mesh, mesh])
    np.testing.assert_allclose(winding_number(twice, points)[clear], 2 * inside[clear], atol=1e-9)


def test_a_mesh_that_cuts_itself_is_refused() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    shifted = trimesh.Trimesh(ball.vertices + np.array([0.4, 0, 0]), ball.faces, process=False)
    with pytest.raises(UserError, match="cuts itself or overlaps"):
        MeshSolid(in_box(trimesh.util.concatenate([ball, shifted])), "two.ply")


def test_surface_points_lie_on_the_surface_evenly() -> None:
    solid = MeshSolid(trimesh.creation.box(extents=(1.0, 0.5, 1.5)))
    points, normals = solid.surface_points(60_000, np.random.default_rng(0))
    half = np.array([0.5, 0.25, 0.75])
    np.testing.assert_allclose(np.abs(points / half).max(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(np.einsum("ij,ij->i", normals, points), (np.abs(normals) * half).sum(axis=1))
    share = np.mean(np.abs(normals[:, 0]) > 0.5)
    assert share == pytest.approx(0.75 / (0.75 + 1.5 + 0.5), abs=0.01)


def volume() -> np.ndarray:
    axis = np.linspace(-1, 1, 24)
    x, y, z = np.meshgrid(axis, axis, axis[:12], indexing="ij")
    return x**2 + y**2 + (z + 0.5) ** 2 < 0.2


def test_a_volume_is_its_voxels() -> None:
    full = volume()
    solid = VolumeSolid(full)
    centers = np.stack(
        np.meshgrid(*((np.arange(n) + 0.5) / 12 - n / 24 for n in full.shape), indexing="ij"), -1
    )
    np.testing.assert_array_equal(solid.inside(centers.reshape(-1, 3)), full.reshape(-1))
    assert not solid.inside(np.array([[0, 0, 0.6], [1.1, 0, 0]])).any()
    points, _ = solid.surface_points(2000, np.random.default_rng(0))
    assert solid.surface.is_watertight
    assert np.mean(solid.inside(points * 0.8 + solid.surface.centroid * 0.2)) > 0.99


@pytest.mark.parametrize(
    "solid", [np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool), np.ones((4, 4), bool)]
)
def test_a_volume_without_surface_is_refused(solid: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"all full|all empty|three axes"):
        VolumeSolid(solid)


def test_volumes_are_read_in_every_format(tmp_path: Path) -> None:
    full = volume()
    np.save(tmp_path / "a.npy", full.astype(np.float32))
    np.savez(tmp_path / "a.npz", data=full, step=3)
    scipy.io.savemat(tmp_path / "a.mat", {"hypercube": full.astype(np.uint8)})
    for name in ("a.npy", "a.npz", "a.mat"):
        np.testing.assert_array_equal(load_volume(tmp_path / name), full)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY\x01\x00junk"])
def test_a_broken_volume_is_one_clear_line(content: bytes, tmp_path: Path) -> None:
    for name in ("a.npy", "a.npz", "a.mat"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            load_volume(tmp_path / name)


def test_a_file_without_one_volume_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((3, 3)))
    with pytest.raises(UserError, match="0 three-dimensional arrays"):
        load_volume(tmp_path / "flat.npy")
    np.save(tmp_path / "nan.npy", np.full((3, 3, 3), np.nan))
    with pytest.raises(UserError, match="not finite"):
        load_volume(tmp_path / "nan.npy")


def test_every_solid_has_a_surface() -> None:
    solids: list[Solid] = [VolumeSolid(volume()), MeshSolid(in_box(trimesh.creation.icosphere()))]
    assert all(solid.surface.is_watertight for solid in solids)
