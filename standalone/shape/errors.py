"""How far a surface is from the true one, point by point, and as colours."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float

from standalone.shape.metrics import BOX_SIDE
from standalone.shape.solids import raycasting_scene

WORST = 0.01
"""Distance, as a share of the box's side, from which on errors have the last colour."""

COLORMAP = "viridis"
"""Matplotlib's name of the scale of colours, from no error to `WORST`."""


def surface_error(mesh: trimesh.Trimesh, true: trimesh.Trimesh) -> Float[np.ndarray, " v"]:
    """Distance of each vertex to the true surface, as a share of the box's side."""
    distance = raycasting_scene(true).compute_distance(np.asarray(mesh.vertices, dtype=np.float32))
    return np.asarray(distance.numpy(), dtype=np.float64) / BOX_SIDE


def error_colors(error: Float[np.ndarray, " v"]) -> Float[np.ndarray, "v 3"]:
    """Colours in [0, 1] of errors from 0 to `WORST` and above."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[COLORMAP](np.clip(error / WORST, 0, 1)))[:, :3]
