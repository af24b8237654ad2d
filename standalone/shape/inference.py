"""A fitted network as a solid: its inside and its surface."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float

from bn_field_plugin.geometry import grid_values, isosurface
from bn_field_plugin.nn import CoordinateMLP

POINTS_PER_CALL = 2**18
"""Points that go through the network at a time."""


@torch.no_grad()
def inside(network: CoordinateMLP, points: Float[np.ndarray, "n 3"], level: float) -> Bool[np.ndarray, " n"]:
    """Tell which points a network takes for inside.

    Args:
        network: from points of the box to one output.
        points: points of the box.
        level: output of the surface: 0 for logits, 0.5 for occupancies.
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
        network: from points of the box to one output.
        resolution: grid points along each side; memory is about 4 bytes times its cube, twice.
        level: output of the surface.
        description: what the progress bar says.
    """
    box = (-torch.ones(3), torch.ones(3))
    device = next(network.parameters()).device
    values = grid_values(network, box, resolution, device, description)
    if not float(values.min()) < level < float(values.max()):
        return None
    return isosurface(values, box, level)
