"""Inside and outside agree with closed forms and a second method; points lie on the surface."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from bn_field_plugin import UserError
from standalone.shape.demo import knurled_torus
from standalone.shape.frames import Frame
from standalone.shape.solids import MeshSolid, Solid, VolumeSolid


def in_box(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(Frame.around(mesh.vertices).to_box(mesh.vertices), mesh.faces, process=False)


def uniform(count: int, low: float = -1.2, high: float = 1.2) -> np.ndarray:
    return np.random.default_rng(3).uniform(low, high, (count, 3))


def test_a_cube_is_known_in_closed_form() -> None:
    solid = MeshSolid(trimesh.creation.box(extents=(1.0, 0.6, 1.4)))
    points = uniform(20_000)
    expected = (np.abs(points) < np.array([0.5, 0.3, 0.7])).all(axis=1)
    np.testing.assert_array_equal(solid.inside(points), expected)


@pytest.mark.slow
def test_the_cells_change_nothing() -> None:
    """Cells, rays alone and trimesh agree about which points are inside."""
    solid = MeshSolid(in_box(knurled_torus(120, 60)))
    near, _ = solid.surface_points(2000, np.random.default_rng(0))
    points = np.concatenate(
        [uniform(2000, -1, 1), near + np.random.default_rng(1).normal(0, 0.01, near.shape)]
    )
    found = solid.inside(points)
    np.testing.assert_array_equal(found, solid.tested(points))
    assert np.mean(found != solid.surface.contains(points)) < 1e-3


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


def test_every_solid_has_a_surface() -> None:
    solids: list[Solid] = [VolumeSolid(volume()), MeshSolid(in_box(trimesh.creation.icosphere()))]
    assert all(solid.surface.is_watertight for solid in solids)
