"""Wavefront OBJ.

This reader is our own, because Open3D reads coordinates as 32-bit numbers and drops faces with more than
three corners, and trimesh cuts concave polygons into fans, which partly lie outside the polygon.
"""

from __future__ import annotations

import numpy as np

from standalone.shape.formats.content import MeshContent, text_of
from standalone.shape.formats.polygons import triangulate


def read_obj(data: bytes) -> MeshContent:
    """Read vertices and faces of all objects and groups; all else is skipped.

    Faces may have any number of corners, in any of the forms `v`, `v/vt`, `v//vn`, `v/vt/vn`, counted from
    the first vertex (1) or back from the latest (-1); lines may go on after a backslash.

    Raises:
        ValueError: a line that cannot be read, or a face with a corner that is not there.
    """
    text = text_of(data).replace("\\\r\n", " ").replace("\\\n", " ")
    coordinates: list[list[str]] = []
    counts: list[int] = []
    corners: list[int] = []
    bases: list[int] = []
    for line in text.splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            if len(parts) < 4:
                raise ValueError(f"a vertex has {len(parts) - 1} coordinates: '{line.strip()[:40]}'")
            coordinates.append(parts[1:4])
        elif parts[0] == "f":
            if "#" in line:
                parts = line.partition("#")[0].split()
            corners += [int(corner.partition("/")[0]) for corner in parts[1:]]
            counts.append(len(parts) - 1)
            bases.append(len(coordinates))
    vertices = np.array(coordinates, dtype=np.float64).reshape(-1, 3)
    index, count = np.array(corners, dtype=np.int64), np.array(counts, dtype=np.int64)
    back = np.repeat(np.array(bases, dtype=np.int64), count)
    if (index == 0).any():
        raise ValueError("a face has a corner 0: they are counted from 1")
    index = np.where(index < 0, back + index, index - 1)
    return MeshContent(vertices, triangulate(vertices, count, index))
