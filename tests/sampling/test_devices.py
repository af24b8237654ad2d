"""Sampling on other devices gives what it gives on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bn_field_plugin.sampling import Cells, OccupancyGrid, PackedSamples, Rays, composite, march, median_depth
from bn_field_plugin.sampling.compositing import light_along
from bn_field_plugin.sampling.occupancy import occupied_at
from tests.devices import DEVICES, assert_alike
from tests.sampling.cases import cells, pack, rays

on_each_device = pytest.mark.parametrize("device", DEVICES)


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@on_each_device
def test_compositing(device: str) -> None:
    samples = pack([3, 0, 5, 1, 70])
    results = []
    for place in ("cpu", device):
        there = PackedSamples(*(part.to(place) for part in samples))
        density = (5 * drawn(samples.num)).to(place).requires_grad_()
        color = drawn(samples.num, 3).to(place).requires_grad_()
        found = composite(density, color, there)
        (found.color.square().sum() + found.accumulation.sum() + found.weights.square().sum()).backward()
        light = light_along(density.detach(), there, drawn(5).to(place))
        depth = median_depth(found.weights.detach(), there).nan_to_num(posinf=0.0)
        results.append([*found, density.grad, color.grad, depth, *light])
    for expected, found in zip(*results, strict=True):
        assert_alike(found, expected, device)


@on_each_device
def test_cells_of_positions(device: str) -> None:
    box, positions = cells(), 4 * drawn(200, 3) - 2
    there = Cells(*(None if part is None else part.to(device) for part in box))
    assert_alike(occupied_at(there, positions.to(device)), occupied_at(box, positions), device)


@pytest.mark.gpu
@pytest.mark.parametrize("limit", [None, 3])
def test_marching_on_cuda_is_that_on_a_cpu(limit: int | None) -> None:
    """A few samples may differ, which rounding puts on the other side of a border."""
    box, lines, jitter = cells(8), rays(500), drawn(500)
    here = march(lines, box, 0.03, jitter, limit=limit)
    there = march(
        Rays(*(part.cuda() for part in lines)),
        Cells(*(None if part is None else part.cuda() for part in box)),
        0.03,
        jitter.cuda(),
        limit=limit,
    )
    names = []
    for samples in (here.samples, PackedSamples(*(part.cpu() for part in there.samples))):
        step = (samples.middle - lines.nears[samples.ray]) / 0.03 - jitter[samples.ray]
        names.append(set(zip(samples.ray.tolist(), step.round().int().tolist(), strict=True)))
    assert len(names[0] ^ names[1]) <= 0.02 * len(names[0])
    assert (here.is_over == there.is_over.cpu()).float().mean() > 0.98


@pytest.mark.gpu
def test_an_occupancy_grid_on_cuda_is_that_on_a_cpu() -> None:
    """The density is constant within a cell, so it does not matter where the grid asks."""
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    occupied = []
    for device in ("cpu", "cuda"):
        grid = OccupancyGrid(box, 8).to(device)
        assert grid.update(lambda points: 50.0 * (points[:, 0] > 0) * (points[:, 1] < 0.5), 0.1)
        assert grid.cells.occupied.device.type == device
        occupied.append(grid.occupied.cpu())
    assert torch.equal(*occupied)
    assert 0 < occupied[0].float().mean() < 1
