"""Pictures of meshes: which surface a ray meets, and its colour."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from standalone.shape.shading import Viewpoint, shade


def test_a_ball_is_a_disc_of_its_size() -> None:
    view = Viewpoint(azimuth=20, elevation=10)
    picture = shade(trimesh.creation.icosphere(subdivisions=4, radius=0.8), view, size=200)
    covered = (picture < 250).all(axis=-1)
    half = np.tan(np.arcsin(0.8 / view.distance)) / np.tan(np.deg2rad(view.field_of_view / 2))
    assert covered.mean() == pytest.approx(np.pi * half**2 / 4, rel=0.02)
    assert picture[100, 100].min() > picture[100, 100 - int(95 * half)].min()


@pytest.mark.parametrize("up", [0, 1, 2])
def test_up_is_up(up: int) -> None:
    post = trimesh.creation.icosphere(radius=0.2)
    post.vertices[:, up] += 0.6
    rows, _ = np.nonzero((shade(post, Viewpoint(up=up), size=100) < 250).all(axis=-1))
    assert rows.mean() < 40


def test_colours_are_those_of_the_vertices() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.9)
    colors = np.where(mesh.vertices[:, [1]] > 0, [[1.0, 0, 0]], [[0, 0, 1.0]])
    picture = shade(mesh, Viewpoint(elevation=0), size=100, colors=colors)
    top, bottom = picture[35, 50], picture[65, 50]
    assert top[0] > 150
    assert top[2] < 5
    assert bottom[2] > 150
    assert bottom[0] < 5


def test_no_surface_is_an_empty_picture() -> None:
    assert (shade(None, Viewpoint(), size=20) == 255).all()
