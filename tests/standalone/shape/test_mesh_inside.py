"""The inside of open, overlapping or touching meshes equals closed forms and the winding number's."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from bn_field_plugin import UserError
from standalone.shape.mesh_inside import MeshInside, solid_of_mesh
from standalone.shape.meshes import prepare
from standalone.shape.solids import CellSolid, MeshSolid
from standalone.shape.winding import exact_winding_number
from standalone.shape.winding_solid import WindingSolid
from tests.standalone.shape.broken_meshes import ball, box, content, holed, in_box, soup, together, turned


def inside_of(mesh: trimesh.Trimesh) -> MeshInside:
    """The solid of a mesh that lies in the box. Few cells save time."""
    prepared = prepare(content(mesh), "it")
    found = solid_of_mesh(prepared, prepared.mesh, "it")
    assert isinstance(found.solid, CellSolid)
    found.solid.cells = 32
    return found


def loose(triangles: np.ndarray) -> trimesh.Trimesh:
    """Triangles with corners of their own."""
    corners = triangles.reshape(-1, 3)
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)


def points_in_box(count: int = 20_000) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (count, 3))


def test_a_closed_mesh_goes_by_rays_as_ever() -> None:
    for mesh in (ball(3, 0.8), together(ball(3, 0.8), turned(ball(2, 0.4)))):
        found = inside_of(mesh)
        assert isinstance(found.solid, MeshSolid)
        assert found.notes == ()


def test_overlapping_parts_are_united() -> None:
    low, high = np.array([0.6, 0.5, 0.5]), np.array([0.2, 0.3, 0.7])
    found = inside_of(together(box(tuple(-low), tuple(low)), box(tuple(-high), tuple(high + 0.1))))
    assert isinstance(found.solid, WindingSolid)
    assert "overlap" in found.notes[0]
    points = points_in_box()
    expected = (np.abs(points) < low).all(axis=1) | ((points > -high) & (points < high + 0.1)).all(axis=1)
    np.testing.assert_array_equal(found.solid.inside(points), expected)


def test_the_surface_of_a_union_has_no_hidden_faces() -> None:
    centers = np.array([[-0.25, 0, 0], [0.25, 0, 0]])
    found = inside_of(together(*(ball(3, 0.5, center) for center in centers)))
    points, normals = found.solid.surface_points(5000, np.random.default_rng(0))
    depth = 0.5 - np.linalg.norm(points[:, None] - centers, axis=2)
    assert depth.max() < 0.03  # half the size of a face
    assert np.mean(found.solid.inside(points - 0.01 * normals)) > 0.99


@pytest.mark.parametrize("gap", [0.0, 0.25])
def test_touching_bodies_are_no_overlap(gap: float) -> None:
    """Two boxes have a wall in common, or walls that lie on each other in part."""
    found = inside_of(
        together(box((-0.5, -0.5, -0.5), (0, 0.5, 0.5)), box((0, gap - 0.5, -0.5), (0.5, 0.5, 0.5)))
    )
    assert found.notes == ()
    points = points_in_box()
    left = (points > [-0.5, -0.5, -0.5]).all(axis=1) & (points < [0, 0.5, 0.5]).all(axis=1)
    right = (points > [0, gap - 0.5, -0.5]).all(axis=1) & (points < [0.5, 0.5, 0.5]).all(axis=1)
    assert np.mean(found.solid.inside(points) != (left | right)) < 1e-3


@pytest.mark.parametrize(
    "mesh",
    [
        holed(ball(3, 0.8), 0.6),
        soup(ball(2, 0.8), 0.02),
        together(holed(ball(3, 0.7), 0.5), ball(2, 0.2, 0.4)),
    ],
    ids=["hole", "soup", "hole and a part"],
)
def test_an_open_mesh_is_its_winding_number(mesh: trimesh.Trimesh) -> None:
    """This holds for cells decided as a whole too, since Harnack's bound allows no error."""
    found = inside_of(mesh)
    assert isinstance(found.solid, WindingSolid)
    points = points_in_box(4000)
    exact = exact_winding_number(np.asarray(mesh.triangles), points)
    certain = np.abs(exact - 0.5) > 0.01
    np.testing.assert_array_equal(found.solid.inside(points)[certain], (exact > 0.5)[certain])
    assert (found.solid._known >= 0).mean() > 0.3


def test_a_ball_with_a_hole_is_nearly_a_ball_and_says_how_sure_it_is() -> None:
    found = inside_of(holed(ball(4, 0.8), 0.75))
    points = points_in_box()
    whole = np.linalg.norm(points, axis=1) < 0.8
    assert np.mean(found.solid.inside(points) != whole) < 0.01
    (note,) = found.notes
    for words in (
        "is open (",
        "edges)",
        "winding number",
        "% of the sampled points are doubtful (between 0.25 and 0.75)",
    ):
        assert words in note


@pytest.mark.parametrize("name", ["triangle", "sheet", "loose triangles"])
def test_what_encloses_nothing_is_one_line(name: str) -> None:
    corners = np.random.default_rng(0).normal(size=(20, 3, 3)) * 0.02
    corners += np.random.default_rng(1).uniform(-0.8, 0.8, (20, 1, 3))
    meshes = {
        "triangle": trimesh.Trimesh([[0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]], [[0, 1, 2]], process=False),
        "sheet": trimesh.Trimesh(
            box().vertices, box().faces[np.ptp(box().triangles[:, :, 2], axis=1) == 0][:2]
        ),
        "loose triangles": trimesh.Trimesh(
            corners.reshape(-1, 3), np.arange(60).reshape(-1, 3), process=False
        ),
    }
    with pytest.raises(UserError, match="it encloses nothing: its faces go around no point"):
        inside_of(meshes[name])


def test_a_box_of_six_loose_sides_is_a_box() -> None:
    """Files without common corners have such boxes, with T-junctions: no corner to weld, and no gap."""
    corners = np.array(in_box(box()).triangles)
    split = np.concatenate([corners, corners[:4]])  # four faces cut in two at the middle of a side
    middle = (split[:4, 0] + split[:4, 1]) / 2
    split[:4, 1], split[-4:, 0] = middle, middle
    found = inside_of(
        trimesh.Trimesh(split.reshape(-1, 3), np.arange(3 * len(split)).reshape(-1, 3), process=False)
    )
    assert " 0% of the sampled points are doubtful" in found.notes[0]
    points = points_in_box()
    np.testing.assert_array_equal(found.solid.inside(points), (np.abs(points) < 0.9).all(axis=1))
