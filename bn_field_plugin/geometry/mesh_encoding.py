"""Meshes as the bytes of a file, with coordinates as precise as each format allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

COARSE = 1e-6
"""Largest rounding of a coordinate, as a share of the mesh's longest side, at which 32 bits are enough."""


def encode_mesh(mesh: trimesh.Trimesh, kind: str) -> bytes:
    """A mesh as the content of a file.

    OBJ gets all digits. Where 32-bit coordinates are too coarse, as in a mesh far from the origin, PLY gets
    64-bit coordinates. GLB has no such coordinates: it gets 32-bit ones around the mesh's middle, and a node
    that moves the mesh to its place.

    Args:
        mesh: with or without colours of vertices.
        kind: ply, obj, stl or glb.
    """
    coarse = single_precision_error(mesh) > COARSE
    if kind == "obj":
        return _obj(mesh)
    if kind == "ply" and coarse:
        return _ply_in_doubles(mesh)
    if kind == "glb" and coarse:
        return _glb_around_its_middle(mesh)
    data: Any = mesh.export(file_type=kind)
    return data.encode() if isinstance(data, str) else bytes(data)


def single_precision_error(mesh: trimesh.Trimesh) -> float:
    """How far 32-bit numbers move a coordinate at most, as a share of the mesh's longest side."""
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    side = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.0
    with np.errstate(over="ignore"):  # coordinates above 3e38, which become infinite
        moved = float(np.abs(vertices - vertices.astype(np.float32)).max(initial=0.0))
    return moved / side if side > 0 else 0.0


def precision_note(mesh: trimesh.Trimesh, kind: str) -> str | None:
    """One line on how a format rounds this mesh's coordinates; None where nobody would see it."""
    error = single_precision_error(mesh)
    if error <= COARSE or kind in ("obj", "ply"):
        return None
    if kind == "glb":
        return (
            "GLB has 32-bit coordinates: they are written around the shape's middle, and a node puts them in "
            "place; programs that compute in 32 bits round that place"
        )
    return (
        f"{kind.upper()} has 32-bit coordinates, which this far from the origin move corners by up to "
        f"{error:.1e} of the shape's side: use .ply or .obj"
    )


def _colors(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """8-bit RGB of each vertex, or None."""
    visual: Any = mesh.visual
    if getattr(visual, "kind", None) != "vertex":
        return None
    return np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)


def _ply_in_doubles(mesh: trimesh.Trimesh) -> bytes:
    """Binary PLY with 64-bit coordinates."""
    colors = _colors(mesh)
    fields: list[Any] = [(axis, "<f8") for axis in "xyz"]
    names = [f"property double {axis}" for axis in "xyz"]
    if colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
        names += [f"property uchar {name}" for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.vertices), dtype=fields)
    for index, axis in enumerate("xyz"):
        vertices[axis] = mesh.vertices[:, index]
    if colors is not None:
        for index, name in enumerate(("red", "green", "blue")):
            vertices[name] = colors[:, index]
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = [
        *("ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *names),
        *(f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()


def _obj(mesh: trimesh.Trimesh) -> bytes:
    """OBJ whose numbers read back as the same 64-bit ones."""
    rows = [[repr(x) for x in row] for row in np.asarray(mesh.vertices, dtype=np.float64).tolist()]
    colors = _colors(mesh)
    if colors is not None:  # colours follow the coordinates, where MeshLab and Blender look for them
        for row, color in zip(rows, (colors / 255).tolist(), strict=True):
            row += [f"{c:.4f}" for c in color]
    lines = [f"v {' '.join(row)}" for row in rows]
    lines += [f"f {a} {b} {c}" for a, b, c in (np.asarray(mesh.faces) + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _glb_around_its_middle(mesh: trimesh.Trimesh) -> bytes:
    """GLB whose mesh stands around the origin and whose node moves it to its place."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    middle = low + (high - low) / 2
    local = trimesh.Trimesh(mesh.vertices - middle, mesh.faces, visual=mesh.visual, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(local, transform=trimesh.transformations.translation_matrix(middle))
    return bytes(scene.export(file_type="glb"))
