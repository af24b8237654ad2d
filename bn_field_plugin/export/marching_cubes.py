"""The surface of a radiance field's density or of a signed distance, in the field's colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.fields.sdf_field import SDFField
from nerfstudio.models.base_model import Model

from bn_field_plugin.errors import UserError
from bn_field_plugin.geometry import Box, grid_values, isosurface
from bn_field_plugin.geometry.grid import POINTS_PER_CALL
from bn_field_plugin.nn import frozen_statistics

DEFAULT_THRESHOLD = 10.0
"""Density at which the surface lies, in 1 / unit of length, unless the user gives another."""


def density_field(model: Model) -> Field:
    """The field of a model that renders its density.

    Raises:
        UserError: the model has no density, as with splats or nerfstudio's signed distances.
    """
    for name in ("field_fine", "field"):
        found = getattr(model, name, None)
        if isinstance(found, Field) and type(found).get_density is not SDFField.get_density:
            return found
    raise UserError(
        f"{type(model).__name__} has no density field: marching cubes here needs a NeRF-like method"
    )


def density_mesh(
    field: Field,
    box: Box,
    resolution: int,
    threshold: float | None = None,
    device: torch.device | str = "cpu",
) -> trimesh.Trimesh:
    """Isosurface of a field's density, with the colours seen along the surface's normals.

    If the field has a `signed_distance`, its surface is where that is zero, unless a `threshold` is given.

    Args:
        field: radiance field.
        box: corners of the part of space to search.
        resolution: points along the longest side, at least 2.
        threshold: density at which the surface lies, in 1 / unit of length; None for `DEFAULT_THRESHOLD`, or
            for the signed distance where the field has one.
        device: device of the field.

    Raises:
        UserError: in the box, the densities are all below or all above the threshold, or the signed distances
            are all of one sign.
    """
    if threshold is None and hasattr(field, "signed_distance"):
        grid, threshold = _nearness(field, box, resolution, device), 0.0
    else:
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        grid = _densities(field, box, resolution, device, threshold)
    mesh = isosurface(grid, box, threshold)
    colors = _colors(field, mesh.vertices, mesh.vertex_normals, device)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors)
    return mesh


def to_world(
    points: Float[np.ndarray, "n 3"], transform: Float[np.ndarray, "3 4"], scale: float
) -> Float[np.ndarray, "n 3"]:
    """Points in the coordinates of the original capture, in fp64: coordinates of a survey have many digits.

    nerfstudio has a function like this for poses, which computes in fp32.

    Args:
        points: in the coordinates that nerfstudio trains in.
        transform: matrix from the capture's coordinates to those of training, before scaling.
        scale: factor of the training coordinates, applied after `transform`.
    """
    matrix = np.asarray(transform, dtype=np.float64)
    moved = np.asarray(points, dtype=np.float64) / scale - matrix[:, 3]
    return np.linalg.solve(matrix[:, :3], moved.T).T


def _densities(
    field: Field, box: Box, resolution: int, device: torch.device | str, threshold: float
) -> Float[np.ndarray, "x y z"]:
    """Densities on a grid; stops with a `UserError` unless they lie on both sides of the threshold."""
    with frozen_statistics(field):
        grid = grid_values(field.density_fn, box, resolution, device, "Density")
    grid = np.nan_to_num(grid, nan=0.0, posinf=float(np.finfo(np.float32).max))
    lowest, highest = float(grid.min()), float(grid.max())
    if not lowest < threshold < highest:
        raise UserError(
            f"--threshold is {threshold:g}, but densities in the box go from {lowest:.3g} to {highest:.3g}: "
            "choose one in between, or another --box-min / --box-max"
        )
    return grid


def _nearness(
    field: Any, box: Box, resolution: int, device: torch.device | str
) -> Float[np.ndarray, "x y z"]:
    """Minus the signed distances on a grid; stops with a `UserError` unless they have both signs."""
    with frozen_statistics(field):
        grid = -grid_values(field.signed_distance, box, resolution, device, "Distance")
    grid = np.nan_to_num(grid, nan=-1.0)
    if not float(grid.min()) < 0 < float(grid.max()):
        raise UserError(
            f"no surface in the box: signed distances go from {-float(grid.max()):.3g} to "
            f"{-float(grid.min()):.3g}; choose another --box-min / --box-max, or train longer"
        )
    return grid


@torch.no_grad()
def _colors(
    field: Field, vertices: np.ndarray, normals: np.ndarray, device: torch.device | str
) -> UInt8[np.ndarray, "n 3"]:
    """Colours (8 bit) of points, seen from outside along their normals."""
    parts = []
    with frozen_statistics(field):
        for start in range(0, len(vertices), POINTS_PER_CALL):
            points = torch.as_tensor(
                vertices[start : start + POINTS_PER_CALL], dtype=torch.float32, device=device
            )
            inward = -torch.as_tensor(
                np.array(normals[start : start + POINTS_PER_CALL]), dtype=torch.float32, device=device
            )
            zeros = torch.zeros_like(points[:, :1])
            samples = RaySamples(
                frustums=Frustums(points, inward, zeros, zeros, torch.ones_like(zeros)),
                camera_indices=torch.zeros_like(zeros, dtype=torch.long),
            )
            parts.append((field(samples)[FieldHeadNames.RGB].clamp(0, 1) * 255).round().byte().cpu().numpy())
    return np.concatenate(parts)
