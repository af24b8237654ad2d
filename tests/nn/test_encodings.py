"""Encodings equal their closed forms, in every dtype and under autocast."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    GaussianEncodingConfig,
    IntegratedEncodingConfig,
    NoEncoding,
    PositionalEncodingConfig,
)
from tests.laws import cases
from tests.nn.cases import ENCODINGS, coordinates


def positional(x: torch.Tensor, k: int, include_input: bool) -> torch.Tensor:
    """The definition, entry by entry."""
    parts = [[float(v) for v in x]] if include_input else []
    parts += [[math.sin(2**j * math.pi * float(v)) for v in x] for j in range(k)]
    parts += [[math.cos(2**j * math.pi * float(v)) for v in x] for j in range(k)]
    return torch.tensor([v for part in parts for v in part], dtype=torch.float64)


@cases(40, derandomize=True)
@given(
    x=st.lists(st.floats(-1, 1), min_size=1, max_size=4),
    k=st.integers(1, 8),
    include_input=st.booleans(),
)
def test_positional_encoding_is_its_closed_form(x, k, include_input):
    encoding = PositionalEncodingConfig(k, include_input).build(len(x)).double()
    x = torch.tensor(x, dtype=torch.float64)
    expected = positional(x, k, include_input)
    assert encoding.out_dim == expected.numel() == encoding(x).numel()
    torch.testing.assert_close(encoding(x), expected, rtol=0, atol=1e-12)


@cases(20, derandomize=True)
@given(d=st.integers(1, 4), features=st.integers(1, 9), scale=st.floats(0.1, 20), seed=st.integers(0, 5))
def test_gaussian_encoding_is_its_closed_form(d, features, scale, seed):
    encoding = GaussianEncodingConfig(features, scale, seed).build(d).double()
    x = coordinates(7, d)
    phase = torch.stack(
        [2 * math.pi * sum(b[i] * x[:, i] for i in range(d)) for b in encoding.frequencies], dim=-1
    )
    assert encoding.out_dim == 2 * features
    torch.testing.assert_close(encoding(x), torch.cat([phase.sin(), phase.cos()], -1), rtol=0, atol=1e-11)


def test_gaussian_frequencies_are_fixed_by_the_seed_and_have_the_scale():
    def frequencies(**options):
        return GaussianEncodingConfig(num_features=4096, **options).build(2).frequencies

    state = torch.get_rng_state()
    assert torch.equal(frequencies(seed=1), frequencies(seed=1))
    assert not torch.equal(frequencies(seed=1), frequencies(seed=2))
    assert torch.equal(state, torch.get_rng_state()), "the global generator was drawn from"
    assert frequencies(scale=3.0).std() == pytest.approx(3.0, rel=0.05)


def test_no_encoding_is_the_identity():
    encoding = NoEncoding().build(5)
    x = coordinates(4, 5)
    assert (encoding.in_dim, encoding.out_dim) == (5, 5)
    assert torch.equal(encoding(x), x)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("shape", [(3,), (0, 3), (5, 3), (2, 5, 3), (2, 0, 4, 3)])
def test_leading_dimensions_are_kept(name, shape):
    encoding = ENCODINGS[name].build(3)
    x = coordinates(*shape, dtype=torch.float32)
    y = encoding(x)
    assert y.shape == (*shape[:-1], encoding.out_dim)
    torch.testing.assert_close(y.reshape(-1, encoding.out_dim), encoding(x.reshape(-1, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["positional", "gaussian"])
def test_phases_are_formed_in_fp32_under_autocast(name, dtype):
    config = {"positional": PositionalEncodingConfig(10), "gaussian": GaussianEncodingConfig(64, 30.0)}[name]
    encoding = config.build(3)
    x = coordinates(50, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        y = encoding(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, encoding(x))
    # Half-precision coordinates are read exactly; only they, not the phases, are rounded.
    assert torch.equal(encoding(x.to(dtype)), encoding(x.to(dtype).float()))


def test_octaves_survive_a_change_of_dtype():
    config = PositionalEncodingConfig(num_frequencies=18)
    x = coordinates(50, 3, dtype=torch.float16)
    assert torch.equal(config.build(3).half()(x), config.build(3)(x))
    x64 = coordinates(50, 3)
    torch.testing.assert_close(
        config.build(3).double()(x64)[0], positional(x64[0], 18, True), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", ENCODINGS)
def test_gradient_by_the_coordinates(name):
    encoding = ENCODINGS[name].build(2).double()
    assert torch.autograd.gradcheck(encoding, coordinates(4, 2).requires_grad_())


@pytest.mark.parametrize("name", ENCODINGS)
def test_copies_and_pickled_configs_encode_alike(name):
    config = ENCODINGS[name]
    encoding = config.build(3)
    x = coordinates(6, 3, dtype=torch.float32)
    for twin in (copy.deepcopy(encoding), pickle.loads(pickle.dumps(config)).build(3)):
        assert torch.equal(twin(x), encoding(x))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_frequencies = 1


def test_gaussian_frequencies_travel_in_the_state_dict():
    a, b = (GaussianEncodingConfig(8, seed=seed).build(3) for seed in (0, 1))
    x = coordinates(6, 3, dtype=torch.float32)
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


@pytest.mark.parametrize("number", [0, -1])
def test_an_encoding_of_nothing_is_an_error_that_names_the_option(number):
    with pytest.raises(UserError, match=rf"num_frequencies is {number}"):
        PositionalEncodingConfig(number).build(3)
    with pytest.raises(UserError, match=rf"num_features is {number}"):
        GaussianEncodingConfig(number).build(3)


# The integrated encoding.


@cases(25, derandomize=True)
@given(
    k=st.integers(1, 6), include_input=st.booleans(), deviation=st.floats(0.001, 0.5), seed=st.integers(0, 9)
)
def test_the_integrated_encoding_is_the_mean_of_the_positional_one(k, include_input, deviation, seed):
    """Oracle: Gauss-Hermite quadrature, exact here to rounding."""
    mean = coordinates(5, 3, seed=seed)
    sd = deviation * (1 + coordinates(5, 3, seed=seed + 50) / 2)
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(150))
    positional = PositionalEncodingConfig(k, include_input).build(3).double()
    # Coordinates are encoded independently, so the nodes of one serve all of them.
    expected = sum(
        w * positional(mean + node * sd) for node, w in zip(nodes, weights / weights.sum(), strict=True)
    )
    encoded = IntegratedEncodingConfig(k, include_input).build(6)(torch.cat([mean, sd.square()], dim=-1))
    resolved = math.pi * 2 ** (k - 1) * float(sd.max()) < 12  # 150 nodes can integrate these
    if resolved:
        torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-9)
    assert encoded.shape == expected.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_variance_it_is_the_positional_encoding(dtype):
    x = coordinates(9, 2, dtype=dtype)
    encoded = IntegratedEncodingConfig(7).build(4)(torch.cat([x, torch.zeros_like(x)], dim=-1))
    assert torch.equal(encoded, PositionalEncodingConfig(7).build(2)(x))


def test_octaves_finer_than_a_sample_vanish():
    x = torch.cat([coordinates(9, 1), torch.full((9, 1), 0.1**2, dtype=torch.float64)], dim=-1)
    encoded = IntegratedEncodingConfig(12, include_input=False).build(2)(x)
    assert encoded[:, [0, 12]].norm(dim=-1).min() > 0.9  # the wave has half a period over the scene
    assert encoded[:, 8:12].abs().max() < 1e-30


def test_it_is_formed_in_fp32_under_autocast():
    x = torch.cat([coordinates(40, 3, dtype=torch.float32), torch.full((40, 3), 1e-4)], dim=-1)
    encoding = IntegratedEncodingConfig(10).build(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoding(x), encoding(x.float()))
        assert encoding(x).dtype == torch.float32


def test_variances_without_means_are_an_error():
    with pytest.raises(
        UserError, match="in_dim is 3: an integrated encoding takes as many variances as means"
    ):
        IntegratedEncodingConfig(4).build(3)
