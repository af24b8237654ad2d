"""A network without biases computes what the folded network computes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, NormName
from bn_field_plugin.nn.bias_free import BiasFreeMLP, units_without_biases, without_biases
from bn_field_plugin.nn.mlp import folded_weights
from tests.laws import cases
from tests.nn.cases import draw, vary

EPS = torch.finfo(torch.float32).eps


def network(dtype: torch.dtype = torch.float32, **options) -> CoordinateMLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mlp = CoordinateMLP(CoordinateMLPConfig(**options))
    return vary(mlp).to(dtype).eval()


@torch.no_grad()
def bias_free(mlp: CoordinateMLP, spare: int = 0) -> BiasFreeMLP:
    return without_biases(folded_weights(mlp), units_without_biases(mlp.config) + spare)


@cases(60)
@given(
    in_dim=st.integers(1, 40),
    out_dim=st.integers(1, 20),
    width=st.integers(1, 40),
    depth=st.integers(1, 5),
    norm=st.sampled_from(["none", "batch", "global"]),
    placement=st.sampled_from(["before", "after"]),
    spare=st.integers(0, 20),
)
def test_it_equals_the_folded_network(
    in_dim: int, out_dim: int, width: int, depth: int, norm: NormName, placement: str, spare: int
) -> None:
    """The two are equal up to rounding in double precision, so no term is lost, whatever the sizes."""
    mlp = network(
        torch.float64,
        in_dim=in_dim,
        out_dim=out_dim,
        width=width,
        depth=depth,
        norm=norm,
        placement=placement,
    )
    x = 3 * draw(17, in_dim)
    with torch.no_grad():
        expected = mlp(x)
        found = bias_free(mlp, spare).evaluate(x)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))


@pytest.mark.parametrize("depth", [1, 4])
def test_in_single_precision_too(depth: int) -> None:
    """Sums of up to 65 terms in several layers allow some tens of roundings."""
    mlp = network(in_dim=42, out_dim=33, width=64, depth=depth)
    x = draw(200, 42, dtype=torch.float32)
    with torch.no_grad():
        expected = mlp(x)
        found = bias_free(mlp).evaluate(x)
    assert (found - expected).abs().max() < 100 * EPS * expected.abs().max()


def test_a_single_hidden_layer_needs_no_unit_for_biases() -> None:
    sizes = {"in_dim": 3, "out_dim": 2, "width": 64}
    assert units_without_biases(CoordinateMLPConfig(depth=1, **sizes)) == 64
    assert units_without_biases(CoordinateMLPConfig(depth=2, **sizes)) == 65


def test_the_constant_stays_one_and_spare_units_stay_zero() -> None:
    mlp = network(in_dim=5, out_dim=2, width=8, depth=4)
    *hidden, _ = bias_free(mlp, spare=3).activations(10 * draw(30, 5, dtype=torch.float32))
    for h in hidden:
        assert h.shape == (30, 12)
        assert torch.equal(h[:, 8], torch.ones(30))
        assert torch.equal(h[:, 9:], torch.zeros(30, 3))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_tiny_and_huge_inputs_stay_within_half_precision(factor: float) -> None:
    """A new hash grid gives features below 1e-4, which batch norm multiplies by 1e4 and more."""
    mlp = network(in_dim=6, out_dim=3, width=16, depth=2)
    x = draw(50, 6, dtype=torch.float32)
    with torch.no_grad():
        expected = mlp(x)
        mlp.layers[0].linear.weight /= factor
        found = bias_free(mlp)
        torch.testing.assert_close(found.evaluate(x * factor), expected, rtol=1e-4, atol=1e-5)
    assert found.matrices[0].abs().max() < 16
    assert found.inputs(x * factor).abs().max() < 16


def test_scales_are_powers_of_two_also_where_an_input_counts_for_nothing() -> None:
    mlp = network(in_dim=4, out_dim=1, width=8, depth=1)
    with torch.no_grad():
        mlp.layers[0].linear.weight[:, 2] = 0
        found = bias_free(mlp)
        mantissa, _ = torch.frexp(found.input_scale)
        assert torch.equal(mantissa, torch.full((4,), 0.5))
        x = draw(9, 4, dtype=torch.float32)
        torch.testing.assert_close(found.evaluate(x), mlp(x))


def test_a_width_without_room_is_refused() -> None:
    weights = folded_weights(network(in_dim=3, out_dim=2, width=64, depth=3))
    with pytest.raises(ValueError, match="64 units and their biases do not fit into 64"):
        without_biases(weights, 64)


def test_skip_connections_are_refused() -> None:
    weights: list[tuple[Tensor, Tensor]] = folded_weights(
        network(in_dim=3, out_dim=2, width=8, depth=3, skips=(1,))
    )
    with pytest.raises(ValueError, match="skip connections"):
        without_biases(weights, 16)
