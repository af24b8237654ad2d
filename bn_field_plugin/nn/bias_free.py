"""A folded network as matrices and ReLU alone, for kernels that know neither norms nor biases."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.mlp import CoordinateMLPConfig


class BiasFreeMLP(NamedTuple):
    """A network of products and ReLU: `relu(... relu([x * scale, 1] @ first.T) ...) @ last.T + shift`."""

    matrices: list[Float[Tensor, "o i"]]
    """One `[out, in]` for each layer: `[width, d + 1]`, then `[width, width]`, at last `[outputs, width]`."""
    input_scale: Float[Tensor, " d"]
    """Powers of two, so that in half precision neither a tiny input nor a huge weight leaves the range."""
    shift: Float[Tensor, " outputs"]
    """Biases of the output layer, which need no unit since they can be added afterwards."""

    def inputs(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d+1"]:
        """What the first matrix is applied to: scaled inputs and the constant 1."""
        return F.pad(x * self.input_scale, (0, 1), value=1.0)

    def activations(self, x: Float[Tensor, "n d"]) -> list[Float[Tensor, "n o"]]:
        """Outputs of all layers, those of the last without `shift`: the oracle of kernels."""
        layers = [self.inputs(x)]
        for matrix in self.matrices[:-1]:
            layers.append(F.relu(F.linear(layers[-1], matrix)))
        return [*layers[1:], F.linear(layers[-1], self.matrices[-1])]

    def evaluate(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n outputs"]:
        """Outputs of the network."""
        return self.activations(x)[-1] + self.shift


def units_without_biases(config: CoordinateMLPConfig) -> int:
    """Units that a hidden layer needs once biases are units too.

    The first layer's biases travel with an input that is 1, the output's are added afterwards. Those between
    need one unit that is 1 in each hidden layer, which it stays through ReLU.
    """
    return config.width + (config.depth > 1)


def without_biases(weights: list[tuple[Tensor, Tensor]], width: int) -> BiasFreeMLP:
    """The network of ReLU layers with given weights and biases, without biases.

    Args:
        weights: matrix `[out, in]` and bias of each layer, output layer last (see `folded_weights`); hidden
            layers of one width, without skip connections.
        width: units of each hidden layer of the result; those that nothing needs are zero.

    Returns:
        A network that gives the same outputs as the one with biases, up to rounding.

    Raises:
        ValueError: `width` is too small, or the layers do not follow on each other.
    """
    (first, first_bias), *between, (last, last_bias) = weights
    hidden, inputs = first.shape
    constant = hidden  # index of the unit that stays 1
    if width < hidden + bool(between):
        raise ValueError(f"{hidden} units and their biases do not fit into {width}")
    if any(matrix.shape != (hidden, hidden) for matrix, _ in between) or last.shape[1] != hidden:
        raise ValueError("the layers do not follow on each other: skip connections cannot be expressed")
    largest = first.abs().amax(0)
    scale = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent)
    matrix = first.new_zeros(width, inputs + 1)
    matrix[:hidden, :inputs] = first / scale
    matrix[:hidden, inputs] = first_bias
    if between:
        matrix[constant, inputs] = 1
    matrices = [matrix]
    for weight, bias in between:
        matrix = weight.new_zeros(width, width)
        matrix[:hidden, :hidden] = weight
        matrix[:hidden, constant] = bias
        matrix[constant, constant] = 1
        matrices.append(matrix)
    matrices.append(F.pad(last, (0, width - hidden)))
    return BiasFreeMLP(matrices, scale, last_bias)
