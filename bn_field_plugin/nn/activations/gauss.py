"""The Gaussian activation (Ramasinghe & Lucey, ECCV 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from bn_field_plugin.nn.activations.activation import Activation


class Gauss(Activation):
    """`exp(-z^2 / (2 sigma^2))`. Its paper asks for no initialisation of its own: weights are PyTorch's."""

    network = "gauss"
    title = "Gauss"
    options = ("gauss_sigma",)

    def __init__(self, gauss_sigma: float = 0.05) -> None:
        super().__init__()
        self.sigma = gauss_sigma

    def forward(self, z: Tensor) -> Tensor:
        """Apply the Gaussian."""
        return torch.exp(-0.5 * (z / self.sigma).square())
