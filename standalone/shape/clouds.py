"""Surfaces of point clouds with normals."""

from __future__ import annotations

import numpy as np

from bn_field_plugin.errors import UserError
from standalone.shape.formats.content import MeshContent
from standalone.shape.frames import Frame

POISSON_DEPTH = 8
"""Octree depth of the Poisson reconstruction."""

FEWEST_POINTS = 4
"""Least number of points in a cloud, since fewer enclose nothing."""

FEWEST_NORMALS = 0.5
"""Share of the points that must have a normal."""


def surface_of_cloud(cloud: MeshContent, name: str) -> tuple[MeshContent, list[str]]:
    """Poisson surface (Kazhdan & Hoppe 2013) of a point cloud with normals, in its own units.

    Args:
        cloud: points, and normals of any length; points whose normal is zero or not finite are left out.
        name: name of the cloud in messages.

    Returns:
        The surface, and lines on the points that were left out.

    Raises:
        UserError: there are too few normals, points that are not finite, or no surface is found.
    """
    import open3d as o3d
    import torch

    points, normals = cloud.vertices, cloud.normals
    if normals is None:
        raise UserError(
            f"{name} is a point cloud without normals: inside and outside need them; estimate and orient "
            "normals first, or give a mesh"
        )
    if not np.isfinite(points).all():
        raise UserError(f"{name} has points that are not finite: mend the file")
    if not np.ptp(points, axis=0).max() > 0:
        raise UserError(f"{name} has all its points at one place: give a solid shape")
    length = np.linalg.norm(normals, axis=1)
    good = np.isfinite(length) & (length > 0)
    bad, notes = int(np.count_nonzero(~good)), []
    if good.mean() < FEWEST_NORMALS:
        raise UserError(
            f"{name} is a cloud in which {bad:,} of {len(points):,} normals are zero or not finite: inside "
            "and outside need them; estimate and orient normals first, or give a mesh"
        )
    if bad:
        notes.append(f"{name}: {bad:,} points whose normals are zero or not finite are left out")
    points, normals = points[good], normals[good] / length[good, None]
    if len(points) < FEWEST_POINTS:
        raise UserError(f"{name} is a point cloud of {len(points)} points: give at least {FEWEST_POINTS}")
    frame = Frame.around(points)
    given = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(frame.to_box(points)))
    given.normals = o3d.utility.Vector3dVector(normals)
    try:
        with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
            # Its threads wait by spinning, so there must be no more of them than cores.
            mesh, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
                given, depth=POISSON_DEPTH, n_threads=torch.get_num_threads()
            )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{name} is a point cloud without a surface ({reason}): give more points") from None
    faces = np.asarray(mesh.triangles)
    if len(faces) == 0:
        raise UserError(f"{name} is a point cloud without a surface: give more points, or a mesh")
    return MeshContent(frame.from_box(np.asarray(mesh.vertices)), faces), notes
