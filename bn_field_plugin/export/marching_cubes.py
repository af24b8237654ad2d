"""The surface of a density field by marching cubes (Lorensen & Cline 1987)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from nerfstudio.models.base_model import Model
from nerfstudio.utils.rich_utils import get_progress
from skimage.measure import marching_cubes
from torch import Tensor

from bn_field_plugin.nn import UserError, frozen_statistics

POINTS_PER_CALL = 2**18
"""Points that go through the field at a time."""

Box = tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]
"""Lowest and highest corner."""


def density_field(model: Model) -> Field:
    """The field of a model that renders its density.

    Raises:
        UserError: the model has no density, as with splats or signed distances.
    """
    for name in ("field_fine", "field"):
        found = getattr(model, name, None)
        if isinstance(found, Field) and not hasattr(found, "forward_geonetwork"):
            return found
    raise UserError(
        f"{type(model).__name__} has no density field: marching cubes here needs a NeRF-like method"
    )


@torch.no_grad()
def density_grid(
    density: Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n 1"]],
    box: Box,
    resolution: int,
    device: torch.device | str = "cpu",
) -> Float[np.ndarray, "x y z"]:
    """Density at the points of a regular grid that spans a box, slab by slab.

    Args:
        density: density of points, in 1 / unit of length.
        box: corners; the grid's outermost points lie on its faces.
        resolution: points along the longest side; the others have cubic cells too.
        device: where points are evaluated.

    Returns:
        fp32 densities on the host: 4 bytes a point, and slabs of `POINTS_PER_CALL` on the device.
    """
    low, high = (corner.double() for corner in box)
    cell = float((high - low).max()) / (resolution - 1)
    sizes = [max(2, round(float(side) / cell) + 1) for side in high - low]
    axes = [
        torch.linspace(float(a), float(b), n, device=device) for a, b, n in zip(low, high, sizes, strict=True)
    ]
    plane = torch.stack(torch.meshgrid(axes[1], axes[2], indexing="ij"), dim=-1).reshape(-1, 2)
    out = np.empty(sizes, dtype=np.float32)
    with get_progress("Density") as progress:
        for index in progress.track(range(sizes[0]), description=""):
            points = torch.cat([axes[0][index].expand(len(plane), 1), plane], dim=-1)
            values = torch.cat([density(part) for part in points.split(POINTS_PER_CALL)])
            out[index] = values.reshape(sizes[1], sizes[2]).float().cpu().numpy()
    return out


def density_mesh(
    field: Field, box: Box, resolution: int, threshold: float, device: torch.device | str = "cpu"
) -> trimesh.Trimesh:
    """Isosurface of a field's density, with the colours seen along the surface's normals.

    Args:
        field: radiance field.
        box: corners of the part of space to search.
        resolution: points along the longest side, at least 2.
        threshold: density of the surface, in 1 / unit of length.
        device: where the field is.

    Raises:
        UserError: no density reaches the threshold, or all of it lies above.
    """
    with frozen_statistics(field):
        grid = density_grid(field.density_fn, box, resolution, device)
    grid = np.nan_to_num(grid, nan=0.0, posinf=float(np.finfo(np.float32).max))
    lowest, highest = float(grid.min()), float(grid.max())
    if not lowest < threshold < highest:
        raise UserError(
            f"--threshold is {threshold:g}, but densities in the box go from {lowest:.3g} to {highest:.3g}: "
            "choose one in between, or another --box-min / --box-max"
        )
    low, high = (corner.cpu().double().numpy() for corner in box)
    # An empty border closes the surface where it leaves the box.
    padded = np.pad(grid, 1, constant_values=min(0.0, threshold - 1))
    spacing = (high - low) / (np.array(grid.shape) - 1)
    vertices, faces, _normals, _ = marching_cubes(padded, level=threshold, spacing=tuple(spacing))
    vertices = vertices + low - spacing
    # Density falls outwards, so skimage's gradient normals point in: turn the triangles with them.
    mesh = trimesh.Trimesh(vertices, faces[:, ::-1], process=False)
    colors = _colors(field, mesh.vertices, mesh.vertex_normals, device)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors)
    return mesh


@torch.no_grad()
def _colors(
    field: Field, vertices: np.ndarray, normals: np.ndarray, device: torch.device | str
) -> Float[np.ndarray, "n 3"]:
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


def mesh_format(path: Path) -> str:
    """The format that a file's ending chooses.

    Raises:
        UserError: an unknown ending.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("ply", "obj", "stl", "glb"):
        raise UserError(f"{path}: unknown mesh format '{path.suffix}'; use .ply, .obj, .stl or .glb")
    return kind


def write_mesh(mesh: trimesh.Trimesh, path: Path) -> None:
    """Write a mesh in the format of the file's ending, whole or not at all.

    Raises:
        UserError: an unknown ending, or the file cannot be written.
    """
    kind = mesh_format(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data: Any = mesh.export(file_type=kind)
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):  # as where the folder is none
            partial.unlink()
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another --output-dir"
        ) from None
