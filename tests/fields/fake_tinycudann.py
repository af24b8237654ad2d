"""A stand-in for tinycudann: its fully fused MLP from the same parameters, in half precision, anywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 16
WIDTHS = (16, 32, 64, 128)


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def half_product(h: Tensor, matrix: Tensor) -> Tensor:
    """A product as tensor cores compute it: after each sixteen terms the sum is rounded to half."""
    total = h.new_zeros(h.shape[0], matrix.shape[0])
    for start in range(0, h.shape[1], ALIGNMENT):
        block = slice(start, start + ALIGNMENT)
        total = (total.float() + h[:, block].float() @ matrix[:, block].float().T).half()
    return total


class Network(nn.Module):
    """Parameters lie matrix after matrix, rows first: [width, inputs], [width, width]..., [outputs, width].

    As in the library, inputs are padded to multiples of 16 with ones, and padded outputs have no meaning.
    """

    def __init__(
        self, n_input_dims: int, n_output_dims: int, network_config: dict[str, Any], seed: int = 1337
    ) -> None:
        super().__init__()
        assert network_config["otype"] == "FullyFusedMLP"
        assert (network_config["activation"], network_config["output_activation"]) == ("ReLU", "None")
        width, depth = network_config["n_neurons"], network_config["n_hidden_layers"]
        if width not in WIDTHS:
            raise RuntimeError(f"FullyFusedMLP only supports 16, 32, 64, and 128 neurons, but got {width}.")
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        self.shapes = [
            (width, padded(n_input_dims)),
            *[(width, width)] * (depth - 1),
            (padded(n_output_dims), width),
        ]
        generator = torch.Generator().manual_seed(seed)
        size = sum(rows * columns for rows, columns in self.shapes)
        self.params = nn.Parameter(torch.rand(size, generator=generator) / 10)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.n_input_dims
        ones = x.new_ones(len(x), padded(self.n_input_dims) - self.n_input_dims)
        h = torch.cat([x.float(), ones], dim=1).half()
        matrices = self.params.half().split([rows * columns for rows, columns in self.shapes])
        for index, (matrix, shape) in enumerate(zip(matrices, self.shapes, strict=True)):
            h = half_product(h, matrix.view(shape))
            if index < len(self.shapes) - 1:
                h = h.relu()
        return h[:, : self.n_output_dims]
