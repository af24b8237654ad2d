"""Meshes of shapes: read, welded, turned outwards, and diagnosed; repaired on request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float

from bn_field_plugin.errors import UserError
from standalone.shape.clouds import surface_of_cloud
from standalone.shape.formats.content import MeshContent
from standalone.shape.formats.reading import read_mesh_file
from standalone.shape.holes import fill_holes
from standalone.shape.topology import Faces, edges_of, turned_alike, without_doubles
from standalone.shape.triangles import areas_of, volumes_of
from standalone.shape.turning import outward
from standalone.shape.welding import REPAIR_TOLERANCES, TOLERANCES, weld, weld_nearly

SMALLEST_VOLUME = 1e-9
"""Volume, as a share of the cube of the longest side, below which a closed mesh encloses nothing."""

COARSE = 1e-4
"""Step between 32-bit coordinates, as a share of the longest side, from which on a note warns of it."""


@dataclass(frozen=True)
class PreparedMesh:
    """A mesh whose inside can be told."""

    mesh: trimesh.Trimesh
    """The mesh with exactly the file's coordinates; its faces are counter-clockwise seen from outside."""
    open_edges: int
    """Number of edges at which the surface is open; 0 for a closed mesh."""
    forks: int
    """Number of the open edges that have three or more faces."""
    notes: tuple[str, ...] = ()
    """Lines on changes to the mesh and on its faults."""

    @property
    def closed(self) -> bool:
        """Whether the mesh is closed: it then goes around every point a whole number of times."""
        return self.open_edges == 0


def load_mesh(path: Path, repair: bool = False) -> PreparedMesh:
    """Read any mesh, or reconstruct one from a point cloud with normals.

    Args:
        path: OBJ, PLY, STL, OFF, GLB or glTF file.
        repair: close holes.

    Raises:
        UserError: the file is no mesh, or the mesh is closed but encloses no volume.
    """
    content = read_mesh_file(path)
    notes: list[str] = []
    if len(content.faces) == 0:
        content, notes = surface_of_cloud(content, str(path))
    prepared = prepare(content, str(path), repair)
    return PreparedMesh(prepared.mesh, prepared.open_edges, prepared.forks, (*notes, *prepared.notes))


def prepare(content: MeshContent, name: str, repair: bool = False) -> PreparedMesh:
    """Make a mesh whose inside can be told from the triangles of a file, as far as possible.

    Corners at one position become one, and also nearly equal ones, if that closes edges. Of repeated faces
    one is kept, and pairs of faces back to back are removed. Faces are turned like their neighbours, and
    whole parts outwards. Corners keep their coordinates to the last digit.

    Args:
        content: corners and triangles.
        name: name of the mesh in messages.
        repair: close holes by caps, and weld corners farther apart.

    Raises:
        UserError: coordinates are not finite, or the mesh is closed but encloses no volume.
    """
    _check_coordinates(content, name)
    vertices, faces = weld(content.vertices, content.faces)
    if len(faces) == 0:
        raise UserError(f"{name} has no area: give a mesh that encloses a volume")
    notes = _coarseness(vertices)
    faces, repeated, opposed = without_doubles(faces)
    welded = weld_nearly(vertices, faces, REPAIR_TOLERANCES if repair else TOLERANCES)
    if welded.closed:
        notes.append(
            f"{welded.corners:,} corners within {welded.tolerance:.0e} of its side of others are welded: "
            f"that closes {welded.closed:,} edges"
        )
        faces, more, pairs = without_doubles(welded.faces)
        repeated, opposed = repeated + more, opposed + pairs
    if repeated:
        notes.append(f"{counted(repeated, 'face')} of those there twice left out")
    if opposed:
        notes.append(f"{counted(opposed, 'pair')} of faces back to back, which bound nothing, left out")
    corner, side = vertices[faces].min(axis=(0, 1)), float(np.ptp(vertices[faces], axis=(0, 1)).max())
    scaled = (vertices - corner) / side
    areas = areas_of(scaled[faces])
    if areas.sum() < SMALLEST_VOLUME:
        raise UserError(f"{name} has no area: give a mesh that encloses a volume")
    turned = turned_alike(faces, areas)
    faces, patch = turned.faces, turned.patch
    if turned.turned:
        notes.append(f"{turned.turned:,} of its {len(faces):,} faces pointed against the others: turned")
    if turned.one_sided:
        notes.append(f"{turned.one_sided:,} faces form a surface of one side (as a Moebius band)")
    if repair:
        before = _gaps(faces)[0]
        vertices, filled, caps = fill_holes(vertices, faces)
        capped = without_doubles(filled).faces
        closed = before - _gaps(capped)[0]
        if closed > 0:  # the cap of a single loose triangle is its own back, and closes nothing
            notes.append(
                f"--repair closed {closed:,} open edges by {caps:,} caps ({len(filled) - len(faces):,} faces)"
            )
            faces = capped
            scaled = (vertices - corner) / side
            turned = turned_alike(faces, areas_of(scaled[faces]))
            faces, patch = turned.faces, turned.patch
    if len(faces) == 0:
        raise UserError(f"{name} encloses no volume: give a solid shape")
    result = outward(scaled, faces, patch)
    if result.all_turned:
        notes.append("its faces pointed inwards: turned outwards")
    if result.parts:
        notes.append(
            f"{result.parts:,} of {result.of_parts:,} parts were inside out, as mirrored copies are: turned"
        )
    open_edges, forks = _gaps(result.faces)
    if open_edges == 0 and volumes_of(scaled[result.faces] - 0.5).sum() < SMALLEST_VOLUME:
        raise UserError(f"{name} encloses no volume: give a solid shape")
    mesh = trimesh.Trimesh(vertices, result.faces, process=False)
    mesh.remove_unreferenced_vertices()
    return PreparedMesh(mesh, open_edges, forks, tuple(f"{name}: {note}" for note in notes))


def _check_coordinates(content: MeshContent, name: str) -> None:
    """Refuse a mesh with corners that are not finite, or are all at one position."""
    corners = content.vertices[content.faces.reshape(-1)]
    if not np.isfinite(corners).all():
        broken = len(np.unique(content.faces.reshape(-1)[~np.isfinite(corners).all(axis=1)]))
        raise UserError(f"{name} has {broken} vertices that are not finite: mend the file")
    if not np.ptp(corners, axis=0).max() > 0:
        raise UserError(f"{name} has all its vertices at one point: give a solid shape")


def _coarseness(vertices: Float[np.ndarray, "v 3"]) -> list[str]:
    """A note if coordinates have 32 bits, and the mesh is so far from the origin that these are too few.

    There is no note on meshes with few corners or whole numbers, whose coordinates may be exact.
    """
    if len(vertices) < 100 or not np.array_equal(vertices, vertices.astype(np.float32)):
        return []
    step = float(np.spacing(np.abs(vertices).max().astype(np.float32)) / np.ptp(vertices, axis=0).max())
    if step < COARSE or np.array_equal(vertices, np.rint(vertices)):
        return []
    return [
        f"its corners lie on steps of {step:.1e} of its side, as 32-bit numbers do this far from the origin"
    ]


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the singular or plural."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _gaps(faces: Faces) -> tuple[int, int]:
    """Number of open edges, and how many of these have three or more faces."""
    edges = edges_of(faces)
    gap = edges.balance != 0
    return int(np.count_nonzero(gap)), int(np.count_nonzero(gap & (edges.uses > 2)))
