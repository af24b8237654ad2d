"""Grids: where their points lie, and that the values are the function's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bn_field_plugin.geometry import Box, grid_values
from tests.geometry.boxes import BOXES


@pytest.mark.parametrize("where", BOXES.values(), ids=BOXES)
def test_the_grid_spans_the_box_with_nearly_cubic_cells(where: Box) -> None:
    """Oracle: every point of the grid one by one, for a density that is a different number everywhere."""

    def density(points: Tensor) -> Tensor:
        return points @ torch.tensor([[1.0], [10.0], [100.0]])

    grid = grid_values(density, where, resolution=9)
    low, high = (corner.numpy() for corner in where)
    assert max(grid.shape) == 9
    cells = (high - low) / (np.array(grid.shape) - 1)
    assert cells.max() / cells.min() < 1.35
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, grid.shape, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    np.testing.assert_allclose(grid, points @ np.array([1, 10, 100]), rtol=1e-4, atol=1e-3)
