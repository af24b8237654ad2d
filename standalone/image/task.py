"""Images as fitting tasks: coordinates and targets, reconstructions, evaluations on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP
from standalone.bands import band_errors
from standalone.fitting import FitState, finished
from standalone.image.coordinates import SampleGrid, evaluate
from standalone.image.images import Picture
from standalone.image.metrics import Image8, psnr
from standalone.sampling import Batch, FullBatch, Sampler, ShuffledBatches

FULL_BATCH = 2**18
"""Most pixels that are fitted all at once unless asked for: 512 x 512."""

BATCH_SIZE = 2**16
"""Pixels of a batch, where not all are fitted at once."""

PREVIEW_PIXELS = 2**19
"""Most pixels that an evaluation on the way looks at."""

PREVIEW_SIDE = 512
"""Sides of the centre that it looks at in larger images."""

BAND = "band "
"""What the names of the errors by frequency band begin with in the history."""

Evaluator = Callable[[CoordinateMLP, Float[Tensor, "n 2"]], Float[Tensor, "n o"]]
"""Applies a network to coordinates."""


class ImageTask:
    """A picture as a fitting task; the loss is the mean squared error of values in [-1, 1].

    Args:
        picture: the picture.
        device: where the network is.
    """

    def __init__(self, picture: Picture, device: torch.device | str = "cpu") -> None:
        self.picture = picture
        self.device = torch.device(device)
        self.grid = SampleGrid(picture.height, picture.width)
        self.value_range = picture.value_range()
        self._pixels = picture.pixels.reshape(-1, picture.channels)
        x, y = (torch.from_numpy(axis.astype(np.float32)) for axis in self.grid.axes())
        self._x, self._y = x, y

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Mean squared error."""
        return F.mse_loss

    def batch(self, indices: Int[Tensor, " n"]) -> Batch:
        """Coordinates and targets of pixels, counted row by row."""
        row = torch.div(indices, self.picture.width, rounding_mode="floor")
        column = indices - row * self.picture.width
        coordinates = torch.stack([self._x[column], self._y[row]], dim=1)
        targets = torch.from_numpy(self.value_range.normalize(self._pixels[indices.numpy()]))
        return coordinates.to(self.device), targets.to(self.device)

    def sampler(self, batch_size: int | None = None, seed: int = 0) -> Sampler:
        """All pixels at once, or shuffled batches.

        Args:
            batch_size: pixels of a batch; None is all of them up to `FULL_BATCH`, else `BATCH_SIZE`.
            seed: seed of the shuffling.

        Raises:
            UserError: a batch size below 2.
        """
        count = self.grid.num_points
        if batch_size is None:
            batch_size = count if count <= FULL_BATCH else BATCH_SIZE
        if batch_size >= count:
            return FullBatch(*self.batch(torch.arange(count)))
        return ShuffledBatches(count, batch_size, self.batch, seed)

    def finished(self, network: CoordinateMLP) -> CoordinateMLP:
        """A folded copy of a network with statistics that are exact over all pixels."""
        return finished(network, self.grid.ranges(), self._forward)

    def _forward(self, network: CoordinateMLP, run: tuple[int, int]) -> Tensor:
        return network(self.grid.tensor(*run, self.device))

    def reconstruct(self, network: CoordinateMLP) -> Shaped[np.ndarray, "h w c"]:
        """Pixels that a finished network gives, at the picture's own depth."""
        return sample_pixels(network, self.grid, self.picture, self.device)

    def to_8bit(self, pixels: Shaped[np.ndarray, "h w c"]) -> Image8:
        """8-bit pixels over the picture's range."""
        return self.value_range.to_8bit(pixels)

    def evaluation(self) -> Callable[[FitState], Mapping[str, float]]:
        """An evaluation on the way: PSNR and errors by band of the folded network with exact statistics.

        Of an image with more than `PREVIEW_PIXELS` it looks at the centre only, with statistics over as many
        pixels, evenly spread; the final evaluation is over all.
        """
        part = self.picture if self.grid.num_points <= PREVIEW_PIXELS else _centre(self.picture)
        stride = -(-self.grid.num_points // PREVIEW_PIXELS)
        spread = torch.arange(0, self.grid.num_points, stride).split(BATCH_SIZE)
        truth = self.to_8bit(part.pixels)
        inside = self._window(part)

        def evaluate_now(state: FitState) -> dict[str, float]:
            network = finished(state.network, spread, lambda mlp, run: mlp(self.batch(run)[0]))
            ours = self.to_8bit(sample_pixels(network, inside, self.picture, self.device))
            bands = band_errors(truth, ours)
            return {"psnr": psnr(truth, ours)} | {f"{BAND}{name}": value for name, value in bands.items()}

        return evaluate_now

    def _window(self, part: Picture) -> SampleGrid:
        """The grid of a part in the middle of the picture."""
        top = (self.picture.height - part.height) // 2
        left = (self.picture.width - part.width) // 2
        window = (float(top), float(left), float(part.height), float(part.width))
        return SampleGrid(self.picture.height, self.picture.width, window=window)


def sample_pixels(
    network: CoordinateMLP, grid: SampleGrid, like: Picture, device: torch.device | str = "cpu"
) -> Shaped[np.ndarray, "rows columns c"]:
    """Pixels of a finished network on any grid, at the depth and over the range of a picture."""
    rows, columns = grid.shape
    pixels = np.empty((rows * columns, like.channels), like.pixels.dtype)
    value_range = like.value_range()
    for (start, stop), values in evaluate(network, grid, device):
        pixels[start:stop] = value_range.denormalize(values, like.depth)
    return pixels.reshape(rows, columns, like.channels)


def _centre(picture: Picture) -> Picture:
    """The middle of a large picture."""
    height, width = (min(PREVIEW_SIDE, side) for side in (picture.height, picture.width))
    top, left = (picture.height - height) // 2, (picture.width - width) // 2
    return Picture(picture.pixels[top : top + height, left : left + width], picture.format)
