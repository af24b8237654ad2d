"""Conversion between a shape's own coordinates and the box of the networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float


@dataclass(frozen=True)
class Frame:
    """The similarity that takes a shape's own coordinates into the box [-1, 1]^3 of the networks."""

    center: tuple[float, float, float]
    """The point that becomes the origin, in the shape's units."""
    scale: float
    """Length that becomes 1, in the shape's units."""

    @classmethod
    def around(cls, points: Float[np.ndarray, "n 3"], filled: float = 0.9) -> Frame:
        """The frame that centres the points' bounding box and lets its longest side fill a share of the box.

        Args:
            points: at least two different points.
            filled: share of the box's side, in (0, 1].
        """
        low, high = points.min(axis=0), points.max(axis=0)
        middle = low + (high - low) / 2
        return cls(
            (float(middle[0]), float(middle[1]), float(middle[2])), float((high - low).max()) / 2 / filled
        )

    def to_box(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Convert points from the shape's coordinates to the box."""
        moved: np.ndarray = (points - np.array(self.center)) / self.scale
        return moved

    def from_box(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Convert points from the box to the shape's coordinates."""
        moved: np.ndarray = points * self.scale + np.array(self.center)
        return moved

    def mesh_to_box(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """Convert a mesh from the shape's coordinates to the box."""
        return trimesh.Trimesh(self.to_box(mesh.vertices), mesh.faces, process=False)

    def is_near(self, other: Frame) -> bool:
        """Tell whether two frames are the same but for rounding of 32-bit coordinates."""
        return abs(self.scale - other.scale) <= 1e-5 * self.scale and bool(
            np.allclose(self.center, other.center, rtol=1e-6, atol=1e-5 * self.scale)
        )

    def mesh_from_box(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """Convert a mesh from the box to the shape's coordinates."""
        return trimesh.Trimesh(self.from_box(mesh.vertices), mesh.faces, process=False)
