"""Object File Format (OFF, and COFF, NOFF, STOFF with more numbers at each vertex).

This reader is our own, because Open3D reads coordinates as 32-bit numbers, and trimesh cuts concave polygons
into fans, which partly lie outside the polygon.
"""

from __future__ import annotations

import re

import numpy as np

from standalone.shape.formats.content import MeshContent, text_of
from standalone.shape.formats.polygons import triangulate

_HEADER = re.compile(r"^\s*(?:ST)?C?N?(4?n?)OFF(?=\s|\d)")
"""First word of a file. The counts may follow it without a blank, as in files of ModelNet."""


def read_off(data: bytes) -> MeshContent:
    """Read an ASCII OFF file, its counts on the first or second line.

    Raises:
        ValueError: a binary or higher-dimensional flavour, or a file that ends early.
    """
    if b"BINARY" in data[:64]:
        raise ValueError("it is a binary OFF file: save it as ASCII, or as PLY")
    text = re.sub(r"#[^\n\r]*", "", text_of(data))
    header = _HEADER.match(text)
    if header is None:
        raise ValueError("it does not begin with OFF")
    if header.group(1):
        raise ValueError("it has vertices in other than three dimensions")
    lines = [line.split() for line in text[header.end() :].splitlines() if line.strip()]
    if not lines or len(lines[0]) < 2:
        raise ValueError("it lacks the numbers of vertices and faces")
    vertex_count, face_count = (int(number) for number in lines[0][:2])
    rows = lines[1 : 1 + vertex_count]
    faces = lines[1 + vertex_count : 1 + vertex_count + face_count]
    if vertex_count < 0 or len(rows) < vertex_count or len(faces) < face_count:
        raise ValueError("it ends early")
    if any(len(row) < 3 for row in rows):
        raise ValueError("a vertex has fewer than three coordinates")
    vertices = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    counts = [int(face[0]) for face in faces]
    if any(count < 0 or len(face) < 1 + count for face, count in zip(faces, counts, strict=True)):
        raise ValueError("a face has fewer corners than it says")
    corners = [int(c) for face, count in zip(faces, counts, strict=True) for c in face[1 : 1 + count]]
    return MeshContent(
        vertices, triangulate(vertices, np.array(counts, dtype=np.int64), np.array(corners, dtype=np.int64))
    )
