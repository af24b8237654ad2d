"""Turning of parts of a mesh that are inside out, so that outer surfaces have their faces outwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from standalone.shape.topology import Faces, closed_patches
from standalone.shape.triangles import areas_of, normals_of, volumes_of
from standalone.shape.winding import WindingTree

LARGEST_OPEN_PARTS = 64
"""Most open parts that are examined, from the largest on."""

CLEAR = 0.75
"""Winding number from which on a part surrounds a point without doubt."""

STEP = 1e-4
"""Distance from a surface, as a share of the longest side, at which the winding number beside it is taken."""


class Outward(NamedTuple):
    """Result of `outward`."""

    faces: Faces
    """The faces, turned where needed."""
    all_turned: bool
    """Whether the mesh as a whole was inside out."""
    parts: int
    """Number of parts that were turned one by one."""
    of_parts: int
    """Number of all parts."""


def outward(vertices: Float[np.ndarray, "v 3"], faces: Faces, patch: Int[np.ndarray, " f"]) -> Outward:
    """Turn a mesh that is inside out, and then each part that is; cavities within other parts are not turned.

    Args:
        vertices: coordinates whose longest side is about 1.
        faces: turned alike within each patch.
        patch: the patch of each face.
    """
    count = int(patch.max(initial=-1)) + 1
    closed = closed_patches(faces, patch)
    all_turned = _goes_backward(vertices[faces], bool(closed.all()))
    if all_turned:
        faces = faces[:, ::-1]
    triangles = vertices[faces]
    volumes = np.bincount(patch, volumes_of(triangles), minlength=count)
    suspects = closed & (volumes < 0)
    areas = np.bincount(patch, areas_of(triangles), minlength=count)
    if count > 1:
        open_parts = np.flatnonzero(~closed)
        for one in open_parts[np.argsort(-areas[open_parts])][:LARGEST_OPEN_PARTS]:
            suspects[one] = _goes_backward(triangles[patch == one], False)
    if suspects.any():
        suspects &= ~_cavities(triangles, patch, suspects)
    turn = suspects[patch]
    return Outward(np.where(turn[:, None], faces[:, ::-1], faces), all_turned, int(suspects.sum()), count)


def _goes_backward(triangles: Float[np.ndarray, "t 3 3"], closed: bool, count: int = 2048) -> bool:
    """Tell whether triangles enclose more space with inward faces than with outward ones."""
    if closed:
        return bool(volumes_of(triangles).sum() < 0)
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    points = low + (high - low) * np.random.default_rng(0).random((count, 3))
    winding = WindingTree(triangles)(points)
    return bool(np.count_nonzero(winding < -CLEAR) > np.count_nonzero(winding > CLEAR))


def _cavities(
    triangles: Float[np.ndarray, "t 3 3"],
    patch: Int[np.ndarray, " t"],
    suspects: Bool[np.ndarray, " p"],
    per_part: int = 32,
) -> Bool[np.ndarray, " p"]:
    """Tell which of the parts with inward faces lie within other parts, and so are cavities."""
    generator = np.random.default_rng(0)
    chosen = np.flatnonzero(suspects[patch])
    # Some faces of each part are examined: the first ones of a random order.
    chosen = generator.permutation(chosen)
    chosen = chosen[np.argsort(patch[chosen], kind="stable")]
    starts = np.searchsorted(patch[chosen], patch[chosen])
    chosen = chosen[np.arange(len(chosen)) - starts < per_part]
    some = triangles[chosen]
    # Just outside of the part itself, the winding number is that of all other parts.
    around = WindingTree(triangles)(some.mean(axis=1) - STEP * normals_of(some))
    within = np.bincount(patch[chosen], around > 0.5, len(suspects))
    return np.asarray(within * 2 > np.bincount(patch[chosen], minlength=len(suspects)))
