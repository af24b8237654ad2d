"""The input of a fit: a solid in the box, and the frame that leads back to its own coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bn_field_plugin.errors import UserError
from standalone.shape.demo import knurled_torus
from standalone.shape.frames import Frame
from standalone.shape.mesh_inside import solid_of_mesh
from standalone.shape.meshes import load_mesh
from standalone.shape.metrics import grid_over
from standalone.shape.solids import MeshSolid, Solid, VolumeSolid
from standalone.shape.volumes import VOLUME_ENDINGS, Side, load_volume


@dataclass(frozen=True)
class ShapeInput:
    """A shape to fit."""

    name: str
    """Name for folders and captions."""
    solid: Solid
    """The shape in the box [-1, 1]^3."""
    frame: Frame
    """Map from the shape's own coordinates (voxel indices, for a volume) to the box."""
    notes: tuple[str, ...] = ()
    """Lines on changes to the shape and on its faults."""


def load_shape(
    path: Path | None, repair: bool = False, threshold: float | None = None, inside: Side | None = None
) -> ShapeInput:
    """Read a shape: a mesh, a point cloud with normals, or an occupancy volume.

    Args:
        path: the file; None is the built-in knurled torus.
        repair: close holes of meshes.
        threshold: value at the surface of a volume; by default found from the volume's values.
        inside: side of the threshold that is inside; by default found from the volume's values.

    Raises:
        UserError: the file cannot be read, or holds nothing with an inside.
    """
    is_volume = path is not None and path.suffix.lower() in VOLUME_ENDINGS
    if not is_volume and (threshold is not None or inside is not None):
        option = "--threshold" if threshold is not None else "--inside"
        raise UserError(f"{option} is for volumes ({', '.join(VOLUME_ENDINGS)}) alone: leave it out")
    if path is None:
        mesh = knurled_torus()
        frame = Frame.around(mesh.vertices)
        return ShapeInput("knurled-torus", MeshSolid(frame.mesh_to_box(mesh)), frame)
    if is_volume:
        occupancy, notes = load_volume(path, threshold, inside)
        solid = VolumeSolid(occupancy, str(path))
        shape = np.array(solid.occupancy.shape)
        middle = (shape - 1) / 2
        frame = Frame((float(middle[0]), float(middle[1]), float(middle[2])), float(shape.max()) / 2)
        return ShapeInput(path.stem, solid, frame, notes)
    prepared = load_mesh(path, repair)
    frame = Frame.around(prepared.mesh.vertices)
    found = solid_of_mesh(prepared, frame.mesh_to_box(prepared.mesh), str(path))
    return ShapeInput(path.stem, found.solid, frame, (*prepared.notes, *found.notes))


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
    return ShapeInput(shape.name, solid, frame, shape.notes)
