"""The content of a mesh file, as its reader gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class MeshContent:
    """Corners and triangles, as the file has them: nothing is welded or left out."""

    vertices: Float[np.ndarray, "v 3"]
    """64-bit coordinates."""
    faces: Int[np.ndarray, "f 3"]
    """Indices of the corners of each triangle; empty for a point cloud."""
    normals: Float[np.ndarray, "v 3"] | None = None
    """Normals of the vertices, where the reader gives them: point clouds need them."""


def check_corners(faces: Int[np.ndarray, "f 3"], vertices: int) -> None:
    """Refuse faces with corners that the file does not have.

    Raises:
        ValueError: an index below 0, or not below the number of vertices.
    """
    if len(faces) and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"a face has a corner that is not among its {vertices} vertices")


def text_of(data: bytes) -> str:
    """The text of a file, with or without a byte order mark; letters that cannot be decoded are replaced."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16, which PowerShell writes
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")
