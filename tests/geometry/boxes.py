"""Boxes of several proportions, for grids and surfaces."""

import torch

from bn_field_plugin.geometry import Box


def box(low: tuple[float, ...] = (-1.0, -1.0, -1.0), high: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Box:
    return torch.tensor(low), torch.tensor(high)


BOXES = {
    "cube": box(),
    "slab": box((-1, -0.9, -0.5), (2.0, 0.5, 1.0)),
    "tight": box((-0.55, -0.85, -0.35), (0.75, 0.45, 0.95)),
    "odd": box((-0.61, -1.0, -0.33), (0.93, 1.7, 1.1)),
}
