"""Coordinates of pixels' centres: in [-1, 1] along the longer side, and in proportion along the shorter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from bn_field_plugin.errors import UserError
from standalone.image.readers.decoded import MAX_PIXELS

CHUNK = 2**16
"""Number of points that are evaluated at a time."""


@dataclass(frozen=True)
class SampleGrid:
    """Points at which an image's function is sampled: the pixels of the image, or any window at any size.

    Coordinates are (x, y) in units of half the image's longer side, around its centre, so that a pixel is
    square whatever the aspect ratio. All sums and products are single operations in fp64.

    Raises:
        UserError: there are no samples, too many, or the window is empty.
    """

    height: int
    """Rows of the image, in pixels."""
    width: int
    """Columns of the image, in pixels."""
    rows: int = 0
    """Rows of samples; 0 for one in each pixel of the window."""
    columns: int = 0
    """Columns of samples; 0 for one in each pixel of the window."""
    window: tuple[float, float, float, float] | None = None
    """Top, left, height and width of the window in pixels of the image; the whole image by default."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UserError(f"an image of {self.width} x {self.height} pixels has nothing to sample")
        _, _, height, width = self._window
        if not (0 < height < float("inf") and 0 < width < float("inf")):
            raise UserError(f"the window is {width} x {height} pixels: both must be above 0")
        rows, columns = self.shape
        if rows < 1 or columns < 1:
            raise UserError(f"{columns} x {rows} samples: both must be at least 1")
        if rows * columns > MAX_PIXELS:
            raise UserError(
                f"{columns} x {rows} samples are more than {MAX_PIXELS:,}: render tiles by --crop"
            )

    @property
    def _window(self) -> tuple[float, float, float, float]:
        return self.window or (0.0, 0.0, float(self.height), float(self.width))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of samples."""
        _, _, height, width = self._window
        return self.rows or max(1, round(height)), self.columns or max(1, round(width))

    @property
    def num_points(self) -> int:
        """Number of samples."""
        rows, columns = self.shape
        return rows * columns

    def axes(self) -> tuple[Float64[np.ndarray, " columns"], Float64[np.ndarray, " rows"]]:
        """x of each column and y of each row."""
        top, left, height, width = self._window
        rows, columns = self.shape
        longer = float(max(self.height, self.width))

        def axis(start: float, extent: float, count: int, size: int) -> Float64[np.ndarray, " n"]:
            position = (2.0 * np.arange(count, dtype=np.float64) + 1.0) * (extent / count) + 2.0 * start
            return (position - float(size)) / longer

        return axis(left, width, columns, self.width), axis(top, height, rows, self.height)

    def ranges(self, chunk: int = CHUNK) -> list[tuple[int, int]]:
        """Starts and ends of consecutive runs of points, counted row by row, which cover all points."""
        return [(start, min(start + chunk, self.num_points)) for start in range(0, self.num_points, chunk)]

    def points(self, start: int, stop: int) -> Float64[np.ndarray, "n 2"]:
        """Coordinates of a run of points, counted row by row."""
        x, y = self.axes()
        row, column = np.divmod(np.arange(start, stop), self.shape[1])
        return np.stack([x[column], y[row]], axis=1)

    def tensor(self, start: int, stop: int, device: torch.device | str = "cpu") -> Float[Tensor, "n 2"]:
        """Coordinates of a run of points in fp32, on a device."""
        return torch.from_numpy(self.points(start, stop).astype(np.float32)).to(device)


def evaluate(
    function: Callable[[Float[Tensor, "n 2"]], Float[Tensor, "n o"]],
    grid: SampleGrid,
    device: torch.device | str = "cpu",
    chunk: int = CHUNK,
) -> Iterator[tuple[tuple[int, int], Float32[np.ndarray, "n o"]]]:
    """Values of a function on a grid, run by run, so that memory does not grow with the grid.

    Yields:
        Start and end of a run, and the values at its points.
    """
    for start, stop in grid.ranges(chunk):
        with torch.no_grad():
            values = function(grid.tensor(start, stop, device))
        yield (start, stop), values.float().cpu().numpy()
