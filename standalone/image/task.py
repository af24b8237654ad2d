"""Images as fitting tasks: coordinates and targets, reconstructions, evaluations during a fit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

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
from standalone.sampling import Batch, FullBatch, Sampler, SpreadBatches
from standalone.time_limit import Timed

FULL_BATCH = 2**16
"""Most pixels of an image that by default is fitted with all pixels in each batch: 256 x 256."""

BATCH_SIZE = 2**14
"""Default pixels of a batch in larger images: many steps on parts come farther than a few on all pixels."""

CHUNK = 2**16
"""Number of pixels that go through the network at a time outside of training."""

PREPARED_PIXELS = 2**13
"""Number of pixels of the training pass before the first step: enough to go the way of large batches."""

REHEARSED_PIXELS = 2**15
"""Number of pixels with which the time of an evaluation is estimated."""

PREVIEW_PIXELS = 2**19
"""Most pixels of an image of which an evaluation during the fit looks at all."""

PREVIEW_SIDE = 512
"""Longest side of the central part that an evaluation during the fit looks at in larger images."""

BAND = "band "
"""First part of the names, in the history, of the errors by frequency band."""

Evaluator = Callable[[CoordinateMLP, Float[Tensor, "n 2"]], Float[Tensor, "n o"]]
"""Function that applies a network to coordinates."""


class ImageTask:
    """A picture as a fitting task; the loss is the mean squared error of values in [-1, 1].

    Args:
        picture: the picture.
        device: device of the network.
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

    def sampler(self, batch_size: int | Literal["full"] | None = None, seed: int = 0) -> Sampler:
        """All pixels at once, or batches that are spread over them at random.

        Args:
            batch_size: pixels of a batch; None for all pixels if they are at most `FULL_BATCH`, else
                `BATCH_SIZE`.
            seed: seed of the batches.

        Raises:
            UserError: a batch size below 2.
        """
        count = self.grid.num_points
        if batch_size is None:
            batch_size = count if count <= FULL_BATCH else BATCH_SIZE
        if batch_size == "full" or batch_size >= count:
            return FullBatch(*self.batch(torch.arange(count)))
        return SpreadBatches(count, batch_size, self.batch, seed)

    def prepare(self, network: CoordinateMLP) -> None:
        """Take a training pass of a copy of the network over a few pixels.

        What first passes load, such as compiled loops, stays where it is in memory. Between the large
        matrices of a step, it would leave the next step less room: with 512 x 512 pixels, this saves 0.05 GB.
        """
        copied = copy.deepcopy(network).train()
        coordinates, targets = self.batch(torch.arange(min(PREPARED_PIXELS, self.grid.num_points)))
        self.loss(copied(coordinates), targets).backward()

    def finished(self, network: CoordinateMLP) -> CoordinateMLP:
        """A folded copy of a network with statistics that are exact over all pixels."""
        return finished(network, self.grid.ranges(), self._forward)

    def _forward(self, network: CoordinateMLP, run: tuple[int, int]) -> Tensor:
        outputs: Tensor = network(self.grid.tensor(*run, self.device))
        return outputs

    def reconstruct(self, network: CoordinateMLP) -> Shaped[np.ndarray, "h w c"]:
        """Pixels that a finished network gives, at the picture's own depth."""
        return sample_pixels(network, self.grid, self.picture, self.device)

    def to_8bit(self, pixels: Shaped[np.ndarray, "h w c"]) -> Image8:
        """8-bit pixels over the picture's range."""
        return self.value_range.to_8bit(pixels)

    def rehearse(self, network: CoordinateMLP) -> float:
        """Estimate, from a part of the pixels, the seconds that `finished` and `reconstruct` will take."""
        count = min(REHEARSED_PIXELS, self.grid.num_points)

        def work(pixels: int) -> None:
            folded = finished(network, [(0, pixels)], self._forward)
            with torch.no_grad():
                folded(self.grid.tensor(0, pixels, self.device))

        work(min(count, 64))  # an untimed call, which does the work that only first calls do
        with Timed() as timed:
            work(count)
        return timed.seconds * self.grid.num_points / count

    def window(self, part: Picture) -> SampleGrid:
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


class Evaluation:
    """An evaluation during the fit: PSNR and errors by band of the folded network with exact statistics.

    In an image with more than `PREVIEW_PIXELS` it looks at the centre only, with statistics over as many
    pixels, spread evenly over the image. The final evaluation is over all pixels.

    Args:
        task: the task that is evaluated.

    Attributes:
        is_whole: whether it looks at all pixels.
    """

    def __init__(self, task: ImageTask) -> None:
        self._task = task
        count = task.grid.num_points
        self.is_whole = count <= PREVIEW_PIXELS
        part = task.picture if self.is_whole else _centre(task.picture)
        self._truth = task.to_8bit(part.pixels)
        self._inside = task.window(part)
        self._spread = torch.arange(0, count, -(-count // PREVIEW_PIXELS)).split(CHUNK)
        self._latest: tuple[int, Finished] | None = None

    def __call__(self, state: FitState) -> Mapping[str, float]:
        """Metrics of the present network, by name."""
        task = self._task
        network = finished(state.network, self._spread, lambda mlp, run: mlp(task.batch(run)[0]))
        pixels = sample_pixels(network, self._inside, task.picture, task.device)
        if self.is_whole:
            self._latest = state.step, Finished(network, pixels)
        ours = task.to_8bit(pixels)
        bands = band_errors(self._truth, ours)
        return {"psnr": psnr(self._truth, ours)} | {f"{BAND}{name}": value for name, value in bands.items()}

    def final(self, state: FitState) -> Finished:
        """The finished network and its picture, taken from the last call if that was at the final step."""
        if self._latest is not None and self._latest[0] == state.step:
            return self._latest[1]
        network = self._task.finished(state.network)
        return Finished(network, self._task.reconstruct(network))


class Finished(NamedTuple):
    """A finished network and its reconstruction."""

    network: CoordinateMLP
    """The network with exact statistics, folded, in evaluation mode."""
    pixels: Shaped[np.ndarray, "h w c"]
    """The network's reconstruction, at the picture's depth."""


def _centre(picture: Picture) -> Picture:
    """The middle of a large picture."""
    height, width = (min(PREVIEW_SIDE, side) for side in (picture.height, picture.width))
    top, left = (picture.height - height) // 2, (picture.width - width) // 2
    return Picture(picture.pixels[top : top + height, left : left + width], picture.format)
