"""Choice of the test for the inside of a mesh: rays if they are right, else the winding number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import trimesh
from jaxtyping import Float

from bn_field_plugin.errors import UserError
from standalone.shape.meshes import PreparedMesh
from standalone.shape.metrics import BOX_SIDE, SIGMA
from standalone.shape.solids import MeshSolid, Solid
from standalone.shape.winding import WindingTree
from standalone.shape.winding_solid import WindingSolid

DISAGREEMENT = 2e-3
"""Largest share of points on which ray parity and winding number may differ, because they are very near the
surface."""

PROBES = 2**14
"""Number of points at which a mesh is examined before a fit: half near the surface, half all over the box."""

DOUBTFUL = (0.25, 0.75)
"""Lowest and highest winding number between which it is doubtful whether a point is inside."""


class MeshInside(NamedTuple):
    """A mesh as a solid."""

    solid: Solid
    """The solid in the box."""
    notes: tuple[str, ...]
    """Lines on how the inside was found, if that is not obvious."""


def solid_of_mesh(prepared: PreparedMesh, in_box: trimesh.Trimesh, name: str) -> MeshInside:
    """The solid that a mesh bounds.

    Args:
        prepared: the mesh.
        in_box: the same mesh in the coordinates of the box.
        name: name of the mesh in messages.

    Raises:
        UserError: the mesh is open and encloses nothing.
    """
    tree = WindingTree(np.asarray(in_box.triangles))
    points = probes(in_box)
    winding = tree(points)
    extremes = float(winding.min()), float(winding.max())
    if prepared.closed:
        return _closed(in_box, name, tree, points, winding, extremes)
    if extremes[1] < DOUBTFUL[1]:
        raise UserError(
            f"{name} encloses nothing: its faces go around no point by more than "
            f"{max(0.0, extremes[1]):.0%}; give a solid shape"
        )
    doubtful = float(np.mean((winding > DOUBTFUL[0]) & (winding < DOUBTFUL[1])))
    forks = f", {prepared.forks:,} of them with three faces or more" if prepared.forks else ""
    note = (
        f"{name} is open ({prepared.open_edges:,} edges{forks}): inside is where its faces go around by more "
        f"than half (generalised winding number); {100 * doubtful:.2g}% of the sampled points are doubtful "
        f"(between {DOUBTFUL[0]} and {DOUBTFUL[1]})"
    )
    return MeshInside(WindingSolid(in_box, tree, False, extremes), (note,))


def _closed(
    in_box: trimesh.Trimesh,
    name: str,
    tree: WindingTree,
    points: Float[np.ndarray, "n 3"],
    winding: Float[np.ndarray, " n"],
    extremes: tuple[float, float],
) -> MeshInside:
    """The solid of a closed mesh: by rays, unless parts overlap or touch so that rays are wrong."""
    whole = np.rint(winding)
    several, backward = float(np.mean(whole > 1)), float(np.mean(whole < 0))
    if several == 0 and backward == 0:
        solid = MeshSolid(in_box)
        if np.mean((whole > 0) != solid.tested(points)) <= DISAGREEMENT:
            return MeshInside(solid, ())
        return MeshInside(WindingSolid(in_box, tree, True, extremes), ())
    notes = []
    if several:
        notes.append(
            f"{name} has parts that overlap or cuts itself ({100 * several:.2g}% of the sampled points lie "
            "in it more than once): they are united (winding number above 0.5)"
        )
    if backward:
        notes.append(f"{name} is inside out in places ({100 * backward:.2g}% of the sampled points): outside")
    return MeshInside(WindingSolid(in_box, tree, True, extremes), tuple(notes))


def probes(mesh: trimesh.Trimesh, count: int = PROBES) -> Float[np.ndarray, "n 3"]:
    """Points as a fit draws them: half near the surface, half all over the box."""
    generator = np.random.default_rng(0)
    near, _ = trimesh.sample.sample_surface(mesh, count // 2, seed=0)
    near = np.asarray(near) + generator.normal(0, SIGMA * BOX_SIDE, (count // 2, 3))
    return np.concatenate([near, generator.uniform(-1, 1, (count - len(near), 3))])
