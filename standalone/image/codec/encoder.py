"""Encoding an image: choice of the network's size, fit, rounding, and a check by decoding the file."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.norms import NORMS, folds
from standalone.image.codec.coding import Candidate, PrecisionOptions, bits_per_pixel, decode, encode_network
from standalone.image.codec.quantization import check_architecture
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.optimization import OptimizationConfig, count_parameters
from standalone.options import NetworkOptions

BITS_PER_NUMBER = 5.5
"""Expected bits for each number of the network, by which --bpp determines the width."""

"""Norms that fold into the linear layers, so that a file need not hold them."""


@dataclass(frozen=True)
class EncodedPicture:
    """An encoded file, with its size, quality and time."""

    data: bytes
    """The file's bytes."""
    bpp: float
    """Bits per pixel, of the whole file."""
    psnr: float
    """PSNR in dB of the decoded picture on 8-bit clamped output."""
    fit_psnr: float
    """PSNR in dB of the fitted network, before its numbers were rounded."""
    seconds: float
    """Wall clock seconds of fit, rounding and check."""
    network: NetworkOptions
    """The network that was fitted."""
    candidates: list[Candidate]
    """Choices of rounding steps that were tried."""


def encode_picture(
    picture: Picture,
    network: NetworkOptions,
    run: ImageRunOptions,
    optimization: OptimizationConfig,
    precision: PrecisionOptions,
    bpp: float | None = None,
    show_progress: bool = True,
) -> EncodedPicture:
    """Fit a picture and code the network.

    Args:
        picture: the picture.
        network: the network; `bpp` overrides its width.
        run: budget, batches, seed and device.
        optimization: optimizers and schedule.
        precision: how numbers are rounded.
        bpp: bits per pixel that the file may take.
        show_progress: show bars.

    Raises:
        UserError: options that cannot be used, or a network that the format does not hold.
    """
    if not folds(network.norm):
        choices = ", ".join(filter(folds, NORMS))
        raise UserError(f"--norm {network.norm} cannot be folded away: choose one of {choices}")
    check_architecture(network.config(2, picture.channels))
    precision.check()
    start = time.perf_counter()
    max_bytes = None
    if bpp is not None:
        max_bytes = int(bpp * picture.height * picture.width / 8)
        bits = 16.0 if precision.precision == "fp16" else BITS_PER_NUMBER
        network = with_width_for(network, picture.channels, 8 * max_bytes / bits, bpp)
    result = fit_image(picture, network, run, optimization, show_progress=show_progress)
    file = encode_network(picture, result.network, precision, run, max_bytes, show_progress)
    value_range = picture.value_range()
    truth, ours = (value_range.to_8bit(one.pixels) for one in (picture, decode(file.data, patient=True)))
    return EncodedPicture(
        data=file.data,
        bpp=bits_per_pixel(file.data, picture),
        psnr=psnr(truth, ours),
        fit_psnr=result.psnr,
        seconds=time.perf_counter() - start,
        network=network,
        candidates=file.candidates,
    )


def with_width_for(network: NetworkOptions, channels: int, numbers: float, bpp: float) -> NetworkOptions:
    """The network with the largest width at which it has at most the given `numbers`, its norms not counted.

    Raises:
        UserError: even the narrowest network has more.
    """
    if not (math.isfinite(bpp) and bpp > 0):
        raise UserError(f"--bpp is {bpp}: it must be above 0")
    plain = dataclasses.replace(network, norm="none")
    best = None
    for width in range(4, 1025):
        candidate = dataclasses.replace(plain, width=width)
        if count_parameters(candidate.build(2, channels, 0)) > numbers:
            break
        best = dataclasses.replace(network, width=width)
    if best is None:
        raise UserError(
            f"--bpp {bpp} is too little for {network.size.depth} layers: raise it, or lower --depth"
        )
    return best
