"""STL, binary and ASCII.

Our own reader: of binary files with more bytes than their faces take, or whose writer never came back to fill
in their number, trimesh finds none; it tells both flavours apart by the first word, which does not.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from jaxtyping import Float

from standalone.shape.formats.content import MeshContent

_HEAD = 84
"""Bytes before the faces of a binary file: a text, and their number."""
_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def read_stl(data: bytes) -> MeshContent:
    """Read the faces of all solids; their corners are not joined.

    Raises:
        ValueError: no STL file, or one that ends early.
    """
    corners = _ascii(data) if _is_ascii(data) else _binary(data)
    return MeshContent(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))


def _is_ascii(data: bytes) -> bool:
    """Whether a file is text; the texts of binary ones may begin with the same word."""
    if len(data) >= _HEAD and len(data) == _HEAD + _FACE.itemsize * _count(data):
        return False
    if b"\0" in data[:2048]:  # as in the number of faces, unless they are more than 16 million
        return False
    beginning = data[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return beginning.startswith(b"solid") and (b"facet" in beginning or b"endsolid" in beginning)


def _ascii(data: bytes) -> Float[np.ndarray, "f 3 3"]:
    corners = _VERTEX.findall(data)
    faces = len(re.findall(rb"\bendfacet\b", data, re.IGNORECASE))
    if len(corners) != 3 * faces:
        raise ValueError(f"it has {faces} whole faces and {len(corners)} corners")
    if not re.search(rb"\bendsolid\b", data[-256:], re.IGNORECASE):
        raise ValueError("it ends early: there is no endsolid")
    try:
        return np.array(corners, dtype=np.float64).reshape(-1, 3, 3)
    except ValueError as error:
        raise ValueError("a coordinate is no number") from error


def _binary(data: bytes) -> Float[np.ndarray, "f 3 3"]:
    if len(data) < _HEAD:
        raise ValueError("it ends early")
    room, count = (len(data) - _HEAD) // _FACE.itemsize, _count(data)
    if count > room:
        raise ValueError("it ends early")
    # Writers that do not know the number beforehand leave it 0.
    table = np.frombuffer(data, _FACE, count or room, _HEAD)
    return np.asarray(table["corners"], dtype=np.float64)


def _count(data: bytes) -> int:
    (count,) = struct.unpack_from("<I", data, _HEAD - 4)
    return int(count)
