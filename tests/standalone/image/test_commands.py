"""The options of the commands become the networks that are fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bn_field_plugin import UserError
from standalone.image.commands import BEST_NETWORK, LARGE_WIDTH, Fit, network_for
from standalone.image.fit import ImageRunOptions
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


def test_a_batch_without_statistics_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--batch-size is 1"):
        Fit(output_dir=tmp_path / "new", max_side=16, run=ImageRunOptions(steps=1, batch_size=1)).main()
    assert not (tmp_path / "new").exists()
