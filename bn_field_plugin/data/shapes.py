"""Closed shapes of the rendered scenes: all points at one distance from a simple core.

A sphere is a point with a radius, a torus a circle with a radius, a rounded box a box with a radius, a
rounded cylinder a cylinder with a radius. So one formula, `p - nearest(p)`, gives the outward normal of every
shape, exact on rounded edges too, and the triangle mesh needs positions only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from typing_extensions import override

QUARTER = np.pi / 2


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh. The corners of a face run counter-clockwise, seen from outside.

    Attributes:
        vertices: positions.
        faces: three vertex indices per triangle.
    """

    vertices: Float[ndarray, "v 3"]
    faces: Int[ndarray, "f 3"]


class Shape(ABC):
    """A closed surface in coordinates of its own: the points at distance `rounding` from a core."""

    rounding: float

    @abstractmethod
    def nearest_in_core(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        """The core's nearest point to each point."""

    @abstractmethod
    def mesh(self) -> Mesh:
        """A watertight mesh whose vertices lie on the surface."""

    def normal(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        """Outward unit normals at points on or near the surface."""
        offset = points - self.nearest_in_core(points)
        length = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        normals: ndarray = offset / np.maximum(length, 1e-12)[:, None]
        return normals


@dataclass(frozen=True)
class RoundedBox(Shape):
    """A box with half extents `half` (edges included), its edges rounded with radius `rounding`."""

    half: tuple[float, float, float]
    rounding: float
    spacing: float = 0.03
    """Edge length of the mesh on flat faces: lighting is interpolated between vertices."""

    @override
    def nearest_in_core(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        core = np.asarray(self.half, points.dtype) - points.dtype.type(self.rounding)
        return np.clip(points, -core, core)

    @override
    def mesh(self) -> Mesh:
        outer = np.asarray(self.half)
        ticks = [_rounded_ticks(half, self.rounding, self.spacing) for half in self.half]
        corners, quads = [], []
        start = 0
        for axis in range(3):
            first, second = (axis + 1) % 3, (axis + 2) % 3
            i, j = np.meshgrid(np.arange(len(ticks[first])), np.arange(len(ticks[second])), indexing="ij")
            for side in (0, len(ticks[axis]) - 1):
                index = np.zeros((*i.shape, 3), dtype=np.int64)
                index[..., axis], index[..., first], index[..., second] = side, i, j
                corners.append(index.reshape(-1, 3))
                quads.append(start + _grid_faces(*i.shape, flip=side == 0))
                start += i.size
        # Neighbouring sides share their border points: join them, so that the mesh is closed.
        index, joined = np.unique(np.concatenate(corners), axis=0, return_inverse=True)
        cube = np.stack([ticks[axis][index[:, axis]] for axis in range(3)], axis=1)
        core = np.clip(cube, -(outer - self.rounding), outer - self.rounding)
        direction = cube - core
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return Mesh(core + self.rounding * direction, joined.reshape(-1)[np.concatenate(quads)])


@dataclass(frozen=True)
class RoundedCylinder(Shape):
    """An upright cylinder (axis z) whose rims are rounded with radius `rounding`.

    Where half its height and its radius equal `rounding`, it is a sphere.
    """

    radius: float
    half_height: float
    rounding: float
    spacing: float = 0.03
    sides: int = 96
    """Least number of vertices of the mesh around the axis."""

    @classmethod
    def sphere(cls, radius: float, spacing: float = 0.03, sides: int = 96) -> RoundedCylinder:
        """A sphere."""
        return cls(radius, radius, radius, spacing, sides)

    @override
    def nearest_in_core(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        distance = np.hypot(points[:, 0], points[:, 1])
        shrink = np.minimum(1, (self.radius - self.rounding) / np.maximum(distance, 1e-12))
        height = self.half_height - self.rounding
        clipped = np.clip(points[:, 2], -height, height)
        nearest: ndarray = np.stack([points[:, 0] * shrink, points[:, 1] * shrink, clipped], axis=1)
        return nearest.astype(points.dtype)

    @override
    def mesh(self) -> Mesh:
        inner, height = self.radius - self.rounding, self.half_height - self.rounding
        steps = max(
            3,
            int(np.ceil(QUARTER * self.rounding / self.spacing)),
            self.sides // 3 if inner == height == 0 else 0,
        )
        arc = np.linspace(0, QUARTER, steps + 1)
        # The profile from the bottom's centre to the top's centre, without the two centres.
        disc = np.linspace(0, inner, 1 + int(np.ceil(inner / self.spacing)))[1:-1]
        wall = np.linspace(-height, height, 1 + int(np.ceil(2 * height / self.spacing)))[1:-1]
        rim_r, rim_z = inner + self.rounding * np.sin(arc), height + self.rounding * np.cos(arc)
        radii = [disc, rim_r, np.full_like(wall, self.radius), rim_r[::-1], disc[::-1]]
        heights = [
            np.full_like(disc, -self.half_height),
            -rim_z,
            wall,
            rim_z[::-1],
            np.full_like(disc, self.half_height),
        ]
        profile = np.stack([np.concatenate(radii), np.concatenate(heights)], axis=1)
        keep = np.concatenate([[True], np.linalg.norm(np.diff(profile, axis=0), axis=1) > 1e-9]) & (
            profile[:, 0] > 1e-9
        )
        return _lathe(
            profile[keep],
            self.half_height,
            max(self.sides, int(np.ceil(2 * np.pi * self.radius / self.spacing))),
        )


@dataclass(frozen=True)
class Torus(Shape):
    """A torus around the z axis; `rounding` is the radius of its tube."""

    ring: float
    rounding: float

    @override
    def nearest_in_core(self, points: Float[ndarray, "n 3"]) -> Float[ndarray, "n 3"]:
        distance = np.maximum(np.hypot(points[:, 0], points[:, 1]), 1e-12)
        scale = (self.ring / distance).astype(points.dtype)
        return np.stack([points[:, 0] * scale, points[:, 1] * scale, np.zeros_like(scale)], axis=1)

    @override
    def mesh(self) -> Mesh:
        around, tube = 128, 48
        u = np.arange(around)[:, None] * (2 * np.pi / around)
        v = np.arange(tube)[None, :] * (2 * np.pi / tube)
        radius = self.ring + self.rounding * np.cos(v)
        z = np.broadcast_to(self.rounding * np.sin(v), (around, tube))
        vertices = np.stack([radius * np.cos(u), radius * np.sin(u), z], axis=-1).reshape(-1, 3)
        return Mesh(vertices, _grid_faces(around, tube, wrap=(True, True)))


def _rounded_ticks(half: float, rounding: float, spacing: float) -> Float[ndarray, " n"]:
    """Positions along one side of a box, denser on the two rounded borders."""
    border = rounding * np.tan(np.linspace(0, QUARTER / 2, 4))[1:]
    flat = half - rounding
    inside = np.linspace(-flat, flat, 1 + max(1, int(np.ceil(2 * flat / spacing))))
    return np.concatenate([-flat - border[::-1], inside, flat + border])


def _grid_faces(
    rows: int, columns: int, *, wrap: tuple[bool, bool] = (False, False), flip: bool = False
) -> Int[ndarray, "f 3"]:
    """Two triangles for each cell of a grid of vertices; `wrap` closes the grid along an axis."""
    i, j = np.meshgrid(np.arange(rows - (not wrap[0])), np.arange(columns - (not wrap[1])), indexing="ij")
    a = i * columns + j
    b = (i + 1) % rows * columns + j
    c = (i + 1) % rows * columns + (j + 1) % columns
    d = i * columns + (j + 1) % columns
    faces: ndarray = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    return faces[:, ::-1] if flip else faces


def _lathe(profile: Float[ndarray, "p 2"], half_height: float, around: int) -> Mesh:
    """Turn a profile of (radius, height) around z and close it with its two poles at -+half_height."""
    angle = np.arange(around) * (2 * np.pi / around)
    radius, height = profile[:, :1], profile[:, 1:]
    rings = np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(height, (len(profile), around))], -1
    )
    bottom, top = len(profile) * around, len(profile) * around + 1
    here, after = np.arange(around), (np.arange(around) + 1) % around
    last = (len(profile) - 1) * around
    faces = [
        _grid_faces(len(profile), around, wrap=(False, True), flip=True),
        np.stack([np.full(around, bottom), after, here], -1),
        np.stack([np.full(around, top), last + here, last + after], -1),
    ]
    poles = np.array([[0, 0, -half_height], [0, 0, half_height]])
    return Mesh(np.concatenate([rings.reshape(-1, 3), poles]), np.concatenate(faces))
