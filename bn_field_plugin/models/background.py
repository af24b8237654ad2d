"""Colours without the background, for exports."""

from __future__ import annotations

import torch
from torch import Tensor


def rgba_without_background(
    outputs: dict[str, Tensor], background_color: str | Tensor, output_name: str = "rgb"
) -> Tensor:
    """Colour without the background, and opacity.

    nerfstudio's function takes every ray as opaque where the background is a fixed colour, and so exports
    points of the background.

    Args:
        outputs: outputs of a model: colours over the background, and `accumulation`.
        background_color: background of the renderer: white, black, last_sample or random.
        output_name: name of the colours in `outputs`.

    Returns:
        Colour and opacity, (..., 4), in [0, 1].
    """
    accumulation = outputs[output_name.replace("rgb", "accumulation")]
    rgb = outputs[output_name]
    if background_color in ("white", "black"):
        background = 1.0 if background_color == "white" else 0.0
        rgb = rgb - background * (1 - accumulation)
    if background_color != "last_sample":
        rgb = rgb / accumulation.clamp_min(1e-10)
    return torch.cat((rgb.clamp(0, 1), accumulation), dim=-1)
