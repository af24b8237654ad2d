"""Solids in the box [-1, 1]^3: what is inside, and points on the surface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool, Float
from scipy import io as scipy_io

from bn_field_plugin.nn import UserError

CELLS = 96
"""Cells along each side of the box of which a mesh knows beforehand whether they lie inside or outside."""

DISAGREEMENT = 2e-3
"""Share of points on which ray parity and winding number may differ: those too near to the surface."""


class Solid(ABC):
    """A shape as a set of points.

    Attributes:
        surface: its boundary as a mesh in the box.
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
        cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        length = np.linalg.norm(cross, axis=1)
        return triangles, cross / np.maximum(length, 1e-300)[:, None], np.cumsum(length / 2)


class MeshSolid(Solid):
    """The inside of a closed mesh.

    Cells of the box that the surface does not meet are known beforehand, from the distance of their centres;
    only points in the others are tested by casting a ray (Open3D).

    Args:
        mesh: watertight mesh in the box.
        name: what messages call it.
        check: compare ray parity with the winding number, which differ where a mesh cuts itself.

    Raises:
        UserError: the two differ.
    """

    def __init__(self, mesh: trimesh.Trimesh, name: str = "the mesh", check: bool = True) -> None:
        self.surface = mesh
        self._scene = raycasting_scene(mesh)
        if check:
            _check_parity(self, name)

    def inside(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Tell which points lie inside."""
        cell = np.floor((points + 1) * (CELLS / 2)).astype(np.int64)
        in_box = ((cell >= 0) & (cell < CELLS)).all(axis=1)
        cell = cell.clip(0, CELLS - 1)
        known = self._cells[cell[:, 0], cell[:, 1], cell[:, 2]]
        result: np.ndarray = (known == 1) & in_box
        unsure = np.flatnonzero((known < 0) & in_box)
        result[unsure] = self._cast(points[unsure])
        return result

    def _cast(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Inside by the parity of a ray's crossings."""
        return self._scene.compute_occupancy(points.astype(np.float32)).numpy() > 0.5

    @cached_property
    def _cells(self) -> np.ndarray:
        """1 inside, 0 outside, -1 met by the surface, for each cell of the box."""
        centers = (np.arange(CELLS) + 0.5) * (2 / CELLS) - 1
        points = np.stack(np.meshgrid(centers, centers, centers, indexing="ij"), axis=-1).reshape(-1, 3)
        distance = self._scene.compute_distance(points.astype(np.float32)).numpy()
        clear = distance > np.sqrt(3) / CELLS + 1e-5  # half a cell's diagonal
        cells = np.full(CELLS**3, -1, dtype=np.int8)
        cells[clear] = self._cast(points[clear])
        return cells.reshape(CELLS, CELLS, CELLS)


class VolumeSolid(Solid):
    """The voxels of an occupancy volume; its grid spans the box along the longest side.

    Args:
        occupancy: True inside.

    Raises:
        UserError: all full, all empty, or not three-dimensional.
    """

    def __init__(self, occupancy: Bool[np.ndarray, "x y z"], name: str = "the volume") -> None:
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


def load_volume(path: Any) -> Bool[np.ndarray, "x y z"]:
    """Read an occupancy volume: the one 3D array of a .npy, .npz or .mat file, full above one half.

    Raises:
        UserError: an unreadable file, or not exactly one 3D array of finite numbers in it.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the path")
    try:
        if path.suffix == ".mat":
            arrays = {k: v for k, v in scipy_io.loadmat(path).items() if not k.startswith("__")}
        else:
            loaded = np.load(path, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"array": loaded}
    except NotImplementedError:
        raise UserError(f"{path} is a MATLAB 7.3 file: save it with -v7, or as .npy") from None
    except Exception as error:  # a broken file can fail in any way
        raise UserError(f"{path} cannot be read ({error}): give a .npy, .npz or .mat volume") from None
    volumes = [v for v in arrays.values() if np.ndim(v) == 3 and v.dtype.kind in "biuf"]
    if len(volumes) != 1:
        raise UserError(f"{path} holds {len(volumes)} three-dimensional arrays: it must hold exactly one")
    volume = volumes[0]
    if volume.dtype.kind == "f" and not np.isfinite(volume).all():
        raise UserError(f"{path} has voxels that are not finite: mend the file")
    return volume > 0.5


def raycasting_scene(mesh: trimesh.Trimesh) -> Any:
    """Open3D's scene of one mesh; coordinates are in fp32 there, so the mesh should lie in the box."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor(np.ascontiguousarray(mesh.vertices, dtype=np.float32)),
        o3d.core.Tensor(np.ascontiguousarray(mesh.faces, dtype=np.uint32)),
    )
    return scene


def winding_number(
    mesh: trimesh.Trimesh, points: Float[np.ndarray, "n 3"], triangles_per_call: int = 2**20
) -> Float[np.ndarray, " n"]:
    """How often a mesh goes around each point (van Oosterom & Strackee 1983; Jacobson et al. 2013).

    1 inside and 0 outside of a closed mesh with outward faces; cost is points times triangles.

    Args:
        mesh: the mesh.
        points: points not on the surface.
        triangles_per_call: points times triangles in memory at a time.
    """
    triangles = np.asarray(mesh.triangles)
    out = np.empty(len(points))
    step = max(1, triangles_per_call // len(triangles))
    for start in range(0, len(points), step):
        a, b, c = (triangles[None] - points[start : start + step, None, None]).transpose(2, 0, 1, 3)
        la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
        volume = np.einsum("pti,pti->pt", a, np.cross(b, c))
        dot = partial_dots(a, b, c, la, lb, lc)
        out[start : start + step] = np.arctan2(volume, dot).sum(axis=1) / (2 * np.pi)
    return out


def partial_dots(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, la: np.ndarray, lb: np.ndarray, lc: np.ndarray
) -> np.ndarray:
    """Denominator of the solid angle's tangent, for corners relative to the point and their lengths."""

    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("pti,pti->pt", x, y)

    return np.asarray(la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb)


def _check_parity(solid: MeshSolid, name: str, count: int = 2048) -> None:
    """Compare the two definitions of inside near the surface and all over the box."""
    generator = np.random.default_rng(0)
    near, _ = solid.surface_points(count // 2, generator)
    near = near + generator.normal(0, 0.02, near.shape)
    points = np.concatenate([near, generator.uniform(-1, 1, (count // 2, 3))]).astype(np.float32)
    winding = winding_number(solid.surface, points.astype(np.float64))
    parity = solid.inside(points.astype(np.float64))
    differing = float(np.mean(np.rint(winding) != parity))
    if differing > DISAGREEMENT:
        raise UserError(
            f"{name} cuts itself or overlaps: ray parity and winding number differ on {differing:.1%} of the "
            "points; unite its parts in a mesh editor"
        )
