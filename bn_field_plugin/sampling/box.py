"""Where rays enter and leave a box."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def crossing(
    origins: Float[Tensor, "*batch 3"], directions: Float[Tensor, "*batch 3"], aabb: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Distances at which rays enter and leave a box; entry beyond exit where they miss."""
    # A component of zero would divide 0 by 0 where the ray runs in a face of the box. A tiny one gives a
    # number there, and elsewhere distances so large that the minimum and maximum leave them aside.
    safe = torch.where(directions == 0, torch.full_like(directions, 1e-12), directions)
    low, high = (aabb[0] - origins) / safe, (aabb[1] - origins) / safe
    return torch.minimum(low, high).amax(dim=-1), torch.maximum(low, high).amin(dim=-1)
