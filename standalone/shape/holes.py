"""Closing of a mesh's holes by caps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from standalone.shape.formats.polygons import triangulate
from standalone.shape.topology import Faces, boundary_loops

LARGEST_EARS = 256
"""Most corners of a cap that is cut into ears; larger caps are fans around their middle."""


def fill_holes(
    vertices: Float[np.ndarray, "v 3"], faces: Faces
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"], int]:
    """Close a surface: a cap for each ring of open edges.

    It works for any triangles. Afterwards every edge is balanced, so the winding number is a whole number
    everywhere. A cap of many corners gets a new vertex in its middle.

    Returns:
        The vertices, all faces, and the number of caps.
    """
    loops = boundary_loops(faces)
    small = [loop for loop in loops if len(loop) <= LARGEST_EARS]
    large = [loop for loop in loops if len(loop) > LARGEST_EARS]
    counts = np.array([len(loop) for loop in small], dtype=np.int64)
    corners = np.array([vertex for loop in small for vertex in loop], dtype=np.int64)
    caps = [faces, triangulate(vertices, counts, corners)]
    middles = [vertices]
    for index, loop in enumerate(large):
        ring = np.array(loop)
        middle = np.full(len(ring), len(vertices) + index)
        caps.append(np.stack([ring, np.roll(ring, -1), middle], axis=-1))
        middles.append(vertices[ring].mean(axis=0, keepdims=True))
    return np.concatenate(middles), np.concatenate(caps), len(loops)
