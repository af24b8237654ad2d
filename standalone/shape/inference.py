"""A fitted network as a solid: its inside and its surface."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float

from bn_field_plugin.geometry import grid_values, isosurface
from bn_field_plugin.nn import CoordinateMLP

POINTS_PER_CALL = 2**18
"""Number of points that go through the network at a time."""


@torch.no_grad()
def inside(network: CoordinateMLP, points: Float[np.ndarray, "n 3"], level: float) -> Bool[np.ndarray, " n"]:
    """Tell at which points a network's output is above that of the surface.

    Args:
        network: gives one output at points of the box.
        points: points of the box.
        level: output at the surface: 0 for logits, 0.5 for occupancies.
    """
    device = next(network.parameters()).device
    result = np.empty(len(points), dtype=bool)
    for start in range(0, len(points), POINTS_PER_CALL):
        part = torch.from_numpy(points[start : start + POINTS_PER_CALL].astype(np.float32)).to(device)
        result[start : start + POINTS_PER_CALL] = (network(part)[:, 0] > level).cpu().numpy()
    return result


def surface(
    network: CoordinateMLP, resolution: int, level: float, description: str = "Surface"
) -> trimesh.Trimesh | None:
    """The network's surface in the box, by marching cubes; None where it has none.

    Args:
        network: gives one output at points of the box.
        resolution: grid points along each side; memory is about 8 bytes times its cube.
        level: output at the surface.
        description: words before the progress bar.
    """
    box = (-torch.ones(3), torch.ones(3))
    device = next(network.parameters()).device
    values = grid_values(network, box, resolution, device, description)
    if not float(values.min()) < level < float(values.max()):
        return None
    return isosurface(values, box, level)
