"""Solids by the winding number, for meshes that are open or intersect themselves, or whose parts overlap."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int

from standalone.shape.solids import CellSolid, raycasting_scene
from standalone.shape.triangles import normals_of
from standalone.shape.winding import WindingTree

LEVEL = 0.5
"""Winding number above which a point lies inside."""

SLACK = 0.02
"""Margin below the lowest and above the highest winding number that were sampled."""

STEP = 1e-4
"""Distance from a face at which the winding number on its two sides is taken."""

LARGEST_PIECE = 0.08
"""Longest edge of the pieces into which faces are cut where parts overlap, unless they would be too many."""

MOST_PIECES = 2**17
"""Most pieces that are examined, at about 10^4 a second, unless the mesh itself has about as many faces."""


class WindingSolid(CellSolid):
    """All points around which a mesh goes by more than `LEVEL`.

    Args:
        mesh: any triangles in the box.
        tree: winding tree of the mesh's triangles.
        closed: whether the mesh is closed, so that the winding number is a whole number everywhere.
        extremes: the lowest and the highest winding number that were found.

    Attributes:
        surface: the mesh; if parts overlap, only the pieces of faces that bound the solid.
    """

    def __init__(
        self, mesh: trimesh.Trimesh, tree: WindingTree, closed: bool, extremes: tuple[float, float]
    ) -> None:
        self._tree, self._closed = tree, closed
        self._low, self._high = min(0.0, extremes[0]) - SLACK, max(1.0, extremes[1]) + SLACK
        self._scene = raycasting_scene(mesh)
        if not closed:
            self.cells = 64  # fewer cells, because the winding number is computed at each
        overlap = extremes[1] > 1 + LEVEL or extremes[0] < -LEVEL
        self.surface = bounding_pieces(mesh, tree) if overlap else mesh

    def tested(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside, by the winding number."""
        return np.asarray(self._tree(points) > LEVEL)

    def distance(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance of points to the nearest face of the mesh, also to faces within the solid."""
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
        """Find cells inside by regions without faces, in each of which a whole winding number is constant."""
        from scipy.ndimage import label

        regions, count = label(free)
        regions = regions.reshape(-1)
        _, first = np.unique(regions, return_index=True)
        inside = np.full(count + 1, -1)
        found = regions[first]
        inside[found] = self.tested(centers[first])
        inside[0] = -1  # region 0 is that of all cells with faces
        where: np.ndarray = inside[regions]
        return where

    def _certain(
        self, winding: Float[np.ndarray, " n"], clear: Float[np.ndarray, " n"]
    ) -> Int[np.ndarray, " n"]:
        """Find cells that lie wholly inside or outside, from the winding number at their centres.

        The winding number is harmonic where there are no faces. By Harnack's inequality a positive harmonic
        function in a ball of radius R grows over a distance h from the centre at most by
        R (R + h) / (R - h)^2. This holds for the number's height above the lowest and its depth below the
        highest value.
        """
        h = self.half_diagonal
        growth = clear * (clear + h) / (clear - h) ** 2
        cells = np.full(len(winding), -1)
        cells[(self._high - winding) * growth < self._high - LEVEL] = 1
        cells[(winding - self._low) * growth < LEVEL - self._low] = 0
        return cells


def bounding_pieces(mesh: trimesh.Trimesh, tree: WindingTree) -> trimesh.Trimesh:
    """The pieces of a mesh's faces that have the inside on only one side, turned outwards.

    Large faces are cut into pieces, because overlapping parts may hide a part of a face.
    """
    triangles = pieces_of(np.asarray(mesh.triangles))
    normals, centers = normals_of(triangles), triangles.mean(axis=1)
    outer, inner = (tree(centers + step * normals) > LEVEL for step in (STEP, -STEP))
    turned = np.where((outer & ~inner)[:, None, None], triangles[:, ::-1], triangles)[outer != inner]
    if len(turned) == 0:
        return mesh
    corners, index = np.unique(turned.reshape(-1, 3), axis=0, return_inverse=True)
    return trimesh.Trimesh(corners, index.reshape(-1, 3), process=False)


def pieces_of(triangles: Float[np.ndarray, "t 3 3"], most: int = MOST_PIECES) -> Float[np.ndarray, "u 3 3"]:
    """Cut triangles as finely as their number allows, since many long slivers would give millions of pieces.

    Args:
        triangles: triangles in the box.
        most: largest number of pieces; twice the number of triangles is allowed in any case.
    """
    longest = LARGEST_PIECE
    while True:
        pieces = halved(triangles, longest)
        if len(pieces) <= max(most, 2 * len(triangles)):
            return pieces
        longest *= 2


def halved(triangles: Float[np.ndarray, "t 3 3"], longest: float) -> Float[np.ndarray, "u 3 3"]:
    """Cut triangles in the middle of their longest side until no side is longer than `longest`."""
    done = []
    while len(triangles):
        sides = np.linalg.norm(np.roll(triangles, -1, axis=1) - triangles, axis=2)
        large = sides.max(axis=1) > longest
        done.append(triangles[~large])
        # Reorder the corners so that the longest side comes first.
        turn = (sides[large].argmax(axis=1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(triangles[large], turn[:, :, None], axis=1).swapaxes(0, 1)
        middle = (a + b) / 2
        triangles = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    return np.concatenate(done)
