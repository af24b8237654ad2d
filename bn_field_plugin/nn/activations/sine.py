"""SIREN's sine (Sitzmann et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from bn_field_plugin.nn.activations.activation import Activation, draw_for_sines


class Sine(Activation):
    """`sin(omega * z)`."""

    network = "siren"
    title = "SIREN"
    options = ("omega",)

    def __init__(self, omega: float = 30.0) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, z: Tensor) -> Tensor:
        """Apply the sine."""
        return torch.sin(self.omega * z)

    def draw(self, weight: Tensor, bias: Tensor, is_first: bool) -> None:
        """Phases `omega * z` of hidden layers get a standard deviation of about 1, at any depth."""
        draw_for_sines(weight, self.omega, is_first)
