"""Surfaces of rendered scenes as functions: oracles that share no code with the ray caster."""

from collections.abc import Sequence

import numpy as np

from bn_field_plugin.data.rendering import SceneObject
from bn_field_plugin.data.shapes import Shape


def distance_of(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Distance to a shape's surface: exact outside; negative inside, where its size may be too small."""
    return np.linalg.norm(points - shape.nearest_in_core(points), axis=1) - shape.rounding


def signed_distance(objects: Sequence[SceneObject], points: np.ndarray) -> np.ndarray:
    """Distance of world points to the surface of a scene, negative inside an object."""
    return np.min([distance_of(item.shape, item.to_local(points)) for item in objects], axis=0)


def vertices_of(objects: Sequence[SceneObject]) -> np.ndarray:
    """All vertices of a scene's meshes, in the world's coordinates."""
    return np.concatenate([item.mesh().vertices for item in objects])
