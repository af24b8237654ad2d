"""Where samples lie: aspect ratio, windows that tile the whole, runs that are all points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.image.coordinates import SampleGrid, evaluate

SIDES = st.integers(1, 40)


@given(height=SIDES, width=SIDES)
def test_the_longer_side_fills_the_range_and_pixels_are_square(height: int, width: int) -> None:
    x, y = SampleGrid(height, width).axes()
    longer = max(height, width)
    for axis, size in ((x, width), (y, height)):
        assert len(axis) == size
        np.testing.assert_allclose(axis, -axis[::-1], atol=1e-15)
        np.testing.assert_allclose(np.diff(axis), 2 / longer, rtol=1e-12)
    assert max(abs(x).max(), abs(y).max()) == pytest.approx(1 - 1 / longer)


@given(height=SIDES, width=SIDES, chunk=st.integers(1, 50))
def test_runs_are_all_points_row_by_row(height: int, width: int, chunk: int) -> None:
    grid = SampleGrid(height, width)
    points = np.concatenate([grid.points(*run) for run in grid.ranges(chunk)])
    x, y = grid.axes()
    np.testing.assert_array_equal(
        points.reshape(height, width, 2)[..., 0], np.broadcast_to(x, (height, width))
    )
    np.testing.assert_array_equal(
        points.reshape(height, width, 2)[..., 1].T, np.broadcast_to(y, (width, height))
    )


@given(height=SIDES, width=SIDES, top=st.integers(0, 30), left=st.integers(0, 30))
def test_a_window_of_whole_pixels_has_the_pixels_own_coordinates(
    height: int, width: int, top: int, left: int
) -> None:
    whole = SampleGrid(height + top, width + left)
    part = SampleGrid(height + top, width + left, window=(top, left, height, width))
    for a, b, start in zip(whole.axes(), part.axes(), (left, top), strict=True):
        np.testing.assert_allclose(a[start:], b, rtol=0, atol=1e-15)


def test_more_samples_lie_between_the_pixels() -> None:
    x, _ = SampleGrid(4, 4, rows=8, columns=8).axes()
    whole, _ = SampleGrid(4, 4).axes()
    np.testing.assert_allclose(x.reshape(4, 2).mean(axis=1), whole)


def test_evaluation_does_not_depend_on_the_runs() -> None:
    grid = SampleGrid(7, 5)

    def values(chunk: int) -> np.ndarray:
        return np.concatenate([v for _, v in evaluate(lambda x: x.sum(1, keepdim=True), grid, chunk=chunk)])

    np.testing.assert_array_equal(values(3), values(1000))
    assert isinstance(grid.tensor(0, 4), torch.Tensor)


@pytest.mark.parametrize(
    "grid",
    [
        {"height": 0, "width": 3},
        {"height": 3, "width": 3, "window": (0, 0, 0, 1)},
        {"height": 3, "width": 3, "window": (0, 0, float("nan"), 1)},
        {"height": 3, "width": 3, "rows": -1},
        {"height": 3, "width": 3, "rows": 10**6, "columns": 10**6},
    ],
)
def test_empty_and_absurd_grids_are_refused(grid: dict) -> None:
    with pytest.raises(UserError):
        SampleGrid(**grid)
