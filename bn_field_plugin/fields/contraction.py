"""Contraction of all of space into a cube (Barron et al. 2022, eq. 10, by the largest coordinate)."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.utils.math import Gaussians
from torch import Tensor


class CubeContraction(SceneContraction):
    """Keeps points of [-1, 1]^3 in place and takes all others into [-2, 2]^3.

    The same map as nerfstudio's `SceneContraction` with the infinity norm, but without its reduction over
    three numbers, which takes most of the time on a CPU.
    """

    def __init__(self) -> None:
        super().__init__(order=float("inf"))

    def forward(self, positions: Any) -> Any:
        """Contracted positions, [..., 3]; Gaussians are handed to nerfstudio's contraction."""
        if isinstance(positions, Gaussians):
            return super().forward(positions)  # type: ignore[no-untyped-call]  # nerfstudio's has no types
        return contract(positions)


def contract(x: Tensor) -> Tensor:
    """`x` where its largest coordinate m is below 1, else `(2 - 1/m) x/m`."""
    first, second, third = x.abs().unbind(dim=-1)
    largest = torch.maximum(torch.maximum(first, second), third).clamp_min(1.0)
    return x * ((2 - 1 / largest) / largest)[..., None]
