"""Rounding: derivatives equal autograd's, errors are as predicted, and gradients pass through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bn_field_plugin import CoordinateMLP, UserError
from standalone.image.codec.quantization import (
    check_codable,
    half_precision,
    quantised,
    round_in_training,
    sensitivities,
    steps_for_bits,
    steps_for_error,
    with_exponents,
)
from standalone.image.coordinates import SampleGrid
from standalone.networks import Variant
from tests.standalone.image.pictures import folded

GRID = SampleGrid(24, 32)
POINTS = GRID.points(0, GRID.num_points)
X = torch.from_numpy(POINTS.astype(np.float32))


def test_sensitivities_are_mean_squares_of_derivatives() -> None:
    mlp = folded("mlp", width=6, depth=2, channels=2)
    x = X[::100]
    found = sensitivities(mlp, x)
    outputs = mlp(x)
    parameters = [p for linear in mlp.linears for p in (linear.weight, linear.bias)]
    exact = torch.zeros(len(parameters))
    for output in outputs.flatten():
        grads = torch.autograd.grad(output, parameters, retain_graph=True)
        exact += torch.stack([grad.square().mean() for grad in grads])
    exact /= outputs.numel()
    flat = torch.tensor(found).flatten()
    torch.testing.assert_close(flat, exact, rtol=0.6, atol=1e-7)
    assert flat.sum() == pytest.approx(float(exact.sum()), rel=0.4)


@pytest.mark.parametrize("error", [1e-6, 1e-4])
def test_rounding_adds_the_error_that_was_asked_for(error: float) -> None:
    mlp = folded("pemlp-3", width=24, depth=3)
    steps = steps_for_error(mlp, sensitivities(mlp, X), error)
    rounded = with_exponents(quantised(mlp, steps), POINTS)(POINTS)
    added = np.square(rounded - mlp(X).detach().numpy()).mean()
    assert error / 3 < added < 2 * error


def test_bits_are_levels() -> None:
    mlp = folded()
    for bits in (2, 8, 16):
        network = quantised(mlp, steps_for_bits(mlp, bits))
        for layer in network.layers:
            assert np.abs(layer.weight.integers).max() <= 2 ** (bits - 1)
    with pytest.raises(UserError, match="2 to 16"):
        steps_for_bits(mlp, 17)


def test_half_precision_is_numpys() -> None:
    mlp = folded()
    network = half_precision(mlp)
    halves = mlp.linears[1].weight.detach().numpy().astype(np.float16).astype(np.float64)
    np.testing.assert_array_equal(network.layers[1].weight.values, halves)
    mlp.linears[0].weight.data[0, 0] = 1e6
    with pytest.raises(UserError, match="fp16"):
        half_precision(mlp)


def test_training_with_rounding_uses_rounded_numbers_and_learns() -> None:
    mlp = folded(width=8)
    steps = steps_for_bits(mlp, 4)
    coded = quantised(mlp, steps)
    round_in_training(mlp, steps)
    for linear, layer in zip(mlp.linears, coded.layers, strict=True):
        np.testing.assert_allclose(linear.weight.detach().numpy(), layer.weight.values, rtol=1e-6)
    mlp.train()
    mlp(X).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mlp.parameters())
    again = quantised(mlp, steps)
    for a, b in zip(again.layers, coded.layers, strict=True):
        np.testing.assert_array_equal(a.weight.integers, b.weight.integers)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp+layer", "norm layer"),
        ("mlp+cross", "norm cross"),
        ("fourier", "Fourier"),
        ("hash-6", "hash grids"),
        ("wire", "complex numbers"),
        ("gauss", "such activations"),
    ],
)
def test_networks_that_the_format_does_not_hold_are_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_codable(CoordinateMLP(Variant.parse(name).config(2, 3, 8, 2)))
