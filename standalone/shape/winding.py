"""Generalised winding number: how often triangles go around a point, whether they close or not.

Inside a closed surface with outward faces it is 1, outside 0; beside a hole it changes smoothly (Jacobson et
al., *Robust Inside-Outside Segmentation Using Generalized Winding Numbers*, 2013). `exact_winding_number`
sums over all triangles; `WindingTree` sums far ones in groups, by the expansion of Barill et al. (*Fast
Winding Numbers for Soups and Clouds*, 2018).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.workers import run_blocks
from standalone.shape.triangles import LEAST, area_vectors

KERNELS = "standalone.shape.winding_kernel"
"""Module of the compiled loops, which tests compare with `WindingTree.twin`."""

LEAF = 8
"""Most triangles in the smallest groups."""

NEAR = 2.0
"""Distance from a group's centre, in radii of the group, from which on the group is summed as one (Barill et
al. take 2)."""

POINTS_PER_TASK = 2048
"""Number of points that a thread takes at a time."""


def exact_winding_number(
    triangles: Float[np.ndarray, "t 3 3"], points: Float[np.ndarray, "n 3"], pairs_per_call: int = 2**20
) -> Float[np.ndarray, " n"]:
    """Winding numbers by the sum over all triangles; the cost is points times triangles.

    Args:
        triangles: corners, counter-clockwise seen from outside.
        points: points that lie on no triangle.
        pairs_per_call: points times triangles in memory at a time.
    """
    out = np.empty(len(points))
    step = max(1, pairs_per_call // max(1, len(triangles)))
    for start in range(0, len(points), step):
        part = points[start : start + step]
        angles = solid_angle(triangles[None], part[:, None])
        out[start : start + step] = angles.sum(axis=1) / (4 * np.pi)
    return out


def solid_angle(
    triangles: Float[np.ndarray, "*#b 3 3"], points: Float[np.ndarray, "*#b 3"]
) -> Float[np.ndarray, "*b"]:
    """Signed solid angle of triangles seen from points (van Oosterom & Strackee 1983), in [-2 pi, 2 pi]."""
    a, b, c = (triangles[..., k, :] - points for k in range(3))
    la, lb, lc = (np.sqrt(_dot(side, side)) for side in (a, b, c))
    volume = _dot(a, np.cross(b, c))
    angle = 2 * np.arctan2(volume, la * lb * lc + _dot(a, b) * lc + _dot(b, c) * la + _dot(c, a) * lb)
    return np.asarray(angle)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("...i,...i->...", a, b))


class WindingTree:
    """Winding numbers of many points around many triangles.

    It is a balanced binary tree of groups of triangles; each group stores the moments of its area vectors up
    to the second order. Points are evaluated by a kernel that numba compiles when first needed; without
    numba, by the same sum in numpy, which is about fifteen times slower. The error is a few thousandths.

    Args:
        triangles: corners, counter-clockwise seen from outside; at least one.
        near: see `NEAR`; larger is more exact and slower.

    Attributes:
        nodes: one row for each group: centre (3), the square of the distance from which on it is summed as
            one, and the coefficients of `_far`; the children of row i are rows 2i + 1 and 2i + 2.
        bounds: index of the first triangle of each group without children, and the end of the last group.
        triangles: triangles, sorted so that each group is a contiguous range.
    """

    def __init__(self, triangles: Float[np.ndarray, "t 3 3"], near: float = NEAR) -> None:
        self.depth = max(0, int(np.ceil(np.log2(max(1, len(triangles)) / LEAF))))
        triangles = np.ascontiguousarray(triangles, dtype=np.float64)
        self.triangles = triangles[_kd_order(triangles.mean(axis=1), self.depth)]
        self.bounds = _bounds(len(triangles), self.depth)
        levels = [_moments(self.triangles, _bounds(len(triangles), d), near) for d in range(self.depth + 1)]
        self.nodes = np.concatenate(levels)

    def __call__(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Winding numbers of points.

        Args:
            points: any points; on a triangle the value lies between those of its two sides.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        out = np.empty(len(points))
        kernels = load_compiled(KERNELS)

        def work(first: int, last: int) -> None:
            part = slice(first, last)
            if kernels is None:
                out[part] = self.twin(points[part])
            else:
                kernels.add_winding_numbers(points[part], self.nodes, self.bounds, self.triangles, out[part])

        run_blocks(work, len(points), POINTS_PER_TASK)
        return out

    def twin(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Winding numbers by the kernel's sum in numpy: for pairs of points and groups, level by level."""
        out = np.zeros(len(points))
        which = np.arange(len(points))
        node = np.zeros(len(points), dtype=np.int64)
        first_leaf = len(self.nodes) // 2
        while len(which):
            rows = self.nodes[node]
            away = rows[:, :3] - points[which]
            far = _dot(away, away) > rows[:, 3]
            out += np.bincount(which[far], _far(away[far], rows[far, 4:]), len(points))
            leaf = ~far & (node >= first_leaf)
            ends = node[leaf] - first_leaf
            counts = self.bounds[ends + 1] - self.bounds[ends]
            owner = np.repeat(which[leaf], counts)
            index = np.repeat(self.bounds[ends] - (np.cumsum(counts) - counts), counts) + np.arange(
                len(owner)
            )
            out += np.bincount(owner, solid_angle(self.triangles[index], points[owner]), len(points))
            inner = ~far & (node < first_leaf)
            which = np.repeat(which[inner], 2)
            node = (2 * node[inner, None] + np.array([1, 2])).reshape(-1)
        return np.asarray(out / (4 * np.pi))


def _bounds(count: int, depth: int) -> Int[np.ndarray, " g1"]:
    """Index of the first triangle of each of 2^depth groups, and the end of the last group."""
    bounds: np.ndarray = np.arange(2**depth + 1) * count // 2**depth
    return bounds


def _kd_order(centers: Float[np.ndarray, "t 3"], depth: int) -> Int[np.ndarray, " t"]:
    """An order in which groups of every level are near each other: each is halved along its longest side."""
    order = np.arange(len(centers))
    for level in range(depth):
        bounds = _bounds(len(centers), level)
        sorted_centers = centers[order]
        low = np.minimum.reduceat(sorted_centers, bounds[:-1])
        high = np.maximum.reduceat(sorted_centers, bounds[:-1])
        group = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        along = sorted_centers[np.arange(len(order)), (high - low).argmax(axis=1)[group]]
        order = order[np.lexsort((along, group))]
    return order


def _moments(
    triangles: Float[np.ndarray, "t 3 3"], bounds: Int[np.ndarray, " g1"], near: float
) -> Float[np.ndarray, "g 27"]:
    """Rows of `WindingTree.nodes` for the groups of one level."""
    starts, group = bounds[:-1], np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    vectors = area_vectors(triangles)
    weights = np.maximum(np.linalg.norm(vectors, axis=1), LEAST)
    weighted = np.add.reduceat(weights[:, None] * triangles.mean(axis=1), starts)
    center = weighted / np.add.reduceat(weights, starts)[:, None]
    local = triangles - center[group, None]
    radius2 = np.maximum.reduceat(_dot(local, local).max(axis=1), starts)
    total = local.sum(axis=1)
    first = vectors[:, :, None] * (total / 3)[:, None, :]
    # mean over the triangle of x x^T; with the corners' sum s: (sum of x x^T over corners + s s^T) / 12
    square = (np.einsum("tki,tkj->tij", local, local) + total[:, :, None] * total[:, None, :]) / 12
    second = vectors[:, :, None, None] * square[:, None]
    a, m, t = (np.add.reduceat(moment, starts) for moment in (vectors, first, second))
    x, y, z = 0, 1, 2
    trace = m[:, x, x] + m[:, y, y] + m[:, z, z]
    pairs = [m[:, x, x], m[:, y, y], m[:, z, z]]
    pairs += [m[:, i, j] + m[:, j, i] for i, j in ((x, y), (x, z), (y, z))]
    v = 2 * np.einsum("giik->gk", t) + np.einsum("gkjj->gk", t)
    triples = [t[:, i, i, i] for i in (x, y, z)]
    triples += [
        t[:, j, i, i] + 2 * t[:, i, i, j] for i, j in ((x, y), (x, z), (y, x), (y, z), (z, x), (z, y))
    ]
    triples += [2 * (t[:, x, y, z] + t[:, y, x, z] + t[:, z, x, y])]
    return np.column_stack([center, near**2 * radius2, a, trace, *pairs, v, *triples])


def _far(away: Float[np.ndarray, "n 3"], rows: Float[np.ndarray, "n 23"]) -> Float[np.ndarray, " n"]:
    """Solid angle of groups far away, by the expansion of r / |r|^3 around their centres.

    Args:
        away: vectors from the points to the centres.
        rows: area vector (3), trace and symmetric part of its first moment (1 + 6), and of its second moment
            the traces (3) and the symmetric part (10).
    """
    x, y, z = away.T
    a, trace, m, v, t = rows[:, :3], rows[:, 3], rows[:, 4:10].T, rows[:, 10:13], rows[:, 13:].T
    square = _dot(away, away)
    r3 = square**-1.5
    r5 = r3 / square
    quadratic = m[0] * x * x + m[1] * y * y + m[2] * z * z + m[3] * x * y + m[4] * x * z + m[5] * y * z
    cubic = t[0] * x**3 + t[1] * y**3 + t[2] * z**3 + t[9] * x * y * z
    cubic += x * x * (t[3] * y + t[4] * z) + y * y * (t[5] * x + t[6] * z) + z * z * (t[7] * x + t[8] * y)
    return np.asarray(
        (_dot(a, away) + trace) * r3 - (3 * quadratic + 1.5 * _dot(v, away)) * r5 + 7.5 * cubic * r5 / square
    )
