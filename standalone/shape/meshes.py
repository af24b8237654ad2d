"""Meshes of shapes: read, welded by position, checked, repaired on request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float

from bn_field_plugin.nn import UserError

MESH_ENDINGS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
"""File endings that are read as meshes; a .ply without faces is a point cloud."""

POISSON_DEPTH = 8
"""Octree depth of the Poisson reconstruction of point clouds."""

SMALLEST_VOLUME = 1e-9
"""Volume, as a share of the cube of the longest side, below which a mesh encloses nothing."""


def load_mesh(path: Path, repair: bool = False) -> trimesh.Trimesh:
    """Read a closed mesh, or reconstruct one from a point cloud with normals.

    Vertices of one position are one vertex (UV seams), triangles without area are left out.

    Args:
        path: OBJ, PLY, STL, OFF or GLB file.
        repair: close holes and turn faces outwards instead of refusing such meshes.

    Returns:
        The mesh in the file's own coordinates: watertight, faces counter-clockwise seen from outside.

    Raises:
        UserError: a file that is no mesh, and a mesh that encloses no volume.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the path")
    if path.suffix.lower() not in MESH_ENDINGS:
        raise UserError(f"{path}: unknown ending; give a mesh ({', '.join(MESH_ENDINGS)}) or a volume")
    vertices, faces = _read(path)
    mesh = weld(vertices, faces)
    return closed(mesh, str(path), repair)


def weld(vertices: Float[np.ndarray, "v 3"], faces: np.ndarray) -> trimesh.Trimesh:
    """Make vertices of exactly one position one, and drop unused ones and triangles that lost a side."""
    unique, index = np.unique(vertices, axis=0, return_inverse=True)
    faces = index.reshape(-1)[faces]
    a, b, c = faces.T
    mesh = trimesh.Trimesh(unique, faces[(a != b) & (b != c) & (c != a)], process=False)
    mesh.remove_unreferenced_vertices()
    return mesh


def closed(mesh: trimesh.Trimesh, name: str, repair: bool = False) -> trimesh.Trimesh:
    """Check that a mesh encloses a volume, its faces turned outwards.

    Args:
        mesh: a welded mesh.
        name: what messages call it.
        repair: close holes and turn faces, where that is needed.

    Raises:
        UserError: holes, faces that point inwards or both ways, or no volume.
    """
    side = float(np.ptp(mesh.vertices, axis=0).max())
    scaled = trimesh.Trimesh((mesh.vertices - mesh.vertices.min(axis=0)) / side, mesh.faces, process=False)
    if scaled.area < SMALLEST_VOLUME:
        raise UserError(f"{name} has no area: give a mesh that encloses a volume")
    open_edges = boundary_edges(scaled)
    if open_edges and not repair:
        raise UserError(f"{name} is not watertight ({open_edges} boundary edges): close it, or pass --repair")
    if open_edges:
        trimesh.repair.fill_holes(scaled)
        left = boundary_edges(scaled)
        if left:
            raise UserError(
                f"{name} has holes that --repair cannot close ({left} boundary edges left of {open_edges}): "
                "close it in a mesh editor"
            )
    if repair:
        trimesh.repair.fix_normals(scaled, multibody=False)
    if not scaled.is_winding_consistent:
        raise UserError(f"{name} has faces that point both ways: pass --repair to turn them outwards")
    volume = float(scaled.volume)
    if abs(volume) < SMALLEST_VOLUME:
        raise UserError(f"{name} encloses no volume: give a solid shape")
    if volume < 0:
        raise UserError(f"{name} has all its faces turned inwards: pass --repair to turn them outwards")
    return trimesh.Trimesh(scaled.vertices * side + mesh.vertices.min(axis=0), scaled.faces, process=False)


def boundary_edges(mesh: trimesh.Trimesh) -> int:
    """Number of edges that do not belong to exactly two faces."""
    _, counts = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    return int((counts != 2).sum())


@dataclass(frozen=True)
class Frame:
    """The similarity that takes a shape's own coordinates into the box [-1, 1]^3 of the networks."""

    center: tuple[float, float, float]
    """The point that becomes the origin, in the shape's units."""
    scale: float
    """Length that becomes 1, in the shape's units."""

    @classmethod
    def around(cls, points: Float[np.ndarray, "n 3"], filled: float = 0.9) -> Frame:
        """The frame that centres the points' bounding box and lets its longest side fill a share of the box.

        Args:
            points: at least two different points.
            filled: share of the box's side, in (0, 1].
        """
        low, high = points.min(axis=0), points.max(axis=0)
        middle = low + (high - low) / 2
        return cls(
            (float(middle[0]), float(middle[1]), float(middle[2])), float((high - low).max()) / 2 / filled
        )

    def to_box(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """From the shape's coordinates to the box."""
        return (points - np.array(self.center)) / self.scale

    def from_box(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """From the box to the shape's coordinates."""
        return points * self.scale + np.array(self.center)

    def mesh_from_box(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A mesh in the box in the shape's coordinates."""
        return trimesh.Trimesh(self.from_box(mesh.vertices), mesh.faces, process=False)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a file, reconstructed where it holds points with normals only."""
    import open3d as o3d

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        read = o3d.io.read_triangle_mesh(str(path))
        vertices, faces = np.asarray(read.vertices), np.asarray(read.triangles)
        if len(vertices) == 0 and path.suffix.lower() != ".ply":
            raise UserError(f"{path} holds no mesh: it is empty or no {path.suffix} file")
        if len(faces) == 0:
            vertices, faces = _reconstruct(path)
    if not np.isfinite(vertices).all():
        broken = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise UserError(f"{path} has {broken} vertices that are not finite: mend the file")
    if not np.ptp(vertices, axis=0).max() > 0:
        raise UserError(f"{path} has all its vertices at one point: give a solid shape")
    return vertices, faces


def _reconstruct(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Poisson surface (Kazhdan & Hoppe 2013) of a point cloud with normals, in its own units."""
    import open3d as o3d

    cloud = o3d.io.read_point_cloud(str(path))
    points = np.asarray(cloud.points)
    if len(points) == 0:
        raise UserError(f"{path} holds neither faces nor points: it is empty or no mesh file")
    if not cloud.has_normals():
        raise UserError(
            f"{path} is a point cloud without normals: inside and outside need them; estimate and orient "
            "normals first, or give a mesh"
        )
    if not np.isfinite(points).all():
        raise UserError(f"{path} has points that are not finite: mend the file")
    if not np.ptp(points, axis=0).max() > 0:
        raise UserError(f"{path} has all its points at one place: give a solid shape")
    frame = Frame.around(points)
    cloud.points = o3d.utility.Vector3dVector(frame.to_box(points))
    mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=POISSON_DEPTH)
    return frame.from_box(np.asarray(mesh.vertices)), np.asarray(mesh.triangles)
