"""Files of a fit: error maps, CSV, JSON that any reader takes, and networks that have no code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from standalone.image.fit import ImageFit, ImageRunOptions, fit_image
from standalone.image.outputs import write_fit
from standalone.image.page import error_map
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from tests.standalone.image.pictures import picture

RUN = ImageRunOptions(steps=2, eval_every=1)


def fitted(network: NetworkOptions) -> ImageFit:
    return fit_image(picture(), network, RUN, OptimizationConfig(), show_progress=False)


def test_an_error_map_is_black_where_nothing_is_wrong_and_brighter_where_more_is() -> None:
    truth = np.zeros((1, 3, 3), np.uint8)
    ours = np.array([[[0, 0, 0], [20, 20, 20], [60, 60, 60]]], np.uint8)
    brightness = error_map(truth, ours).astype(int).sum(axis=-1)[0]
    assert brightness[0] < 10 < brightness[1] < brightness[2]


def test_a_perfect_reconstruction_is_sound_json(tmp_path: Path) -> None:
    options = NetworkOptions("mlp", "batch", width=4, depth=1)
    perfect = dataclasses.replace(fitted(options), pixels=picture().pixels)
    write_fit(tmp_path, picture(), perfect, options.variant, RUN)

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["psnr"] is None
    assert metrics["ssim"] == 1


def test_a_network_that_the_format_cannot_hold_has_no_file(tmp_path: Path) -> None:
    options = NetworkOptions("mlp", "layer", width=4, depth=2)
    metrics = write_fit(tmp_path, picture(), fitted(options), options.variant, RUN)
    assert metrics["bpp"] is None
    assert not (tmp_path / "image.bni").exists()
