"""Metrics equal trimesh's, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from standalone.shape.metrics import BOX_SIDE, grid_over, iou, nearest, surface_metrics, volume_metrics
from standalone.shape.solids import MeshSolid


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


@pytest.mark.slow
def test_the_iou_of_two_balls_is_the_ratio_of_their_volumes() -> None:
    big, small = MeshSolid(ball(0.8)), MeshSolid(ball(0.7))
    found = volume_metrics(big, small.inside, points=2**17, resolution=64)
    expected = ball(0.7).volume / ball(0.8).volume
    assert found["iou_uniform"] == pytest.approx(expected, abs=0.01)
    assert found["iou_grid"] == pytest.approx(expected, abs=0.01)
    assert volume_metrics(big, big.inside, points=2**12, resolution=16) == {
        "iou_uniform": 1.0,
        "iou_near_surface": 1.0,
        "iou_grid": 1.0,
    }


@pytest.mark.slow
def test_the_uniform_iou_agrees_with_trimesh() -> None:
    true, found = trimesh.creation.box((1.0, 1.2, 0.8)), ball(0.6)
    ours = volume_metrics(MeshSolid(true), MeshSolid(found).inside, points=2**17, resolution=16)[
        "iou_uniform"
    ]
    points = np.random.default_rng(9).uniform(-1, 1, (2**14, 3))
    inside = [mesh.contains(points) for mesh in (true, found)]
    assert ours == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum(), abs=0.02)


def test_chamfer_agrees_with_trimesh() -> None:
    """Oracle: trimesh's exact distances to triangles. Ours are to drawn points, so slightly larger."""
    true, found = trimesh.creation.box((1.0, 1.2, 0.8)), ball(0.6)
    ours = surface_metrics(true, found, points=60_000)["chamfer_l1"]
    exact = []
    for one, other in ((true, found), (found, true)):
        points, _ = trimesh.sample.sample_surface(one, 4000, seed=7)
        exact.append(trimesh.proximity.closest_point(other, points)[1].mean())
    assert ours == pytest.approx(np.mean(exact) / BOX_SIDE, rel=0.03)


@pytest.mark.parametrize("among", [1, 700])
def test_the_nearest_point_is_that_of_scipy(among: int) -> None:
    generator = np.random.default_rng(0)
    flat = generator.uniform(-0.9, 0.9, (among, 3))
    flat[np.arange(among), generator.integers(0, 3, among)] = 0.9  # on three sides of a cube
    points = generator.uniform(-1, 1, (500, 3))
    distances, indices = nearest(points, flat)
    expected = cKDTree(flat).query(points)
    np.testing.assert_allclose(distances, expected[0], rtol=1e-12)
    np.testing.assert_array_equal(indices, expected[1])


def test_two_balls_are_as_far_apart_as_their_radii() -> None:
    found = surface_metrics(ball(0.8), ball(0.75), points=100_000)
    assert found["chamfer_l1"] == pytest.approx(0.05 / BOX_SIDE, rel=0.03)
    assert found["normal_consistency"] > 0.99
    assert found["f_score"] == 0.0
    near = surface_metrics(ball(0.8), ball(0.79), points=100_000)
    assert near["f_score"] == 1.0


def test_no_surface_has_no_distance() -> None:
    assert set(surface_metrics(ball(0.5), None).values()) == {None}


def test_iou_of_nothing_and_nothing_is_one() -> None:
    empty = np.zeros(4, bool)
    assert iou(empty, empty) == 1.0
    assert iou(empty, ~empty) == 0.0


def test_the_grid_spans_the_shape() -> None:
    points = grid_over(trimesh.creation.box((1.0, 0.5, 0.25)), 16)
    assert len(points) == 16 * 8 * 4
    np.testing.assert_allclose(points.max(axis=0), np.array([0.5, 0.25, 0.125]) - 1 / 32)
