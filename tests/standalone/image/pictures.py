"""Small pictures and networks for the tests of `standalone.image`."""

from __future__ import annotations

import numpy as np
import torch

from bn_field_plugin import CoordinateMLP, fold_norm
from standalone.image.images import DepthName, Picture
from standalone.image.readers.formats import FormatName
from standalone.networks import Variant


def picture(
    height: int = 24,
    width: int = 32,
    channels: int = 3,
    depth: DepthName = "uint8",
    format: FormatName = "png",
) -> Picture:
    """Smooth waves in [0, 1] at any depth, different in each channel."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [0.5 + 0.45 * np.sin(3 * x + 2 * k) * np.cos(4 * y + k) for k in range(channels)]
    unit = np.stack(waves, axis=-1)
    if depth in ("uint8", "uint16"):
        return Picture(np.rint(unit * np.iinfo(depth).max).astype(depth), format)
    return Picture(unit.astype(depth), format)


def folded(name: str = "pemlp-3", channels: int = 3, width: int = 8, depth: int = 3) -> CoordinateMLP:
    """A network without norms, as a fit leaves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fold_norm(CoordinateMLP(Variant.parse(name).config(2, channels, width, depth)))
