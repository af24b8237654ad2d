"""WIRE's Gabor wavelets (Saragadam et al., CVPR 2023), complex as in the paper, and real."""

from __future__ import annotations

import torch
from torch import Tensor

from bn_field_plugin.nn.activations.activation import Activation

OMEGA, SCALE = 20.0, 10.0
"""Frequency and scale of the paper's images."""


class Wire(Activation):
    """`exp(i omega z - |wire_scale z|^2)` of real or complex `z`. Weights are drawn as PyTorch draws them."""

    network = "wire"
    title = "WIRE"
    options = ("omega", "wire_scale")
    is_complex = True

    def __init__(self, omega: float = OMEGA, wire_scale: float = SCALE) -> None:
        super().__init__()
        self.omega, self.scale = omega, wire_scale

    def forward(self, z: Tensor) -> Tensor:
        """Apply the wavelet; the result is complex."""
        real = z.real if z.is_complex() else z
        window = (self.scale * z).abs().square()
        if z.is_complex():
            # i omega z shrinks where the imaginary part of z is above 0.
            window = window + self.omega * z.imag
        return torch.exp(torch.complex(-window, self.omega * real))


class RealWire(Activation):
    """`cos(omega z) exp(-(wire_scale z)^2)`: the real part of the wavelet at real `z`."""

    network = "wire-real"
    title = "real WIRE"
    options = ("omega", "wire_scale")

    def __init__(self, omega: float = OMEGA, wire_scale: float = SCALE) -> None:
        super().__init__()
        self.omega, self.scale = omega, wire_scale

    def forward(self, z: Tensor) -> Tensor:
        """Apply the wavelet."""
        return torch.cos(self.omega * z) * torch.exp(-(self.scale * z).square())
