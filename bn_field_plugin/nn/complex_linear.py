"""A linear map with complex weights, learned as two real ones: optimizers and kernels meet real ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Complex
from torch import Tensor, nn


class ComplexLinear(nn.Module):
    """`x W^T + b` with complex `x`, `W` and `b`; real and imaginary parts are drawn as PyTorch draws them.

    Args:
        in_features: inputs.
        out_features: outputs.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.real = nn.Linear(in_features, out_features)
        self.imag = nn.Linear(in_features, out_features)

    @property
    def weight(self) -> Complex[Tensor, "c d"]:
        """The complex weight."""
        return torch.complex(self.real.weight, self.imag.weight)

    @property
    def bias(self) -> Complex[Tensor, " c"]:
        """The complex bias."""
        return torch.complex(self.real.bias, self.imag.bias)

    def forward(self, x: Complex[Tensor, "*batch d"]) -> Complex[Tensor, "*batch c"]:
        """Apply the map."""
        return F.linear(x, self.weight, self.bias)
