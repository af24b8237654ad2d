"""Solids in the box [-1, 1]^3: what is inside, and points on the surface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int

from bn_field_plugin.errors import UserError
from standalone.shape.triangles import areas_of, normals_of

CELLS = 96
"""Number of cells along each side of the box for which it is found beforehand whether they are inside."""


class Solid(ABC):
    """A shape as a set of points.

    Attributes:
        surface: boundary of the solid, as a mesh in the box.
    """

    surface: trimesh.Trimesh

    @abstractmethod
    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside; points outside the box lie outside."""

    def surface_points(
        self, count: int, generator: np.random.Generator
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points drawn evenly by area from the surface, with outward unit normals."""
        triangles, normals, cumulative = self._areas
        index = np.searchsorted(cumulative, generator.random(count) * cumulative[-1], side="right")
        index = np.minimum(index, len(triangles) - 1)
        r1, r2 = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
        a, b, c = triangles[index].swapaxes(0, 1)
        return (1 - r1) * a + r1 * ((1 - r2) * b + r2 * c), normals[index]

    @cached_property
    def _areas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Triangles, their outward normals, and the running sum of their areas."""
        triangles = np.asarray(self.surface.triangles)
        return triangles, normals_of(triangles), np.cumsum(areas_of(triangles))


class CellSolid(Solid):
    """A solid that stores which cells of the box lie inside; only points near the surface are tested."""

    cells = CELLS
    """Number of cells along each side of the box."""

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside."""
        cell = np.floor((points + 1) * (self.cells / 2)).astype(np.int64)
        in_box = ((cell >= 0) & (cell < self.cells)).all(axis=1)
        cell = cell.clip(0, self.cells - 1)
        known = self._known[cell[:, 0], cell[:, 1], cell[:, 2]]
        result: np.ndarray = (known == 1) & in_box
        unsure = np.flatnonzero((known < 0) & in_box)
        result[unsure] = self.tested(points[unsure])
        return result

    @abstractmethod
    def tested(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside, without use of the cells."""

    @abstractmethod
    def _look_ahead(
        self, centers: Float[np.ndarray, "n 3"], clear: Float[np.ndarray, "x y z"]
    ) -> Int[np.ndarray, " n"]:
        """Find for each cell: 1 if it lies inside, 0 if outside, -1 if that is not known.

        Args:
            centers: centres of all cells; the last coordinate changes fastest.
            clear: distance of each centre to the surface; at most half a diagonal in cells that meet the
                surface.
        """

    @property
    def half_diagonal(self) -> float:
        """Distance from a cell's centre to its corners."""
        return float(np.sqrt(3) / self.cells)

    @cached_property
    def _known(self) -> Int[np.ndarray, "x y z"]:
        axis = (np.arange(self.cells) + 0.5) * (2 / self.cells) - 1
        centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        distance = self.distance(centers).reshape((self.cells,) * 3)
        return self._look_ahead(centers, distance).astype(np.int8).reshape(distance.shape)

    @abstractmethod
    def distance(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance of points to the nearest face."""


class MeshSolid(CellSolid):
    """The inside of a closed mesh that does not intersect itself, tested by casting rays (Open3D).

    Args:
        mesh: watertight mesh in the box.
    """

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self.surface = mesh
        self._scene = raycasting_scene(mesh)

    def tested(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside, by the parity of a ray's crossings with the surface."""
        return np.asarray(self._scene.compute_occupancy(points.astype(np.float32)).numpy() > 0.5)

    def distance(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance of points to the nearest face."""
        return np.asarray(self._scene.compute_distance(points.astype(np.float32)).numpy())

    def _look_ahead(
        self, centers: Float[np.ndarray, "n 3"], clear: Float[np.ndarray, "x y z"]
    ) -> Int[np.ndarray, " n"]:
        cells = np.full(len(centers), -1)
        free = clear.reshape(-1) > self.half_diagonal + 1e-5
        cells[free] = self.tested(centers[free])
        return cells


class VolumeSolid(Solid):
    """The voxels of an occupancy volume; its grid spans the box along the longest side.

    Args:
        occupancy: True inside; of three axes, which is checked.

    Raises:
        UserError: all full, all empty, or not three-dimensional.
    """

    def __init__(self, occupancy: Bool[np.ndarray, "..."], name: str = "the volume") -> None:
        from bn_field_plugin.geometry import isosurface

        if occupancy.ndim != 3 or min(occupancy.shape) < 2:
            raise UserError(f"{name} has shape {occupancy.shape}: an occupancy volume has three axes")
        if occupancy.all() or not occupancy.any():
            kind = "full" if occupancy.all() else "empty"
            raise UserError(f"{name} is all {kind}: there is no surface to fit")
        self.occupancy = occupancy
        self.half = np.array(occupancy.shape) / max(occupancy.shape)
        import torch

        border = torch.as_tensor(self.half * (1 - 1 / np.array(occupancy.shape)))
        self.surface = isosurface(occupancy.astype(np.float32), (-border, border), 0.5)

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie in a full voxel."""
        shape = np.array(self.occupancy.shape)
        cell = np.floor((points / self.half + 1) / 2 * shape).astype(np.int64)
        in_volume = ((cell >= 0) & (cell < shape)).all(axis=1)
        cell = cell.clip(0, shape - 1)
        result: np.ndarray = self.occupancy[cell[:, 0], cell[:, 1], cell[:, 2]] & in_volume
        return result


def raycasting_scene(mesh: trimesh.Trimesh) -> Any:
    """Open3D's scene of one mesh; coordinates are in fp32 there, so the mesh should lie in the box."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(np.ascontiguousarray(mesh.vertices, dtype=np.float32)),
        o3d.core.Tensor(np.ascontiguousarray(mesh.faces, dtype=np.uint32)),
    )
    return scene
