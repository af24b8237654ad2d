"""Isosurfaces by marching cubes (Lorensen & Cline 1987; Lewiner et al. 2003, as in scikit-image)."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float
from skimage.measure import marching_cubes

from bn_field_plugin.geometry.grid import Box


def isosurface(values: Float[np.ndarray, "x y z"], box: Box, level: float) -> trimesh.Trimesh:
    """The closed surface around the region whose values lie above a level.

    Args:
        values: values at a regular grid that spans the box (`grid_values`).
        box: corners of the grid.
        level: value of the surface; strictly between the lowest and the highest value.

    Returns:
        Mesh in the box's coordinates, whose faces are counter-clockwise seen from outside. Where the region
        reaches a face of the box, the surface is closed less than one cell outside the box.
    """
    low, high = (corner.cpu().double().numpy() for corner in box)
    padded = np.pad(values, 1, constant_values=min(float(values.min()), level - 1))
    spacing = (high - low) / (np.array(values.shape) - 1)
    vertices, faces, _normals, _ = marching_cubes(padded, level=level, spacing=tuple(spacing))
    # Values fall towards the outside, so scikit-image orients the triangles inwards: turn them around.
    return trimesh.Trimesh(vertices + low - spacing, faces[:, ::-1], process=False)
