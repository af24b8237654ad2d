"""What a fit starts from: a solid in the box, and the frame that leads back to its own coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from bn_field_plugin.nn import UserError
from standalone.shape.demo import knurled_torus
from standalone.shape.meshes import Frame, load_mesh
from standalone.shape.metrics import grid_over
from standalone.shape.solids import MeshSolid, Solid, VolumeSolid, load_volume

VOLUME_ENDINGS = (".npy", ".npz", ".mat")
"""File endings that are read as occupancy volumes."""


@dataclass(frozen=True)
class ShapeInput:
    """A shape to fit."""

    name: str
    """Name for folders and captions."""
    solid: Solid
    """The shape in the box [-1, 1]^3."""
    frame: Frame
    """From its own coordinates (of a volume: voxel indices) to the box."""


def load_shape(path: Path | None, repair: bool = False) -> ShapeInput:
    """Read a shape: a closed mesh, a point cloud with normals, or an occupancy volume.

    Args:
        path: the file; None is the built-in knurled torus.
        repair: close holes and turn faces of meshes that need it.

    Raises:
        UserError: the file cannot be read, or holds nothing with an inside.
    """
    if path is None:
        return _from_mesh("knurled-torus", knurled_torus(), check=False)
    if path.suffix.lower() in VOLUME_ENDINGS:
        solid = VolumeSolid(load_volume(path), str(path))
        shape = np.array(solid.occupancy.shape)
        middle = (shape - 1) / 2
        frame = Frame((float(middle[0]), float(middle[1]), float(middle[2])), float(shape.max()) / 2)
        return ShapeInput(path.stem, solid, frame)
    return _from_mesh(path.stem, load_mesh(path, repair), check=True, label=str(path))


def voxelized(shape: ShapeInput, resolution: int) -> ShapeInput:
    """The same shape as voxels of its bounding box (WIRE's protocol fits those).

    Args:
        shape: a shape; one that is a volume already stays as it is.
        resolution: voxels along the longest side, at least 2.
    """
    if isinstance(shape.solid, VolumeSolid):
        return shape
    if resolution < 2:
        raise UserError(f"--voxels is {resolution}: it must be at least 2")
    low, high = shape.solid.surface.bounds
    cell = (high - low).max() / resolution
    sizes = [len(np.arange(a + cell / 2, b, cell)) for a, b in zip(low, high, strict=True)]
    occupancy = shape.solid.inside(grid_over(shape.solid.surface, resolution)).reshape(sizes)
    solid = VolumeSolid(occupancy, shape.name)
    # The volume's box is centred on its voxels, and its longest side fills the whole box.
    half = cell * max(sizes) / 2
    middle = low + cell * np.array(sizes) / 2
    center = shape.frame.from_box(middle[None])[0]
    frame = Frame((float(center[0]), float(center[1]), float(center[2])), shape.frame.scale * float(half))
    return ShapeInput(shape.name, solid, frame)


def _from_mesh(name: str, mesh: trimesh.Trimesh, check: bool, label: str | None = None) -> ShapeInput:
    frame = Frame.around(mesh.vertices)
    in_box = trimesh.Trimesh(frame.to_box(mesh.vertices), mesh.faces, process=False)
    return ShapeInput(name, MeshSolid(in_box, label or name, check=check), frame)
