"""Still pictures of meshes without a display: rays cast by Open3D, shaded by a head light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from standalone.shape.solids import raycasting_scene

CLAY = (0.80, 0.78, 0.74)
"""Colour of surfaces that have none of their own."""


@dataclass(frozen=True)
class Viewpoint:
    """A camera that looks at the origin of the box."""

    azimuth: float = 35.0
    """Angle around the vertical axis in degrees."""
    elevation: float = 25.0
    """Angle above the horizon in degrees."""
    up: int = 1
    """Axis that points up: 0, 1 or 2."""
    field_of_view: float = 30.0
    """Vertical field of view in degrees."""
    distance: float = 4.6
    """Distance from the origin, in half sides of the box."""


def shade(
    mesh: trimesh.Trimesh | None,
    view: Viewpoint,
    size: int = 400,
    colors: Float[np.ndarray, "v 3"] | None = None,
    supersampling: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Picture of a mesh on white.

    Args:
        mesh: surface in the box; None gives an empty picture.
        view: the camera.
        size: width and height in pixels.
        colors: colour of each vertex in [0, 1]; clay if not given.
        supersampling: rays in each direction of a pixel.
    """
    if mesh is None or len(mesh.faces) == 0:
        return np.full((size, size, 3), 255, dtype=np.uint8)
    side = size * supersampling
    origin, directions = _rays(view, side)
    rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=-1)
    hits = raycasting_scene(mesh).cast_rays(_tensor(rays))
    met = np.isfinite(hits["t_hit"].numpy())
    normals = hits["primitive_normals"].numpy()
    facing = np.abs(np.einsum("hwc,hwc->hw", normals, directions))
    light = 0.25 + 0.75 * facing[..., None]
    base = np.broadcast_to(np.array(CLAY), directions.shape)
    if colors is not None:
        base = _interpolate(mesh, colors, hits, met)
    picture = np.where(met[..., None], light * base, 1.0)
    picture = picture.reshape(size, supersampling, size, supersampling, 3).mean(axis=(1, 3))
    rounded: np.ndarray = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return rounded


def _rays(view: Viewpoint, side: int) -> tuple[np.ndarray, Float[np.ndarray, "h w 3"]]:
    """Origin and unit directions of a square picture's rays."""
    azimuth, elevation = np.deg2rad(view.azimuth), np.deg2rad(view.elevation)
    horizontal = [(view.up + 1) % 3, (view.up + 2) % 3]
    towards = np.zeros(3)
    towards[horizontal[0]] = np.cos(elevation) * np.sin(azimuth)
    towards[horizontal[1]] = np.cos(elevation) * np.cos(azimuth)
    towards[view.up] = np.sin(elevation)
    up = np.eye(3)[view.up]
    right = np.cross(up, towards)
    right /= np.linalg.norm(right)
    above = np.cross(towards, right)
    half = np.tan(np.deg2rad(view.field_of_view) / 2)
    steps = ((np.arange(side) + 0.5) / side * 2 - 1) * half
    directions = -towards + steps[None, :, None] * right - steps[:, None, None] * above
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return towards * view.distance, directions


def _interpolate(
    mesh: trimesh.Trimesh, colors: np.ndarray, hits: dict[str, Any], met: np.ndarray
) -> np.ndarray:
    """Colours at hits, linear inside each triangle."""
    faces = np.asarray(mesh.faces)[np.where(met, hits["primitive_ids"].numpy(), 0).astype(np.int64)]
    uv = hits["primitive_uvs"].numpy()
    weights = np.stack([1 - uv.sum(axis=-1), uv[..., 0], uv[..., 1]], axis=-1)
    return np.asarray(np.einsum("hwk,hwkc->hwc", weights, colors[faces]))


def _tensor(array: np.ndarray) -> object:
    import open3d as o3d

    return o3d.core.Tensor(np.ascontiguousarray(array, dtype=np.float32))
