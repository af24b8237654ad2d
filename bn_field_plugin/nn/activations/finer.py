"""FINER's sine of variable frequency (Liu et al., CVPR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bn_field_plugin.nn.activations.activation import Activation, draw_for_sines


class Finer(Activation):
    """`sin(omega * (|z| + 1) * z)`: the further from 0, the faster.

    The derivative is the function's own; the published code takes `|z|` for constant in it.
    """

    network = "finer"
    title = "FINER"
    options = ("omega", "finer_bias")

    def __init__(self, omega: float = 30.0, finer_bias: float = 1.0) -> None:
        super().__init__()
        self.omega, self.finer_bias = omega, finer_bias

    def forward(self, z: Tensor) -> Tensor:
        """Apply the sine."""
        return torch.sin(self.omega * (z.abs() + 1) * z)

    @torch.no_grad()
    def draw(self, weight: Tensor, bias: Tensor, is_first: bool) -> None:
        """Weights as SIREN's; the first biases uniform in +-finer_bias, so that units differ in speed."""
        draw_for_sines(weight, self.omega, is_first)
        if is_first:
            nn.init.uniform_(bias, -self.finer_bias, self.finer_bias)
