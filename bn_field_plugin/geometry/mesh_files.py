"""Mesh files, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import trimesh

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from bn_field_plugin.geometry.mesh_encoding import encode_mesh


def mesh_format(path: Path) -> str:
    """The format that a file's ending chooses.

    Raises:
        UserError: an unknown ending.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("ply", "obj", "stl", "glb"):
        raise UserError(f"{path}: unknown mesh format '{path.suffix}'; use .ply, .obj, .stl or .glb")
    return kind


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Write a mesh in the format of the file's ending, whole or not at all.

    Raises:
        UserError: an unknown ending, or the file cannot be written.
    """
    kind = mesh_format(path)
    try:
        write_whole(path, encode_mesh(mesh, kind))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): choose another place"
        ) from None
