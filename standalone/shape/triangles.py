"""Areas, normals and volumes of triangles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

LEAST = 1e-300
"""Length below which a vector counts as zero, so that triangles without area divide by no zero."""


def area_vectors(triangles: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, "t 3"]:
    """Normals whose lengths are the areas of the triangles; they point to where corners run anticlockwise."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return np.asarray(np.cross(b - a, c - a) / 2)


def areas_of(triangles: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, " t"]:
    """Areas of triangles."""
    return np.asarray(np.linalg.norm(area_vectors(triangles), axis=1))


def normals_of(triangles: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, "t 3"]:
    """Normals of length 1; zero for triangles without area."""
    vectors = area_vectors(triangles)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), LEAST))


def volumes_of(triangles: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, " t"]:
    """Signed volumes between the origin and triangles, positive where a triangle faces away from it."""
    return np.asarray(np.einsum("ti,ti->t", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])) / 6)
