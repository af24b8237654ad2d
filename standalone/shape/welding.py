"""Welding of corners at equal positions, and at nearly equal ones if that closes the surface."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from standalone.shape.topology import Faces, edges_of

TOLERANCES = (1e-12, 1e-9, 1e-7, 2e-6)
"""Distances, as shares of the longest side, within which corners on open edges may be welded, from the
rounding errors of 64-bit numbers to those of six decimal digits."""

REPAIR_TOLERANCES = (*TOLERANCES, 1e-5, 1e-4)
"""Distances that are tried when a mesh is repaired, which may be larger."""


def weld(
    vertices: Float[np.ndarray, "v 3"], faces: Faces
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    """Weld vertices with equal positions, and drop unused vertices and triangles that lose their area."""
    used, faces = np.unique(faces, return_inverse=True)
    unique, index = np.unique(vertices[used] + 0.0, axis=0, return_inverse=True)  # -0.0 is 0.0
    return unique, proper(index.reshape(-1)[faces.reshape(-1, 3)])


def proper(faces: Faces) -> Int[np.ndarray, "g 3"]:
    """The faces with three different corners."""
    a, b, c = faces.T
    kept: np.ndarray = faces[(a != b) & (b != c) & (c != a)]
    return kept


class Welded(NamedTuple):
    """Result of `weld_nearly`."""

    faces: Faces
    """Faces between the vertices that are left."""
    corners: int
    """Number of corners that were welded to others."""
    closed: int
    """Number of open edges that were closed."""
    tolerance: float
    """The tolerance that was taken, as a share of the longest side."""


def weld_nearly(
    vertices: Float[np.ndarray, "v 3"], faces: Faces, tolerances: tuple[float, ...] = TOLERANCES
) -> Welded:
    """Weld corners on open edges that are nearly at one position, if that closes edges.

    The tolerance with which the fewest edges stay open is taken, and the smallest of several such. Corners
    that are on no open edge are not welded, so that detail smaller than the tolerance survives.
    """
    before = _open(faces)
    best = Welded(faces, 0, 0, 0.0)
    if not before:
        return best
    edges = edges_of(faces)
    corners = np.unique(edges.ends[edges.uses == 1])
    points = vertices[corners] - vertices[corners[0]]
    side = float(np.ptp(vertices[np.unique(faces)], axis=0).max())
    tree = cKDTree(points)
    for tolerance in tolerances:
        pairs = tree.query_pairs(tolerance * side, output_type="ndarray")
        if len(pairs) == 0:
            continue
        names = _joined(len(vertices), corners, pairs)
        welded = proper(names[faces])
        closed = before - _open(welded)
        if closed > best.closed:
            lost = len(corners) - len(np.unique(names[corners]))
            best = Welded(welded, lost, closed, tolerance)
        if closed == before:
            break
    return best


def _open(faces: Faces) -> int:
    """Number of edges with one face."""
    return int(np.count_nonzero(edges_of(faces).uses == 1))


def _joined(
    count: int, corners: Int[np.ndarray, " c"], pairs: Int[np.ndarray, "p 2"]
) -> Int[np.ndarray, " v"]:
    """For each vertex, the index of the vertex that it becomes."""
    size = len(corners)
    graph = coo_matrix((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    _, first = np.unique(labels, return_index=True)
    names = np.arange(count)
    names[corners] = corners[first[labels]]
    return names
