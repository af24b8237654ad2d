"""Solids by the winding number: of meshes that are open, cut themselves, or whose parts overlap."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int

from standalone.shape.solids import CellSolid, raycasting_scene
from standalone.shape.winding import WindingTree

LEVEL = 0.5
"""Winding number above which a point lies inside."""

SLACK = 0.02
"""Room around the lowest and highest winding number that were sampled."""

STEP = 1e-4
"""Distance from a face at which its two sides are looked at."""

LARGEST_PIECE = 0.08
"""Longest edge of the pieces that are looked at where parts overlap, unless they would be too many."""

MOST_PIECES = 2**17
"""Pieces that are looked at, at about 10^4 a second; more only where the mesh has about as many faces."""


class WindingSolid(CellSolid):
    """All points around which a mesh goes by more than `LEVEL`.

    Args:
        mesh: any triangles in the box.
        tree: of the mesh's triangles.
        closed: whether the winding number is whole everywhere.
        extremes: the lowest and the highest winding number that were found.

    Attributes:
        surface: where parts overlap, only the pieces of faces that bound the solid.
    """

    def __init__(
        self, mesh: trimesh.Trimesh, tree: WindingTree, closed: bool, extremes: tuple[float, float]
    ) -> None:
        self._tree, self._closed = tree, closed
        self._low, self._high = min(0.0, extremes[0]) - SLACK, max(1.0, extremes[1]) + SLACK
        self._scene = raycasting_scene(mesh)
        if not closed:
            self.cells = 64  # each is evaluated
        overlap = extremes[1] > 1 + LEVEL or extremes[0] < -LEVEL
        self.surface = bounding_pieces(mesh, tree) if overlap else mesh

    def tested(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Inside by the winding number."""
        return np.asarray(self._tree(points) > LEVEL)

    def distance(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance of points to the nearest face, also one within the solid."""
        return np.asarray(self._scene.compute_distance(points.astype(np.float32)).numpy())

    def _look_ahead(
        self, centers: Float[np.ndarray, "n 3"], clear: Float[np.ndarray, "x y z"]
    ) -> Int[np.ndarray, " n"]:
        free = clear > self.half_diagonal + 1e-5
        if self._closed:
            return self._by_regions(centers, free)
        cells = np.full(len(centers), -1)
        flat = free.reshape(-1)
        winding = self._tree(centers[flat])
        cells[flat] = self._certain(winding, clear.reshape(-1)[flat])
        return cells

    def _by_regions(
        self, centers: Float[np.ndarray, "n 3"], free: Bool[np.ndarray, "x y z"]
    ) -> Int[np.ndarray, " n"]:
        """Where it is whole, the winding number is the same in all of a region without faces."""
        from scipy.ndimage import label

        regions, count = label(free)
        regions = regions.reshape(-1)
        _, first = np.unique(regions, return_index=True)
        inside = np.full(count + 1, -1)
        found = regions[first]
        inside[found] = self.tested(centers[first])
        inside[0] = -1  # cells with faces
        return inside[regions]

    def _certain(
        self, winding: Float[np.ndarray, " n"], clear: Float[np.ndarray, " n"]
    ) -> Int[np.ndarray, " n"]:
        """What the value at a cell's centre says of all of the cell.

        The winding number is harmonic where there are no faces. By Harnack's inequality a positive harmonic
        function in a ball of radius R grows over a distance h from the centre at most by
        R (R + h) / (R - h)^2: both its height above the lowest value and its depth below the highest do.
        """
        h = self.half_diagonal
        growth = clear * (clear + h) / (clear - h) ** 2
        cells = np.full(len(winding), -1)
        cells[(self._high - winding) * growth < self._high - LEVEL] = 1
        cells[(winding - self._low) * growth < LEVEL - self._low] = 0
        return cells


def bounding_pieces(mesh: trimesh.Trimesh, tree: WindingTree) -> trimesh.Trimesh:
    """The pieces of a mesh's faces with the inside on one side alone, turned outwards.

    Large faces are cut, as overlapping parts may hide some of them.
    """
    triangles = pieces_of(np.asarray(mesh.triangles))
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    centers = triangles.mean(axis=1)
    outer, inner = (tree(centers + step * normals) > LEVEL for step in (STEP, -STEP))
    turned = np.where((outer & ~inner)[:, None, None], triangles[:, ::-1], triangles)[outer != inner]
    if len(turned) == 0:
        return mesh
    corners, index = np.unique(turned.reshape(-1, 3), axis=0, return_inverse=True)
    return trimesh.Trimesh(corners, index.reshape(-1, 3), process=False)


def pieces_of(triangles: Float[np.ndarray, "t 3 3"], most: int = MOST_PIECES) -> Float[np.ndarray, "u 3 3"]:
    """Triangles cut as finely as their number allows: one of many long slivers would give millions.

    Args:
        triangles: in the box.
        most: pieces that may be; twice as many as there are triangles may be as well.
    """
    longest = LARGEST_PIECE
    while True:
        pieces = halved(triangles, longest)
        if len(pieces) <= max(most, 2 * len(triangles)):
            return pieces
        longest *= 2


def halved(triangles: Float[np.ndarray, "t 3 3"], longest: float) -> Float[np.ndarray, "u 3 3"]:
    """Triangles cut in the middle of their longest side until none is longer; slivers stay few."""
    done = []
    while len(triangles):
        sides = np.linalg.norm(np.roll(triangles, -1, axis=1) - triangles, axis=2)
        large = sides.max(axis=1) > longest
        done.append(triangles[~large])
        # turn the longest side to the front
        turn = (sides[large].argmax(axis=1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(triangles[large], turn[:, :, None], axis=1).swapaxes(0, 1)
        middle = (a + b) / 2
        triangles = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    return np.concatenate(done)
