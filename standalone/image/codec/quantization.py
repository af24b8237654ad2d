"""Rounding of a trained network to whole numbers: choice of each tensor's step, and training with rounding.

A step D in a tensor moves each of its numbers by a uniform error of variance D^2 / 12. With s the mean square
derivative of an output by a number of the tensor, the n numbers of the tensor add n s D^2 / 12 to the squared
error of an output. At a given sum, the fewest bits are spent where every number adds the same:
D = sqrt(12 E / (N s)), E the error added in all, N the count of all numbers (reverse water-filling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    GaussianEncodingConfig,
    HashGridEncodingConfig,
    PositionalEncodingConfig,
)
from bn_field_plugin.nn.activations import ACTIVATIONS, Sine
from standalone.image.codec.bitstream import HALF_STEP, half_integers, step_index, step_of
from standalone.image.codec.entropy import LARGEST
from standalone.image.codec.exact import (
    ACTIVATION_BITS,
    COORDINATE_EXPONENT,
    CodedLayer,
    CodedNetwork,
    CodedTensor,
)

Steps = list[tuple[float, float]]
"""Steps of weight and bias of each linear layer, output layer last."""

PROBES = 16
"""Number of random sign vectors over which squared derivatives are averaged."""


def check_codable(network: CoordinateMLP) -> None:
    """Refuse networks that the file format does not hold.

    Raises:
        UserError: the network has a norm that depends on the sample, or skip layers, or `check_architecture`
            refuses it.
    """
    config = network.config
    if any(layer.norm is not None for layer in network.hidden_layers):
        raise UserError(f"--norm {config.norm} cannot be folded away: encode with none, batch or global")
    check_architecture(config)
    if config.skips:
        raise UserError("the file format has no skip layers")


def check_architecture(config: CoordinateMLPConfig) -> None:
    """Refuse kinds of networks that the file format does not hold, whatever their norm.

    Raises:
        UserError: the activation is neither ReLU nor sine, or there is an encoding other than the positional.
    """
    if config.activation not in ("relu", "sine"):
        numbers = "complex numbers" if ACTIVATIONS[config.activation].is_complex else "such activations"
        raise UserError(
            f"the file format has no {numbers} (activation {config.activation}): encode mlp, pemlp-K or siren"
        )
    if isinstance(config.encoding, HashGridEncodingConfig):
        raise UserError("the file format has no hash grids: encode mlp, pemlp-K or siren")
    if isinstance(config.encoding, GaussianEncodingConfig):
        raise UserError("the file format has no random Fourier features: encode mlp, pemlp-K or siren")
    if isinstance(config.encoding, PositionalEncodingConfig) and not config.encoding.include_input:
        raise UserError("the file format needs an encoding that keeps the coordinates")


def sensitivities(
    network: CoordinateMLP, coordinates: Float[Tensor, "n 2"], seed: int = 0
) -> list[tuple[float, float]]:
    """Mean square derivative of an output by a number of each weight and bias, averaged over points.

    Estimated with random signs v: the square of d(v . y)/dw has the sum of squares of all dy/dw as its mean
    (Hutchinson).

    Args:
        network: a network without norms.
        coordinates: points to average over.
        seed: seed of the signs.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for linear in network.linears for p in (linear.weight, linear.bias)]
    totals = [0.0] * len(parameters)
    with torch.enable_grad():
        outputs = network(coordinates)
        for probe in range(PROBES):
            signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs) * 2 - 1
            grads = torch.autograd.grad(outputs, parameters, signs, retain_graph=probe + 1 < PROBES)
            for index, grad in enumerate(grads):
                totals[index] += float(grad.double().square().mean())
    means = [total / (PROBES * outputs.numel()) for total in totals]
    return list(zip(means[::2], means[1::2], strict=True))


def steps_for_error(
    network: CoordinateMLP, sensitivity: Sequence[tuple[float, float]], error: float
) -> Steps:
    """Steps, from the file format's table, that together add about a given mean square error.

    Args:
        network: a network without norms.
        sensitivity: result of `sensitivities`.
        error: mean square error of an output to add, in the network's units.
    """
    count = sum(p.numel() for p in network.parameters())
    found = []
    for linear, (weight, bias) in zip(network.linears, sensitivity, strict=True):
        pair = []
        for tensor, s in ((linear.weight, weight), (linear.bias, bias)):
            wanted = math.sqrt(12 * error / (count * s)) if s > 0 else math.inf
            largest = float(tensor.detach().abs().max())
            # The step is kept so fine that not all numbers become zero, and so coarse that integers fit the
            # coder.
            wanted = min(max(wanted, largest / (0.9 * LARGEST)), max(largest, 1e-6))
            pair.append(step_of(step_index(wanted)))
        found.append((pair[0], pair[1]))
    return found


def steps_for_bits(network: CoordinateMLP, bits: int) -> Steps:
    """Steps that give each tensor 2^bits levels from minus to plus its largest number.

    Raises:
        UserError: bits outside 2 to 16.
    """
    if not 2 <= bits <= 16:
        raise UserError(f"--precision {bits}: bits are 2 to 16, or give auto or fp16")

    def step(tensor: Tensor) -> float:
        largest = float(tensor.detach().abs().max())
        levels = min(2 ** (bits - 1) - 1, LARGEST - 1)
        return step_of(min(255, step_index(largest / levels) + 1))

    return [(step(linear.weight), step(linear.bias)) for linear in network.linears]


def quantised(network: CoordinateMLP, steps: Steps) -> CodedNetwork:
    """The network with its numbers rounded to multiples of the steps.

    Raises:
        UserError: see `check_codable`.
    """
    check_codable(network)
    layers = []
    for linear, (weight, bias) in zip(network.linears, steps, strict=True):
        layers.append(CodedLayer(_multiples(linear.weight, weight), _multiples(linear.bias, bias)))
    return _coded(network, layers)


def half_precision(network: CoordinateMLP) -> CodedNetwork:
    """The network with its numbers rounded to fp16.

    Raises:
        UserError: see `check_codable`; or a number beyond fp16's range.
    """
    check_codable(network)
    layers = []
    for linear in network.linears:
        layers.append(CodedLayer(_halves(linear.weight), _halves(linear.bias)))
    return _coded(network, layers)


def _multiples(tensor: Tensor, step: float) -> CodedTensor:
    values = tensor.detach().double().cpu().numpy()
    return CodedTensor(np.rint(values / step).astype(np.int64), step)


def _halves(tensor: Tensor) -> CodedTensor:
    with np.errstate(over="ignore"):
        halves = tensor.detach().double().cpu().numpy().astype(np.float16)
    if not np.isfinite(halves).all():
        raise UserError("a weight is beyond the range of fp16: use --precision auto")
    return CodedTensor(half_integers(halves), HALF_STEP)


def _coded(network: CoordinateMLP, layers: Sequence[CodedLayer]) -> CodedNetwork:
    encoding = network.config.encoding
    frequencies = encoding.num_frequencies if isinstance(encoding, PositionalEncodingConfig) else 0
    activation = network.hidden_layers[0].activation
    omega = float(np.float32(activation.omega)) if isinstance(activation, Sine) else 0.0
    return CodedNetwork(frequencies, omega, tuple(layers))


def with_exponents(network: CodedNetwork, x: np.ndarray) -> CodedNetwork:
    """The network with the exponents of its layers' inputs chosen by their sizes at given points.

    A quarter of the range is left as room for larger values between the given points.

    Args:
        network: the network.
        x: coordinates, [n, 2] in fp64.
    """
    h = network.features(x)
    layers = []
    for index, layer in enumerate(network.layers):
        exponent = COORDINATE_EXPONENT
        largest = float(np.abs(h).max(initial=0.0))
        if index > 0 and network.omega == 0 and largest > 0:
            exponent = ACTIVATION_BITS - 1 - math.ceil(math.log2(1.25 * largest))
            exponent = min(max(exponent, -100), 100)
        layers.append(CodedLayer(layer.weight, layer.bias, exponent))
        if index + 1 < len(network.layers):
            h = network.activate(layers[-1](h))
    return CodedNetwork(network.frequencies, network.omega, tuple(layers))


class RoundedToStep(nn.Module):
    """A tensor as rounded multiples of a step; gradients pass as if nothing were rounded.

    What is learned is the tensor in units of its step, so that one learning rate suits all tensors.
    """

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, multiples: Tensor) -> Tensor:
        """The tensor."""
        return self.step * (multiples + (multiples.round() - multiples).detach())

    def right_inverse(self, tensor: Tensor) -> Tensor:
        """The multiples, not rounded."""
        return tensor / self.step


def round_in_training(network: CoordinateMLP, steps: Steps) -> None:
    """Make a network without norms round its numbers to the steps in each pass, while it is trained."""
    for linear, (weight, bias) in zip(network.linears, steps, strict=True):
        parametrize.register_parametrization(linear, "weight", RoundedToStep(weight))
        parametrize.register_parametrization(linear, "bias", RoundedToStep(bias))
