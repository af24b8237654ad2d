"""The winding number obeys its laws, and the tree is near the exact sum."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape import winding
from standalone.shape.demo import knurled_torus
from standalone.shape.winding import WindingTree, exact_winding_number
from tests.laws import cases

TREE_ERROR = 1e-2
"""Largest error of the tree that passes; on coarse meshes it is up to 0.006."""


def torn_torus(faces_left: float = 0.9) -> np.ndarray:
    mesh = knurled_torus(60, 40)
    kept = np.random.default_rng(1).random(len(mesh.faces)) < faces_left
    return np.asarray(mesh.vertices * 0.6)[mesh.faces][kept]


def soup(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (count, 1, 3)) + generator.normal(0, 0.2, (count, 3, 3))


def around(triangles: np.ndarray, count: int) -> np.ndarray:
    generator = np.random.default_rng(2)
    near = triangles[generator.integers(0, len(triangles), count // 2)].mean(axis=1)
    near = near + generator.normal(0, 0.02, near.shape)
    return np.concatenate([near, generator.uniform(-1.5, 1.5, (count - len(near), 3))])


def test_it_counts_how_often_a_closed_surface_goes_around() -> None:
    ball = np.asarray(trimesh.creation.icosphere(subdivisions=3, radius=0.5).triangles)
    points = np.random.default_rng(3).uniform(-1.2, 1.2, (500, 3))
    distance = np.linalg.norm(points, axis=1)
    inside, clear = distance < 0.5, np.abs(distance - 0.5) > 0.02
    for times in (1, 2, -1):
        triangles = np.concatenate([ball] * times) if times > 0 else ball[:, ::-1]
        np.testing.assert_allclose(
            exact_winding_number(triangles, points)[clear], times * inside[clear], atol=1e-9
        )
        np.testing.assert_allclose(
            WindingTree(triangles)(points)[clear], times * inside[clear], atol=TREE_ERROR
        )


def test_a_box_without_lid_leaves_out_the_angle_of_the_lid() -> None:
    """The lid covers a sixth of all directions seen from the centre, and half of them from its own middle."""
    box = np.asarray(trimesh.creation.box().triangles)
    open_box = box[box[:, :, 2].min(axis=1) < 0.5]
    assert len(open_box) == 10
    points = np.array([[0, 0, 0], [0, 0, 0.5], [0, 0, 100.0]])
    np.testing.assert_allclose(exact_winding_number(open_box, points), [5 / 6, 0.5, 0], atol=1e-4)
    np.testing.assert_allclose(WindingTree(open_box)(points), [5 / 6, 0.5, 0], atol=TREE_ERROR)


@pytest.mark.parametrize(
    "triangles", [torn_torus(), torn_torus(0.2), soup(500, 0)], ids=["holes", "mostly holes", "soup"]
)
def test_the_tree_is_the_exact_sum(triangles: np.ndarray) -> None:
    points = around(triangles, 1000)
    error = np.abs(WindingTree(triangles)(points) - exact_winding_number(triangles, points))
    assert error.max() < TREE_ERROR
    careful = np.abs(WindingTree(triangles, near=4.0)(points) - exact_winding_number(triangles, points))
    assert careful.max() < 0.25 * TREE_ERROR


def test_the_compiled_kernel_is_its_twin() -> None:
    pytest.importorskip("numba")
    tree = WindingTree(torn_torus())
    points = around(tree.triangles, 2000)
    np.testing.assert_allclose(tree(points), tree.twin(points), rtol=0, atol=1e-12)


def test_without_numba_the_twin_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = WindingTree(torn_torus())
    points = around(tree.triangles, 5000)
    monkeypatch.setattr(winding, "load_compiled", lambda _: None)
    np.testing.assert_array_equal(tree(points[:100]), tree.twin(points[:100]))
    assert len(tree(points)) == 5000


@cases(25)
@given(count=st.integers(1, 60), seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_any_soup_of_any_size_and_scale(count: int, seed: int, scale: float) -> None:
    triangles = soup(count, seed)
    triangles[0, 1] = triangles[0, 0]  # this one has no area
    points = around(triangles, 20)
    tree = WindingTree(triangles * scale)
    np.testing.assert_allclose(tree(points * scale), exact_winding_number(triangles, points), atol=TREE_ERROR)


def test_no_point_and_points_on_corners_are_no_trouble() -> None:
    triangles = soup(30, 0)
    tree = WindingTree(triangles)
    assert tree(np.empty((0, 3))).shape == (0,)
    assert np.isfinite(tree(triangles.reshape(-1, 3))).all()
