"""Edges, double faces, turned faces and rings of any triangles obey their laws."""

from __future__ import annotations

import numpy as np
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.holes import fill_holes
from standalone.shape.topology import boundary_loops, closed_patches, edges_of, turned_alike, without_doubles
from standalone.shape.welding import proper
from tests.laws import cases


def random_faces(seed: int, count: int, vertices: int) -> np.ndarray:
    return proper(np.random.default_rng(seed).integers(0, vertices, (count, 3)))


ANY = given(seed=st.integers(0, 10_000), count=st.integers(1, 60), vertices=st.integers(4, 30))
FEW = cases(60)


@FEW
@ANY
def test_caps_balance_every_edge(seed: int, count: int, vertices: int) -> None:
    faces = random_faces(seed, count, vertices)
    points = np.random.default_rng(seed).normal(size=(vertices, 3))
    loops = boundary_loops(faces)
    assert all(len(set(loop)) == len(loop) >= 3 for loop in loops)
    _, filled, caps = fill_holes(points, faces)
    assert caps == len(loops)
    assert not edges_of(filled).balance.any()


@FEW
@ANY
def test_doubles_leave_the_balance_and_go_in_one_pass(seed: int, count: int, vertices: int) -> None:
    faces = random_faces(seed, count, vertices)
    found = without_doubles(faces)
    again = without_doubles(found.faces)
    assert (again.repeated, again.opposed) == (0, 0)
    np.testing.assert_array_equal(again.faces, found.faces)
    assert len({frozenset(face) for face in found.faces.tolist()}) == len(found.faces)


@FEW
@ANY
def test_faces_turned_alike_stay_so(seed: int, count: int, vertices: int) -> None:
    faces = without_doubles(random_faces(seed, count, vertices)).faces
    areas = np.random.default_rng(seed).random(len(faces))
    found = turned_alike(faces, areas)
    again = turned_alike(found.faces, areas)
    if found.one_sided == 0:
        assert again.turned == 0
        edges = edges_of(found.faces)
        assert (edges.balance[edges.uses == 2] == 0).all()


def test_a_moebius_band_is_told() -> None:
    ring = np.arange(5)
    after = (ring + 1) % 5
    a, b = ring, ring + 5
    c, d = np.where(after == 0, 5, after), np.where(after == 0, 0, after + 5)  # the closing edges cross
    faces = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])
    assert turned_alike(faces, np.ones(len(faces))).one_sided == 10


def test_patches_are_closed_by_themselves() -> None:
    """Two boxes touch at an edge, where four faces meet, and each box is closed."""
    one = trimesh.creation.box()
    edge = np.isclose(one.vertices[:, 0], 0.5) & np.isclose(one.vertices[:, 1], 0.5)
    names = np.arange(8) + 8
    other = np.add(one.vertices, [1, 1, 0])
    for index in np.flatnonzero(~edge):
        match = np.flatnonzero((np.abs(one.vertices[edge] - other[index]) < 1e-9).all(axis=1))
        if len(match):
            names[index] = np.flatnonzero(edge)[match[0]]
    faces = np.concatenate([one.faces, names[one.faces]])
    assert (edges_of(faces).uses == 4).sum() == 1
    found = turned_alike(faces, np.ones(len(faces)))
    assert closed_patches(found.faces, found.patch).tolist() == [True, True]
    assert closed_patches(found.faces[1:], found.patch[1:]).sum() == 1
