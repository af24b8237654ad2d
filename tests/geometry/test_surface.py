"""Isosurfaces of functions whose surface is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bn_field_plugin.geometry import Box, grid_values, isosurface
from tests.geometry.boxes import BOXES, box

CENTER, RADIUS = torch.tensor([0.1, -0.2, 0.3]), 0.5


def nearness(points: Tensor) -> Tensor:
    """Falls outwards through 0 at the sphere."""
    return RADIUS - (points - CENTER).norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("where", BOXES.values(), ids=BOXES)
def test_the_surface_of_a_ball_is_a_closed_sphere_that_faces_out(where: Box) -> None:
    mesh = isosurface(grid_values(nearness, where, 48), where, 0.0)
    cell = float((where[1] - where[0]).max()) / 47
    radii = np.linalg.norm(mesh.vertices - CENTER.numpy(), axis=1)
    assert np.abs(radii - RADIUS).max() < cell**2 / RADIUS
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=3 * (cell / RADIUS) ** 2)


def test_where_the_inside_reaches_the_box_the_surface_is_closed_within_a_cell_of_it() -> None:
    corner = box(tuple(CENTER.tolist()), (1.0, 1.0, 1.0))
    mesh = isosurface(grid_values(nearness, corner, 40), corner, 0.0)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(np.pi / 6 * RADIUS**3, rel=0.1)
    assert (mesh.vertices >= CENTER.numpy() - 0.9 / 39).all()
