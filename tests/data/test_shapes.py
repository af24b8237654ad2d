"""Laws of the shapes: closed meshes, outward faces, vertices on the surface, and true distances."""

import numpy as np
import pytest

from bn_field_plugin.data.demo_renderer import OBJECTS
from bn_field_plugin.data.shapes import RoundedBox, RoundedCylinder, Torus
from tests.data.surfaces import distance_of

SHAPES = [
    pytest.param(RoundedBox((0.2, 0.3, 0.25), 0.03), id="box"),
    pytest.param(RoundedCylinder(0.8, 0.1, 0.03), id="disc"),
    pytest.param(RoundedCylinder(0.1, 0.3, 0.02), id="post"),
    pytest.param(RoundedCylinder.sphere(0.4), id="sphere"),
    pytest.param(Torus(0.3, 0.1), id="torus"),
]
EXACT_VOLUMES = {"sphere": 4 / 3 * np.pi * 0.4**3, "torus": 2 * np.pi**2 * 0.3 * 0.1**2}


def _volume(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


@pytest.mark.parametrize("shape", SHAPES)
def test_mesh_is_closed_and_faces_outward(shape):
    mesh = shape.mesh()
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)  # no edge is used twice in one direction
    assert directed == {(b, a) for a, b in directed}  # each edge has its opposite: the mesh is watertight
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    assert np.linalg.norm(across, axis=1).min() > 1e-7  # every face has an area
    assert (np.einsum("ij,ij->i", across, shape.normal((a + b + c) / 3)) > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_vertices_lie_on_the_surface_and_moving_out_gains_distance(shape):
    vertices = shape.mesh().vertices
    assert np.abs(distance_of(shape, vertices)).max() < 1e-12
    normals = shape.normal(vertices)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    for step in (0.05, -0.01):
        np.testing.assert_allclose(distance_of(shape, vertices + step * normals), step, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_signed_distance_agrees_with_the_nearest_mesh_vertex(shape):
    mesh = shape.mesh()
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (200, 3))
    points = points[distance_of(shape, points) > 0]
    nearest = np.linalg.norm(points[:, None] - mesh.vertices, axis=-1).min(axis=1)
    distance = distance_of(shape, points)
    assert (distance <= nearest + 1e-12).all()
    # Between vertices the surface can be nearer by at most what the spacing (0.03) allows.
    assert (nearest**2 - distance**2 < 4e-2 * (distance + 0.1)).all()


@pytest.mark.parametrize("shape", [case for case in SHAPES if case.id in EXACT_VOLUMES])
def test_volume(shape, request):
    exact = EXACT_VOLUMES[request.node.callspec.id]
    assert (
        0.99 * exact < _volume(shape.mesh()) < exact
    )  # a mesh inscribed in a convex tube or ball loses a little


def test_the_demo_scene_stays_in_the_unit_ball():
    for item in OBJECTS:
        assert np.linalg.norm(item.mesh().vertices, axis=1).max() < 1.1
