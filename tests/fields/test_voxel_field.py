"""Voxel grids: trilinear values against scipy, pyramids, normals, total variation."""

import numpy as np
import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames
from scipy.interpolate import RegularGridInterpolator

from bn_field_plugin.fields.voxel_field import VoxelField, interpolate
from tests.scenes import BOX, samples_at


def points(num: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def field(unbounded: bool = False) -> VoxelField:
    made = VoxelField(BOX, (4, 7), unbounded=unbounded)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for grid in made.parameters():
            grid.copy_(torch.randn(grid.shape, generator=generator))
    return made


def test_values_are_trilinear() -> None:
    grid = torch.randn(1, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    where = points(50)
    axes = [np.linspace(-1, 1, n) for n in (4, 5, 6)]
    for channel in range(2):
        expected = RegularGridInterpolator(axes, grid[0, channel].numpy())(where.numpy())
        np.testing.assert_allclose(interpolate(grid, where)[:, channel], expected, atol=1e-5)


def test_a_fresh_field_is_thin_grey_fog_whatever_takes_part() -> None:
    made = VoxelField(BOX, (4, 8), init_density=0.2)
    for active in (1, 2):
        made.active.fill_(active)
        outputs = made(samples_at(points(10)))
        torch.testing.assert_close(outputs[FieldHeadNames.DENSITY], torch.full((10, 1), 0.2))
        torch.testing.assert_close(outputs[FieldHeadNames.RGB], torch.full((10, 3), 0.5))


def test_grids_take_part_from_the_coarsest_on() -> None:
    made, where = field(), points(20)
    scaled = made.normalized(where)[0]
    coarse, fine = (interpolate(grid, scaled) for grid in made.density_grids)
    torch.testing.assert_close(made.density_fn(where), coarse.relu())
    made.active.fill_(2)
    torch.testing.assert_close(made.density_fn(where), (coarse + fine).relu())
    again = VoxelField(BOX, (4, 7))
    again.load_state_dict(made.state_dict())
    torch.testing.assert_close(again.density_fn(where), made.density_fn(where))


def test_outside_the_box_there_is_nothing() -> None:
    outputs = field()(samples_at(points(5) + 4))
    assert (outputs[FieldHeadNames.DENSITY] == 0).all()
    assert (outputs[FieldHeadNames.RGB] == 0).all()
    assert (field(unbounded=True)(samples_at(points(5) + 4))[FieldHeadNames.RGB] > 0).all()


def test_colours_turn_with_the_view() -> None:
    where = torch.zeros(2, 3)
    directions = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    rgb = field()(samples_at(where, directions))[FieldHeadNames.RGB]
    assert not torch.allclose(rgb[0], rgb[1])


def test_normals_point_to_where_density_falls() -> None:
    made = VoxelField(BOX, (5,))
    axis = torch.linspace(1, 0, 5)
    with torch.no_grad():
        made.density_grids[0].copy_(axis[:, None, None].expand(5, 5, 5))
    expected = torch.tensor([1.0, 0, 0]).expand(6, 3)
    torch.testing.assert_close(made.normals(points(6)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("active", [1, 2])
def test_total_variation_is_that_of_a_ramp(active: int) -> None:
    """Oracle: a ramp of slope s along one axis varies by s^2 everywhere."""
    made = VoxelField(BOX, (4, 7))
    made.active.fill_(active)
    assert all(value.item() == 0 for value in made.total_variation(100))
    with torch.no_grad():
        for grid in made.density_grids:
            grid.copy_(0.5 * torch.arange(grid.shape[-1]).float().expand_as(grid))
    density, color = made.total_variation(100)
    assert density.item() == pytest.approx(0.25 * active)
    assert color.item() == 0
