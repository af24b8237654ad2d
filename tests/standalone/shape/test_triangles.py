"""Areas, normals and volumes of triangles are those of trimesh."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from standalone.shape.triangles import area_vectors, areas_of, normals_of, volumes_of


def test_they_are_those_of_trimesh() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=0.7)
    mesh.vertices *= (1.0, 2.0, 0.5)
    triangles = np.asarray(mesh.triangles)
    np.testing.assert_allclose(areas_of(triangles), mesh.area_faces)
    np.testing.assert_allclose(normals_of(triangles), mesh.face_normals, atol=1e-12)
    np.testing.assert_allclose(
        area_vectors(triangles), mesh.face_normals * mesh.area_faces[:, None], atol=1e-12
    )
    assert volumes_of(triangles).sum() == pytest.approx(mesh.volume)
    assert volumes_of(triangles[:, ::-1]).sum() == pytest.approx(-mesh.volume)


def test_triangles_without_area_have_no_normal() -> None:
    triangles = np.zeros((1, 3, 3))
    triangles[0, 1:] = 1.0
    assert areas_of(triangles) == 0
    np.testing.assert_array_equal(normals_of(triangles), np.zeros((1, 3)))
