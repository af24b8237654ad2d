"""Cutting of polygons, which modelling programs write by default, into triangles; also of concave ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def triangulate(
    vertices: Float[np.ndarray, "v 3"], counts: Int[np.ndarray, " p"], corners: Int[np.ndarray, " c"]
) -> Int[np.ndarray, "f 3"]:
    """Cut polygons into triangles of the same corners and the same side.

    Triangles stay as they are; quads are cut along the diagonal that lies in them; convex polygons are cut
    from one corner, others by ears. Those with fewer than three corners are left out.

    The cuts depend only on the corners' coordinates, not on which corner is first or on the polygon's
    direction. So a polygon's back, or a copy of a polygon, has the same triangles, by which it can be
    recognised.

    Args:
        vertices: coordinates.
        counts: corners of each polygon.
        corners: vertices of all polygons, one after the other.

    Raises:
        ValueError: a corner refers to a vertex that does not exist.
    """
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError(f"a face has a corner that is not among its {len(vertices)} vertices")
    starts = np.cumsum(counts) - counts
    place = _places(vertices) if (counts > 3).any() else None
    found, order = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for count in np.unique(counts[counts >= 3]):
        which = np.flatnonzero(counts == count)
        polygons = corners[starts[which, None] + np.arange(count)]
        triangles = polygons[:, None] if place is None or count == 3 else _alike(vertices, polygons, place)
        found.append(triangles.reshape(-1, 3))
        order.append(np.repeat(which, count - 2))
    # In the order of the file, with the triangles of a polygon next to each other.
    return np.concatenate(found)[np.argsort(np.concatenate(order), kind="stable")]


def _places(vertices: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, " v"]:
    """The rank of each vertex in the order of their coordinates; vertices at one position have the same."""
    ordered: np.ndarray = np.unique(vertices + 0.0, axis=0, return_inverse=True)[1].reshape(-1)  # -0.0 is 0.0
    return ordered


def _alike(
    vertices: Float[np.ndarray, "v 3"], polygons: Int[np.ndarray, "p k"], place: Int[np.ndarray, " v"]
) -> Int[np.ndarray, "p k-2 3"]:
    """Triangles of polygons with k corners each, which do not depend on first corner and direction."""
    count = polygons.shape[1]
    # Start at the corner of lowest rank, go towards its neighbour of lower rank, and undo the turn at the
    # end.
    first = place[polygons].argmin(axis=1)
    polygons = np.take_along_axis(polygons, (first[:, None] + np.arange(count)) % count, axis=1)
    back = place[polygons[:, 1]] > place[polygons[:, -1]]
    other_way = np.concatenate([polygons[:, :1], polygons[:, :0:-1]], axis=1)
    triangles = _of_one_size(vertices, np.where(back[:, None], other_way, polygons))
    return np.where(back[:, None, None], triangles[:, :, ::-1], triangles)


def _of_one_size(
    vertices: Float[np.ndarray, "v 3"], polygons: Int[np.ndarray, "p k"]
) -> Int[np.ndarray, "p k-2 3"]:
    """Triangles of polygons with k corners each."""
    count = polygons.shape[1]
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=-1)
    triangles = polygons[:, fan]
    points = vertices[polygons]
    points = points - points[:, :1]  # avoids cancellation in products of large coordinates
    normals = np.cross(points, np.roll(points, -1, axis=1)).sum(axis=1)
    sides = np.roll(points, -1, axis=1) - points
    turns = np.einsum("pki,pi->pk", np.cross(np.roll(sides, 1, axis=1), sides), normals)
    concave = (turns < 0).any(axis=1)
    if count == 4:
        other = concave & ((turns[:, 1] < 0) | (turns[:, 3] < 0))  # the cut starts at the concave corner
        triangles[other] = polygons[other][:, [[1, 2, 3], [1, 3, 0]]]
        return triangles
    for index in np.flatnonzero(concave):
        triangles[index] = polygons[index][_ears(_flat(points[index], normals[index]))]
    return triangles


def _flat(points: Float[np.ndarray, "k 3"], normal: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "k 2"]:
    """Points projected along a normal onto a plane."""
    normal = normal / np.linalg.norm(normal)
    x = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    x /= np.linalg.norm(x)
    flat: np.ndarray = points @ np.stack([x, np.cross(normal, x)], axis=-1)
    return flat


def _ears(points: Float[np.ndarray, "k 2"]) -> Int[np.ndarray, "k-2 3"]:
    """Triangles of a simple polygon, counter-clockwise, by cutting off ears (Meisters 1975).

    If no ear is left, as in polygons that intersect themselves, the corner that turns most is cut off.
    """
    left = list(range(len(points)))
    triangles = []
    while len(left) > 3:
        ring = points[left]
        before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        turns = _cross(ring - before, after - ring)
        reflex = ring[turns <= 0]
        for place in np.argsort(-turns, kind="stable"):
            if turns[place] <= 0 or not _holds_any(before[place], ring[place], after[place], reflex):
                break
        else:
            place = int(np.argmax(turns))
        triangles.append([left[place - 1], left[place], left[(place + 1) % len(left)]])
        del left[place]
    return np.array([*triangles, left])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _holds_any(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: Float[np.ndarray, "n 2"]) -> bool:
    """Tell whether a triangle contains a point; points at the position of one of its corners do not count."""
    own = (points == a).all(axis=1) | (points == b).all(axis=1) | (points == c).all(axis=1)
    others = points[~own]
    return bool(
        (
            (_cross(b - a, others - a) >= 0)
            & (_cross(c - b, others - b) >= 0)
            & (_cross(a - c, others - c) >= 0)
        ).any()
    )
