"""Values of a function of space at the points of a regular grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.progress import track

POINTS_PER_CALL = 2**18
"""Number of points at which the function is evaluated in one call."""

Box = tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]
"""A box, as its lowest and its highest corner."""


@torch.no_grad()
def grid_values(
    function: Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n 1"]],
    box: Box,
    resolution: int,
    device: torch.device | str = "cpu",
    description: str = "Grid",
) -> Float[np.ndarray, "x y z"]:
    """Values at the points of a regular grid that spans a box, slab by slab.

    Args:
        function: gives a value for each of some points.
        box: corners of the box; the grid's outermost points lie on its faces.
        resolution: points along the longest side, at least 2; the other sides have cubic cells too.
        device: device on which the function is evaluated.
        description: words for the progress, which is shown on standard error.

    Returns:
        fp32 values on the host: 4 bytes a point, and slabs of `POINTS_PER_CALL` on the device.
    """
    low, high = (corner.double() for corner in box)
    cell = float((high - low).max()) / (resolution - 1)
    sizes = [max(2, round(float(side) / cell) + 1) for side in high - low]
    axes = [
        torch.linspace(float(a), float(b), n, device=device) for a, b, n in zip(low, high, sizes, strict=True)
    ]
    plane = torch.stack(torch.meshgrid(axes[1], axes[2], indexing="ij"), dim=-1).reshape(-1, 2)
    out = np.empty(sizes, dtype=np.float32)
    for index in track(range(sizes[0]), description):
        points = torch.cat([axes[0][index].expand(len(plane), 1), plane], dim=-1)
        values = torch.cat([function(part) for part in points.split(POINTS_PER_CALL)])
        out[index] = values.reshape(sizes[1], sizes[2]).float().cpu().numpy()
    return out
