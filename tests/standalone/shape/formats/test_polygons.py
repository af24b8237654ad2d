"""Triangles of polygons have the polygon's area and side and lie inside it, for concave ones too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.formats.polygons import triangulate


def areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = points[faces].swapaxes(0, 1)
    return np.cross(b - a, c - a) / 2


def one(points: np.ndarray) -> np.ndarray:
    return triangulate(points, np.array([len(points)]), np.arange(len(points)))


def check_tiles(points: np.ndarray, faces: np.ndarray | None = None) -> None:
    """If all triangles face as the polygon does and areas add up to its area, they lie inside it."""
    faces = one(points) if faces is None else faces
    whole = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0) / 2
    parts = areas(points, faces)
    along = parts @ (whole / np.linalg.norm(whole))
    assert (along >= -1e-9 * np.linalg.norm(whole)).all()
    np.testing.assert_allclose(along.sum(), np.linalg.norm(whole), rtol=1e-9)


@given(
    radii=st.lists(st.floats(0.05, 1.0), min_size=4, max_size=24),
    seed=st.integers(0, 2**16),
)
def test_star_shaped_polygons_anywhere_in_space(radii: list[float], seed: int) -> None:
    angle = np.arange(len(radii)) / len(radii) * 2 * np.pi
    flat = np.array(radii)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    check_tiles(flat @ axes[:2])


SHAPES = {
    "dart, first corner": [(0.0, 0.2), (-1, -1), (0, 1), (1, -1)],
    "dart, second corner": [(1, -1), (0.0, 0.2), (-1, -1), (0, 1)],
    "L": [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)],
    "comb": [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)],
    "corners on a side": [(0, 0), (1, 0), (2, 0), (2, 2), (1, 2), (0, 2)],
    # A square with a square hole. As programs write it, a cut joins the two, whose corners stand twice.
    "keyhole": [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_a_fan_gets_wrong(name: str) -> None:
    check_tiles(np.array([(x, y, 0.0) for x, y in SHAPES[name]], dtype=np.float64))


def test_far_from_the_origin_too() -> None:
    points = np.array([(x, y, 0.0) for x, y in SHAPES["L"]]) * 1e-2
    far = points + np.array([5e5, 4e6, 120.0])
    check_tiles(far - far[0], one(far))


def test_mixed_polygons_stay_in_order_and_lines_vanish() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0]], dtype=np.float64)
    faces = triangulate(points, np.array([3, 4, 2, 3]), np.array([0, 1, 2, 0, 1, 2, 3, 0, 4, 1, 4, 2]))
    assert faces.tolist() == [[0, 1, 2], [2, 3, 0], [1, 2, 0], [1, 4, 2]]


def as_sets(faces: np.ndarray, turned: bool = False) -> set[tuple[int, ...]]:
    """Triangles as sets of corners, whichever comes first."""
    rows = (faces[:, ::-1] if turned else faces).tolist()
    return {tuple(np.roll(row, -int(np.argmin(row))).tolist()) for row in rows}


@given(
    radii=st.lists(st.floats(0.05, 1.0), min_size=4, max_size=12),
    shift=st.integers(0, 11),
    seed=st.integers(0, 2**16),
)
def test_a_polygon_is_cut_alike_from_each_corner_and_from_behind(
    radii: list[float], shift: int, seed: int
) -> None:
    """Otherwise a face's copy or its back would have other triangles, and would not be recognised."""
    angle = np.arange(len(radii)) / len(radii) * 2 * np.pi
    points = np.array(radii)[:, None] * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    points += np.random.default_rng(seed).normal(0, 1e-3, points.shape)  # not quite flat
    corners, count = np.arange(len(points)), np.array([len(points)])
    faces = as_sets(triangulate(points, count, corners))
    rolled = np.roll(corners, shift)
    assert as_sets(triangulate(points, count, rolled)) == faces
    assert as_sets(triangulate(points, count, rolled[::-1]), turned=True) == faces


def test_a_polygon_that_cuts_itself_still_has_its_edges() -> None:
    """For a bow tie with a fifth corner any triangles will do, if their common edges cancel."""
    points = np.array([[0, 0, 0], [2, 2, 0], [2, 0, 0], [0, 2, 0], [-1, 1, 0]], dtype=np.float64)
    faces = one(points)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    left = {tuple(edge) for edge in edges.tolist()} - {tuple(edge[::-1]) for edge in edges.tolist()}
    assert left == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)}
