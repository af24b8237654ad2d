"""How near a fitted occupancy is to a solid, as volumes and as surfaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int

from standalone.shape.solids import Solid

Inside = Callable[[Float[np.ndarray, "n 3"]], Bool[np.ndarray, " n"]]
"""Function that tells which points of the box [-1, 1]^3 are inside."""

SIGMA = 0.01
"""Standard deviation of near-surface points, as a share of the box's side (Tancik et al. 2020)."""

BOX_SIDE = 2.0
"""Side of the box."""

SURFACE_POINTS = 300_000
"""Number of points on each surface from which distances are measured."""

F_SCORE_DISTANCE = 0.01
"""Distance, as a share of the box's side, within which a point counts for the F-score."""


def iou(true: Bool[np.ndarray, " n"], found: Bool[np.ndarray, " n"]) -> float:
    """Intersection over union of two sets of points, in [0, 1]; 1 where both are empty."""
    union = int(np.count_nonzero(true | found))
    return int(np.count_nonzero(true & found)) / union if union else 1.0


def volume_metrics(
    solid: Solid, inside: Inside, points: int = 2**20, resolution: int = 128, seed: int = 1
) -> dict[str, float]:
    """Intersection over union by three ways to choose points.

    Args:
        solid: the true shape.
        inside: the fitted shape.
        points: number of points for `iou_uniform` and for `iou_near_surface`.
        resolution: points along the longest side of the grid for `iou_grid`.
        seed: seed of the points; it should differ from the fit's.

    Returns:
        `iou_uniform`: points uniform in the box; `iou_near_surface`: points of the surface moved by normal
        noise of `SIGMA` times the box's side; `iou_grid`: a grid that spans the shape's bounding box.
    """
    generator = np.random.default_rng(seed)
    near, _ = solid.surface_points(points, generator)
    clouds = {
        "iou_uniform": generator.uniform(-1, 1, (points, 3)),
        "iou_near_surface": near + generator.normal(0, SIGMA * BOX_SIDE, near.shape),
        "iou_grid": grid_over(solid.surface, resolution),
    }
    return {name: iou(solid.inside(cloud), inside(cloud)) for name, cloud in clouds.items()}


def grid_over(mesh: trimesh.Trimesh, resolution: int) -> Float[np.ndarray, "n 3"]:
    """Centres of the cubic cells of a grid that spans a mesh's bounding box."""
    low, high = mesh.bounds
    cell = (high - low).max() / resolution
    axes = [np.arange(a + cell / 2, b, cell) for a, b in zip(low, high, strict=True)]
    centers: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return centers


def surface_metrics(
    true: trimesh.Trimesh, found: trimesh.Trimesh | None, points: int = SURFACE_POINTS, seed: int = 2
) -> dict[str, float | None]:
    """Distances between two surfaces, from points drawn evenly by area.

    Args:
        true: the true surface, in the box.
        found: the fitted surface; None if there is none.
        points: number of points on each surface.
        seed: seed of the points.

    Returns:
        `chamfer_l1`: mean distance to the other surface's nearest point, averaged over both directions, as a
        share of the box's side; `normal_consistency`: mean absolute cosine of the normals there, in [0, 1];
        `f_score`: harmonic mean of the shares of points nearer than `F_SCORE_DISTANCE`, in [0, 1]. All are
        None without a surface.
    """
    if found is None or len(found.faces) == 0:
        return {"chamfer_l1": None, "normal_consistency": None, "f_score": None}
    a, a_normals = _points_and_normals(true, points, seed)
    b, b_normals = _points_and_normals(found, points, seed + 1)
    to_b, index_b = nearest(a, b)
    to_a, index_a = nearest(b, a)
    cosines = [
        np.abs(np.einsum("ij,ij->i", a_normals, b_normals[index_b])).mean(),
        np.abs(np.einsum("ij,ij->i", b_normals, a_normals[index_a])).mean(),
    ]
    recall, precision = (float(np.mean(d < F_SCORE_DISTANCE * BOX_SIDE)) for d in (to_b, to_a))
    both = recall + precision
    return {
        "chamfer_l1": float((to_b.mean() + to_a.mean()) / 2 / BOX_SIDE),
        "normal_consistency": float(np.mean(cosines)),
        "f_score": 2 * recall * precision / both if both else 0.0,
    }


def nearest(
    points: Float[np.ndarray, "n 3"], among: Float[np.ndarray, "m 3"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Distance of each point to the nearest of others, and the number of that one.

    By Open3D's tree, whose nodes know the extent of their points. SciPy's knows where they are split alone,
    and takes 25 times as long for points far from a flat surface, of which a poor fit has many.
    """
    import open3d as o3d

    tree = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor(np.ascontiguousarray(among)))
    tree.knn_index()
    index, squared = tree.knn_search(o3d.core.Tensor(np.ascontiguousarray(points)), 1)
    # Open3D's whole numbers are C's long long, which numpy tells apart from int64.
    return np.sqrt(squared.numpy()[:, 0]), index.numpy()[:, 0].astype(np.int64)


def _points_and_normals(mesh: trimesh.Trimesh, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points), np.asarray(mesh.face_normals[faces])
