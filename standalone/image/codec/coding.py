"""An image as one small file: a fitted network, rounded where that does least harm, and entropy coded.

Decoding gives the same pixels on every machine with IEEE 754 arithmetic: see `exact`.
"""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import copy
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP
from standalone.image.codec.bitstream import HALF_PRECISION, QUANTISED, CodedImage, pack, unpack
from standalone.image.codec.exact import CodedNetwork
from standalone.image.codec.quantization import (
    Steps,
    check_codable,
    half_precision,
    quantised,
    round_in_training,
    sensitivities,
    steps_for_bits,
    steps_for_error,
    with_exponents,
)
from standalone.image.coordinates import SampleGrid
from standalone.image.fit import ImageRunOptions, fit_network
from standalone.image.images import Picture
from standalone.image.metrics import squared_error
from standalone.optimization import OptimizationConfig

SAMPLE_POINTS = 2**15
"""Number of pixels on which the choice of rounding steps is based."""

ADDED_ERRORS = tuple(2.0 ** (k / 2) for k in range(-16, 4))
"""Squared errors that rounding may add, as shares of the fit's own; the best trade of rate and distortion
among them is chosen."""

USUAL_PRODUCTS = 2**40
"""Most products that decoding may take without --patient, which is minutes of work; a small file can claim
hours."""

FINETUNE_RATE = 0.02
"""Peak learning rate of training with rounding, in units of each tensor's rounding step."""


@dataclass(frozen=True)
class PrecisionOptions:
    """How a fitted network becomes a file."""

    precision: str = "auto"
    """auto: each tensor's step by rate and distortion; fp16: half precision; 2 to 16: bits of a number."""
    gain_per_doubling: float = 2.0
    """With auto: the gain in dB for which the file may be twice as large."""
    finetune_steps: int = 300
    """Steps of training with rounded numbers after the choice; 0 for none. Not with fp16."""

    def check(self) -> None:
        """Check the ranges of the options, which a command line does not check.

        Raises:
            UserError: an option is out of its range.
        """
        bits = int(self.precision) if self.precision.isdecimal() else None
        if self.precision not in ("auto", "fp16") and (bits is None or not 2 <= bits <= 16):
            raise UserError(f"--precision is {self.precision}: give auto, fp16, or bits from 2 to 16")
        if not (math.isfinite(self.gain_per_doubling) and self.gain_per_doubling > 0):
            raise UserError(f"--gain-per-doubling is {self.gain_per_doubling}: it must be above 0 dB")
        if self.finetune_steps < 0:
            raise UserError(f"--finetune-steps is {self.finetune_steps}: it must be at least 0")


@dataclass(frozen=True)
class Candidate:
    """A choice of rounding steps, with its size and quality."""

    added_error: float
    """Squared error that the rounding was meant to add, as a share of the fit's own."""
    num_bytes: int
    """Bytes of the file."""
    psnr: float
    """PSNR in dB on the sample of pixels."""


@dataclass(frozen=True)
class Encoded:
    """An encoded image."""

    data: bytes
    """The file's bytes."""
    candidates: list[Candidate]
    """Choices of rounding steps that were tried, with precision auto."""
    finetune_seconds: float = 0.0
    """Seconds of training with rounded numbers."""


def encode_network(
    picture: Picture,
    network: CoordinateMLP,
    options: PrecisionOptions,
    run: ImageRunOptions,
    max_bytes: int | None = None,
    show_progress: bool = True,
) -> Encoded:
    """Code a finished network that was fitted to a picture.

    Args:
        picture: the picture.
        network: the network as a fit returns it, folded and in evaluation mode.
        options: precision and fine-tuning.
        run: batches, device and seed of the fine-tuning.
        max_bytes: with precision auto, take the best file of at most this size, instead of the best trade of
            quality and size.
        show_progress: show a bar while training with rounded numbers.

    Raises:
        UserError: the format cannot hold the network.
    """
    options.check()
    check_codable(network)
    network = copy.deepcopy(network).cpu()
    sample = _Sample(picture)
    if options.precision == "fp16":
        return Encoded(_packed(picture, sample, half_precision(network), HALF_PRECISION), [])
    candidates: list[Candidate] = []
    if options.precision == "auto":
        steps, candidates = _choose_steps(picture, network, sample, options.gain_per_doubling, max_bytes)
    else:
        steps = steps_for_bits(network, int(options.precision))
    seconds = 0.0
    if options.finetune_steps > 0:
        label = "rounding" if show_progress else None
        network, seconds = _finetuned(picture, network, steps, options.finetune_steps, run, label)
    return Encoded(_packed(picture, sample, quantised(network, steps), QUANTISED), candidates, seconds)


def decode(data: bytes, patient: bool = False) -> Picture:
    """The picture that a file holds; the same pixels on every machine.

    Args:
        data: the file's bytes.
        patient: decode the file even if that takes more than minutes.

    Raises:
        UserError: with the end of a sentence that begins with the file's name.
    """
    image = unpack(data)
    grid = SampleGrid(image.height, image.width)
    if not patient:
        check_work(image, grid)
    return render(image, grid)


def check_work(image: CodedImage, grid: SampleGrid) -> None:
    """Refuse decoding that would take more than minutes; a small file can claim a huge network and picture.

    Args:
        image: the coded image.
        grid: the points at which the image is to be sampled.

    Raises:
        UserError: with the end of a sentence that begins with the file's name.
    """
    tensors = [tensor for layer in image.network.layers for tensor in (layer.weight, layer.bias)]
    products = sum(tensor.integers.size for tensor in tensors) * grid.num_points
    if products > USUAL_PRODUCTS:
        rows, columns = grid.shape
        raise UserError(
            f"claims {columns} x {rows} pixels of {products:.1e} products, more than minutes take: "
            "render fewer (--scale) or a part (--crop), or give --patient if you trust it"
        )


def render(image: CodedImage, grid: SampleGrid) -> Picture:
    """Samples of a coded image on any grid: other sizes, crops, tiles.

    Args:
        image: the coded image.
        grid: the points to sample; the grid's height and width are those of the image.
    """
    rows, columns = grid.shape
    pixels = np.empty((rows * columns, image.channels), image.depth)
    for start, stop in grid.ranges():
        values = image.network(grid.points(start, stop))
        pixels[start:stop] = image.value_range.denormalize(values, image.depth)
    return Picture(pixels.reshape(rows, columns, image.channels), image.format)


def bits_per_pixel(data: bytes, picture: Picture) -> float:
    """Bits of a file, with its header and checksum, for each pixel."""
    return 8 * len(data) / (picture.height * picture.width)


class _Sample:
    """Evenly spread pixels of a picture: their coordinates and 8-bit values."""

    def __init__(self, picture: Picture) -> None:
        grid = SampleGrid(picture.height, picture.width)
        count = min(SAMPLE_POINTS, grid.num_points)
        indices = (np.arange(count) * (grid.num_points / count)).astype(np.int64)
        row, column = np.divmod(indices, picture.width)
        x, y = grid.axes()
        self.coordinates = np.stack([x[column], y[row]], axis=1)
        self.depth, self.value_range = picture.depth, picture.value_range()
        self.truth = self.value_range.to_8bit(picture.pixels[row, column])

    def error(self, outputs: Shaped[np.ndarray, "n c"]) -> float:
        """Mean squared error of outputs on 8-bit clamped values."""
        ours = self.value_range.to_8bit(self.value_range.denormalize(outputs, self.depth))
        return squared_error(self.truth, ours)


def _choose_steps(
    picture: Picture,
    network: CoordinateMLP,
    sample: _Sample,
    gain_per_doubling: float,
    max_bytes: int | None,
) -> tuple[Steps, list[Candidate]]:
    """The steps with the best PSNR less a price for the bytes, or the best PSNR within `max_bytes`."""
    coordinates = torch.from_numpy(sample.coordinates.astype(np.float32))
    found = sensitivities(network, coordinates)
    with torch.no_grad():
        base = max(sample.error(network(coordinates).numpy()), 1e-3)
    best: tuple[float, Steps] | None = None
    candidates = []
    for share in ADDED_ERRORS:
        steps = steps_for_error(network, found, share * base / 127.5**2)
        coded = quantised(network, steps)
        try:
            size = len(_packed(picture, sample, coded, QUANTISED))
        except UserError:  # these steps are too fine for the coder; coarser ones follow
            continue
        quality = 10 * math.log10(255.0**2 / max(sample.error(_outputs(coded, sample)), 1e-3))
        candidates.append(Candidate(share, size, quality))
        if max_bytes is None:
            score = quality - gain_per_doubling * math.log2(size)
        else:
            score = quality if size <= max_bytes else -float(size)
        if best is None or score > best[0]:
            best = (score, steps)
    if best is None:
        raise UserError("the weights span too wide a range to be rounded: use --precision fp16")
    return best[1], candidates


def _finetuned(
    picture: Picture,
    network: CoordinateMLP,
    steps: Steps,
    count: int,
    run: ImageRunOptions,
    label: str | None,
) -> tuple[CoordinateMLP, float]:
    """The network after training with its numbers rounded, if that made it better."""
    rounded = copy.deepcopy(network).train()
    round_in_training(rounded, steps)
    optimization = OptimizationConfig(
        "adam", lr=FINETUNE_RATE, hidden_lr=FINETUNE_RATE, warmup_steps=0, final_fraction=0.0
    )
    run = dataclasses.replace(run, steps=count, time_limit=None, eval_every=max(1, count // 4), compile=False)
    before = fit_psnr(picture, quantised(network, steps))
    result = fit_network(picture, rounded, run, optimization, label=label)
    tuned = result.network.cpu()
    if fit_psnr(picture, quantised(tuned, steps)) <= before:
        return network, result.seconds
    return tuned, result.seconds


def fit_psnr(picture: Picture, network: CodedNetwork) -> float:
    """PSNR in dB of a coded network on evenly spread pixels of a picture."""
    sample = _Sample(picture)
    return 10 * math.log10(255.0**2 / max(sample.error(_outputs(network, sample)), 1e-3))


def _outputs(network: CodedNetwork, sample: _Sample) -> np.ndarray:
    return with_exponents(network, sample.coordinates)(sample.coordinates)


def _packed(picture: Picture, sample: _Sample, network: CodedNetwork, mode: int) -> bytes:
    image = CodedImage(
        picture.height,
        picture.width,
        picture.channels,
        picture.format,
        picture.depth,
        picture.value_range(),
        with_exponents(network, sample.coordinates),
        mode,
    )
    return pack(image)
