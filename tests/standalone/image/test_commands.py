"""The options of the commands become the networks that are fitted."""

from __future__ import annotations

import numpy as np
import pytest

from standalone.image.commands import BEST_NETWORK, LARGE_WIDTH, network_for
from standalone.image.images import Picture
from standalone.options import NetworkOptions


@pytest.mark.parametrize(
    ("side", "options", "width"),
    [
        (256, NetworkOptions(BEST_NETWORK), 64),
        (257, NetworkOptions(BEST_NETWORK), LARGE_WIDTH),
        (257, NetworkOptions(BEST_NETWORK, width=32), 32),
        (257, NetworkOptions("pemlp-5"), 64),
        (257, NetworkOptions("hash"), 32),
    ],
)
def test_large_pictures_have_wider_layers_unless_told_otherwise(
    side: int, options: NetworkOptions, width: int
) -> None:
    network = network_for(Picture(np.zeros((side, side, 1), np.uint8), "png"), options)
    assert network.size.width == width
    assert network.size.depth == options.size.depth
