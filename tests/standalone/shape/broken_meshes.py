"""Meshes, whole and broken on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from standalone.shape.formats.content import MeshContent
from standalone.shape.frames import Frame


def ball(subdivisions: int = 3, radius: float = 1.0, center: object = 0.0) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return trimesh.Trimesh(mesh.vertices * radius + center, mesh.faces, process=False)


def box(low: tuple[float, ...] = (0, 0, 0), high: tuple[float, ...] = (1, 1, 1)) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(bounds=[low, high])
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def together(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    """Several meshes as one, without welding."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)])
    return trimesh.Trimesh(np.concatenate([mesh.vertices for mesh in meshes]), faces, process=False)


def turned(mesh: trimesh.Trimesh, share: float = 1.0) -> trimesh.Trimesh:
    """A mesh with its first faces turned around."""
    faces = np.array(mesh.faces)
    faces[: round(share * len(faces))] = faces[: round(share * len(faces)), ::-1]
    return trimesh.Trimesh(mesh.vertices, faces, process=False)


def holed(mesh: trimesh.Trimesh, height: float) -> trimesh.Trimesh:
    """A mesh without the faces whose corners all lie above a height."""
    kept = np.asarray(mesh.triangles)[:, :, 2].min(axis=1) < height
    return trimesh.Trimesh(mesh.vertices, mesh.faces[kept], process=False)


def soup(mesh: trimesh.Trimesh, noise: float = 0.0) -> trimesh.Trimesh:
    """A mesh whose triangles have corners of their own, each moved by a share of the longest side."""
    corners = np.array(mesh.triangles).reshape(-1, 3)
    side = np.ptp(corners, axis=0).max()
    corners = corners + np.random.default_rng(0).uniform(-noise, noise, corners.shape) * side / 2
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)


def content(mesh: trimesh.Trimesh) -> MeshContent:
    return MeshContent(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def in_box(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    return Frame.around(mesh.vertices).mesh_to_box(mesh)


def write(mesh: trimesh.Trimesh, path: Path) -> Path:
    data = mesh.export(file_type=path.suffix[1:])
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
