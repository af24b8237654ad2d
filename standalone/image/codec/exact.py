"""Evaluating a coded network so that every machine gets the same bits.

A sum of floating-point products depends on its order, which a matrix library may choose as it likes. Here the
products are of whole numbers and their sums stay below 2^53, where fp64 is exact in any order, blocked,
threaded or fused; everything else is one correctly rounded operation (IEEE 754) at a time. Sines are
polynomials of such operations, since those of the C libraries differ in the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

Activations = Float64[np.ndarray, "n c"]
"""Values of a layer's units at n points."""

HALF_BITS = 20
"""Bits of each of the two parts into which a weight's integer is split."""

WEIGHT_LIMIT = 2 ** (2 * HALF_BITS)
"""Bound of a weight's integer: a sum of products of one part stays below 2^53 for 1024 inputs."""

ACTIVATION_BITS = 22
"""Bits of a layer's input as a whole number; larger inputs are clipped."""

MAX_INPUTS = 1024
"""Most inputs of a layer, so that a sum stays below 2^53: 2^22 * 2^20 * 2^10 is 2^52."""

COORDINATE_EXPONENT = 20
"""Coordinates, sines and cosines are whole multiples of 2^-20."""

BLOCK = 8192
"""Number of points that go through the network at a time."""


@dataclass(frozen=True)
class CodedTensor:
    """Numbers that are whole multiples of a step."""

    integers: Int64[np.ndarray, "..."]
    """The multiples, whose absolute values are below `WEIGHT_LIMIT`."""
    step: float
    """The step: the number for which the integer 1 stands."""

    @property
    def values(self) -> Float64[np.ndarray, "..."]:
        """The numbers, as products of integers and step."""
        return self.integers.astype(np.float64) * self.step


@dataclass(frozen=True)
class CodedLayer:
    """A linear layer in whole numbers."""

    weight: CodedTensor
    """Matrix, [outputs, inputs]."""
    bias: CodedTensor
    """Shift of each output."""
    exponent: int = COORDINATE_EXPONENT
    """The input is rounded to multiples of 2^-exponent."""

    @cached_property
    def _halves(self) -> tuple[Activations | None, Activations]:
        """Upper and lower part of the transposed matrix; None for the upper where it is zero."""
        half = 2 ** (HALF_BITS - 1)
        lower = (self.weight.integers + half) % (2 * half) - half
        upper = (self.weight.integers - lower) // (2 * half)
        return upper.T.astype(np.float64) if upper.any() else None, lower.T.astype(np.float64)

    def __call__(self, x: Activations) -> Float64[np.ndarray, "n o"]:
        """Apply the layer."""
        limit = 2.0**ACTIVATION_BITS - 1
        whole = np.clip(np.rint(x * 2.0**self.exponent), -limit, limit)
        upper, lower = self._halves
        total = whole @ lower
        if upper is not None:
            total = total + (whole @ upper) * 2.0**HALF_BITS
        products: np.ndarray = total * (self.weight.step * 2.0**-self.exponent) + self.bias.values
        return products


@dataclass(frozen=True)
class CodedNetwork:
    """A coordinate network without norms, in whole numbers."""

    frequencies: int
    """Octaves of the positional encoding; 0 for bare coordinates."""
    omega: float
    """Frequency of the sine activation; 0 for ReLU."""
    layers: tuple[CodedLayer, ...]
    """Hidden layers in order, then the output layer."""

    def features(self, x: Float64[np.ndarray, "n 2"]) -> Activations:
        """Encoded coordinates, in the order of `nn.PositionalEncoding`."""
        if self.frequencies == 0:
            return x
        phases = np.concatenate([x * 2.0**octave for octave in range(self.frequencies)], axis=1)
        return np.concatenate([x, sin_pi(phases), sin_pi(phases + 0.5)], axis=1)

    def activate(self, z: Activations) -> Activations:
        """Activation of a hidden layer."""
        return np.maximum(z, 0.0) if self.omega == 0 else sin_pi(z * (self.omega / math.pi))

    def __call__(self, x: Float64[np.ndarray, "n 2"]) -> Activations:
        """Outputs at coordinates, the same on every machine."""
        return np.concatenate([self._block(x[at : at + BLOCK]) for at in range(0, len(x), BLOCK)])

    def _block(self, x: Float64[np.ndarray, "n 2"]) -> Activations:
        h = self.features(x)
        for layer in self.layers[:-1]:
            h = self.activate(layer(h))
        return self.layers[-1](h)


def _sine_coefficients() -> list[float]:
    """Taylor's coefficients of sin(pi t) / t in t^2, each the fp64 number nearest to the true one."""
    pi = Fraction(31415926535897932384626433832795028841971693993751, 10**49)
    return [float((-1) ** k * pi ** (2 * k + 1) / math.factorial(2 * k + 1)) for k in range(12)]


_SINE = _sine_coefficients()


def sin_pi(t: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """sin(pi t), to 1e-15, in operations that are rounded alike everywhere."""
    t = t - 2.0 * np.rint(0.5 * t)  # shifted into [-1, 1] by whole periods, without rounding
    t = np.where(np.abs(t) > 0.5, np.copysign(1.0, t) - t, t)
    square = t * t
    total: np.ndarray = np.full_like(t, _SINE[-1])
    for coefficient in reversed(_SINE[:-1]):
        total = total * square
        total = total + coefficient
    sine: np.ndarray = total * t
    return sine
