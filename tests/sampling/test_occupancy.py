"""The occupancy grid keeps dense cells, forgets empty ones, and never excludes a field for good."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import frozen_statistics
from bn_field_plugin.sampling import OccupancyGrid, march, occupancy
from bn_field_plugin.sampling.occupancy import DECAY, OPACITY, occupied_at
from tests.nn.cases import network, statistics, unchanged
from tests.sampling.cases import cells, rays

BOX = torch.tensor([[-1.0, -0.5, -2.0], [1.0, 1.5, 0.25]])
STEP = 0.1


def grid(resolution: int = 6) -> OccupancyGrid:
    return OccupancyGrid(BOX, resolution)


def density_of(occupied: Tensor, value: float = 30.0):
    """A density function with matter in some of the cells."""
    box = cells(len(occupied))._replace(occupied=occupied)
    return lambda x: occupied_at(box, x) * value


def seen(points: list[Tensor], value: float = 1.0):
    """A density function, and the list of points at which it was called."""

    def density(x: Tensor) -> Tensor:
        points.append(x)
        return torch.full((len(x),), value)

    return density


def test_all_is_occupied_before_the_first_update():
    assert grid().share == 1
    assert grid(2).cells.occupied.shape == (2, 2, 2)


def test_an_update_marks_what_is_dense_and_nothing_else():
    occupied = cells(6, 0.2).occupied
    ours = grid()
    assert ours.update(density_of(occupied), STEP) is True
    assert torch.equal(ours.cells.occupied, occupied)
    assert ours.share == pytest.approx(float(occupied.float().mean()))
    assert torch.equal(ours.densities > 0, occupied.flatten())


def test_it_asks_once_in_each_cell_and_nowhere_else():
    ours, points = grid(5), []
    ours.update(seen(points), STEP)
    (x,) = points
    assert torch.equal(ours.cells.at(x), torch.arange(5**3))
    assert ((x >= BOX[0]) & (x <= BOX[1])).all()
    ours.update(seen(points), STEP)
    assert not torch.equal(points[1], x)


def test_many_cells_are_asked_for_in_several_calls(monkeypatch):
    monkeypatch.setattr(occupancy, "POINTS_PER_CALL", 100)
    ours, points = grid(), []
    ours.update(seen(points), STEP)
    assert [len(x) for x in points] == [100, 100, 16]
    assert torch.equal(ours.cells.at(torch.cat(points)), torch.arange(6**3))


def test_what_is_gone_fades_and_what_is_less_dense_than_before_decays():
    ours = grid(4)
    wall = torch.zeros(4, 4, 4, dtype=torch.bool)
    wall[0] = True
    ours.update(density_of(wall, 10.0), STEP)
    other = wall.flip(0)
    ours.update(density_of(other, 10.0), STEP)
    torch.testing.assert_close(ours.densities.reshape(4, 4, 4)[0], torch.full((4, 4), 10.0 * DECAY))
    assert torch.equal(ours.occupied, wall | other)
    # After so many updates a sample's opacity is below the threshold, whatever the mean density.
    for _ in range(math.ceil(math.log(OPACITY / STEP / 10.0) / math.log(DECAY)) + 1):
        ours.update(density_of(other, 10.0), STEP)
    assert torch.equal(ours.occupied, other)


def test_thin_fog_is_not_empty():
    """When training begins there is nothing but fog, which may be equal everywhere, to the last bit."""
    for value in (1e-4, 1e-3, 0.0123):
        ours = grid()
        assert ours.update(lambda x, v=value: torch.full((len(x), 1), v), STEP)
        assert ours.share == 1


def test_an_empty_field_says_so_and_is_looked_at_again():
    ours = grid()
    occupied = cells(6, 0.2).occupied
    ours.update(density_of(occupied), STEP)
    ours.densities.zero_()
    assert ours.update(lambda x: torch.zeros(len(x)), STEP) is False
    assert ours.share == 1
    assert ours.update(density_of(occupied), STEP) is True
    assert torch.equal(ours.occupied, occupied)


def test_some_of_the_cells_half_of_them_among_the_occupied():
    occupied = torch.zeros(10, 10, 10, dtype=torch.bool)
    occupied[3:6, 3:6] = True
    ours, points = grid(10), []
    ours.update(density_of(occupied), STEP)
    ours.update(seen(points), STEP, fraction=0.1)
    x = torch.cat(points)
    assert len(x) == 100
    assert occupied_at(cells(10)._replace(occupied=occupied), x[50:]).all()
    # With fewer occupied cells than are asked for, each of them is looked at.
    points.clear()
    ours.occupied.copy_(occupied)
    ours.update(seen(points), STEP, fraction=0.9)
    assert set(occupied.flatten().nonzero()[:, 0].tolist()) <= set(ours.cells.at(torch.cat(points)).tolist())


@pytest.mark.parametrize("fraction", [0.0, 1e-9])
def test_at_least_one_cell_is_looked_at(fraction):
    points = []
    grid().update(seen(points), STEP, fraction)
    assert len(torch.cat(points)) == 2


def test_cells_that_are_not_looked_at_keep_what_they_had():
    occupied = cells(6, 0.5).occupied
    ours = grid()
    ours.update(density_of(occupied), STEP)
    ours.update(density_of(occupied), STEP, fraction=0.1)
    assert torch.equal(ours.occupied, occupied)


def test_densities_that_are_no_numbers_are_nothing_and_those_without_bound_are_opaque():
    odd = torch.tensor([math.nan, -math.inf, -3.0, math.inf, 1e30, 5.0])
    ours = grid()
    assert ours.update(lambda x: odd.repeat(36), STEP)
    assert ours.densities.isfinite().all()
    assert torch.equal(ours.occupied.flatten(), torch.tensor([False] * 3 + [True] * 3).repeat(36))
    # Cells with infinite density fade like others, so that a bad step does not mark them for good.
    for _ in range(300):
        ours.update(lambda x: torch.tensor([0.0, 0, 0, 0, 0, 5.0]).repeat(36), STEP)
    assert torch.equal(ours.occupied.flatten(), torch.tensor([False] * 5 + [True]).repeat(36))


def test_a_field_of_no_numbers_at_all_is_empty():
    ours = grid()
    assert ours.update(lambda x: torch.full((len(x),), math.nan), STEP) is False
    assert ours.share == 1


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_densities_may_have_a_column_and_any_dtype(shape, dtype):
    occupied = cells(6, 0.3).occupied
    ours = grid()
    ours.update(lambda x: density_of(occupied)(x).to(dtype).reshape(shape), STEP)
    assert torch.equal(ours.occupied, occupied)
    assert ours.densities.dtype == torch.float32


@pytest.mark.parametrize("frozen", [False, True])
def test_updates_leave_the_statistics_of_a_network_alone(frozen):
    mlp = network(dtype=torch.float32, norm="batch").train()
    before = statistics(mlp)

    def density(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        if not frozen:
            return mlp(x)[:, 0].exp()
        with frozen_statistics(mlp):
            return mlp(x)[:, 0].exp()

    assert grid().update(density, STEP)
    assert unchanged(mlp, before)
    assert mlp.training


def test_it_travels_in_the_state_dict_without_its_box():
    ours, other = grid(), OccupancyGrid(BOX * 2, 6)
    ours.update(density_of(cells(6, 0.2).occupied), STEP)
    assert sorted(ours.state_dict()) == ["densities", "occupied"]
    other.load_state_dict(ours.state_dict())
    assert torch.equal(other.occupied, ours.occupied)
    assert torch.equal(other.aabb, BOX * 2)
    assert torch.equal(copy.deepcopy(ours).occupied, ours.occupied)


@pytest.mark.parametrize("resolution", [-3, 0, 1, 1025])
def test_a_resolution_out_of_its_range_is_an_error(resolution):
    with pytest.raises(UserError, match=f"the occupancy grid's resolution is {resolution}: choose it from 2"):
        grid(resolution)


@pytest.mark.parametrize("corner", [-1.0, -2.0, math.nan, math.inf])
def test_a_box_without_volume_or_without_end_is_an_error(corner):
    box = BOX.clone()
    box[1, 0] = corner
    with pytest.raises(UserError, match=r"the scene's box .* has no volume"):
        OccupancyGrid(box, 8)


def test_the_grid_serves_marches_of_its_own():
    """A march through the grid finds samples where the density is."""
    occupied, lines = cells(6, 0.2).occupied, rays(20)
    ours = grid()
    ours.update(density_of(occupied), STEP)
    samples = march(lines, ours.cells, 0.05, torch.full((20,), 0.5)).samples
    # Points outside the box count as in the nearest cell; callers have to leave them out.
    points = samples.positions(lines)
    inside = ((points > BOX[0]) & (points < BOX[1])).all(dim=-1)
    assert inside.any()
    assert (density_of(occupied)(points[inside]) > 0).all()
