"""Evaluation in whole numbers: sums are exact in any order, and results are near the network's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from standalone.image.codec import exact
from standalone.image.codec.exact import (
    ACTIVATION_BITS,
    HALF_BITS,
    MAX_INPUTS,
    CodedLayer,
    CodedTensor,
    sin_pi,
)
from standalone.image.codec.quantization import half_precision, with_exponents
from standalone.image.coordinates import SampleGrid
from tests.standalone.image.pictures import folded


def test_the_bounds_keep_sums_exact() -> None:
    assert 2**ACTIVATION_BITS * 2**HALF_BITS * MAX_INPUTS <= 2**53


@given(seed=st.integers(0, 1000), inputs=st.integers(1, 60))
def test_a_layer_is_the_sum_in_python_integers(seed: int, inputs: int) -> None:
    draw = np.random.default_rng(seed)
    limit = exact.WEIGHT_LIMIT
    weight = draw.integers(-limit + 1, limit, (3, inputs))
    bias = draw.integers(-limit + 1, limit, 3)
    x = draw.uniform(-2, 2, (4, inputs))
    layer = CodedLayer(CodedTensor(weight, 2.0**-24), CodedTensor(bias, 2.0**-24), 20)
    top = 2**ACTIVATION_BITS - 1
    whole = [[max(-top, min(top, int(np.rint(v * 2.0**20)))) for v in row] for row in x]
    lower = [[(int(w) + 2**19) % 2**20 - 2**19 for w in row] for row in weight]
    upper = [
        [(int(w) - low) >> HALF_BITS for w, low in zip(*rows, strict=True)]
        for rows in zip(weight, lower, strict=True)
    ]
    for n in range(4):
        for c in range(3):
            low = sum(a * w for a, w in zip(whole[n], lower[c], strict=True))
            high = sum(a * w for a, w in zip(whole[n], upper[c], strict=True))
            total = float(low) + float(high) * 2.0**HALF_BITS if any(map(any, upper)) else float(low)
            assert layer(x)[n, c] == total * (2.0**-24 * 2.0**-20) + float(bias[c]) * 2.0**-24


@pytest.mark.parametrize("name", ["mlp", "pemlp-5", "siren"])
def test_no_order_of_points_or_inputs_and_no_blocking_changes_a_bit(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    points = SampleGrid(30, 40).points(0, 1200)
    network = with_exponents(half_precision(folded(name, width=24)), points)
    values = network(points)
    order = np.random.default_rng(0).permutation(1200)
    np.testing.assert_array_equal(network(points[order]), values[order])
    monkeypatch.setattr(exact, "BLOCK", 7)
    np.testing.assert_array_equal(network(points), values)
    one = np.concatenate([network(points[k : k + 1]) for k in range(5)])  # one by one
    np.testing.assert_array_equal(one, values[:5])


@pytest.mark.parametrize("name", ["mlp", "pemlp-5", "siren"])
def test_it_is_near_the_network(name: str) -> None:
    network = folded(name, width=16)
    grid = SampleGrid(20, 30)
    points = grid.points(0, 600)
    coded = with_exponents(half_precision(network), points)
    for linear, layer in zip(network.linears, coded.layers, strict=True):
        linear.weight.data.copy_(torch.from_numpy(layer.weight.values))
        linear.bias.data.copy_(torch.from_numpy(layer.bias.values))
    np.testing.assert_allclose(coded(points), network.double()(torch.from_numpy(points)).detach(), atol=2e-4)


def test_the_sine_is_the_sine() -> None:
    t = np.concatenate([np.linspace(-3, 3, 10_001), [1e6 + 0.25, -0.5, 0.5, 1.0, 0.0]])
    np.testing.assert_allclose(sin_pi(t), np.sin(np.pi * (t - 2 * np.rint(t / 2))), rtol=0, atol=1e-15)
    assert (sin_pi(np.array([1e300, -1e300])) == 0).all()  # huge floats are even numbers


def test_inputs_beyond_the_range_are_those_at_its_end() -> None:
    layer = CodedLayer(
        CodedTensor(np.full((1, 2), exact.WEIGHT_LIMIT - 1), 2.0**8), CodedTensor(np.zeros(1, int), 1.0), 100
    )
    end = 2.0**exact.ACTIVATION_BITS - 1
    for sign in (1, -1):
        expected = sign * 2 * end * float(exact.WEIGHT_LIMIT - 1) * 2.0**8 * 2.0**-100
        for size in (end * 2.0**-100, 1e200, np.inf):
            np.testing.assert_allclose(layer(np.full((1, 2), sign * size)), expected, rtol=1e-15)
