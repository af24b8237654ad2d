"""Activations equal their formulas, and their papers' initialisations suit any depth."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, batch_statistics
from bn_field_plugin.nn.activations import ACTIVATIONS, OPTIONS, ActivationName
from bn_field_plugin.nn.activations.activation import draw_for_sines
from bn_field_plugin.nn.activations.finer import Finer
from bn_field_plugin.nn.activations.gauss import Gauss
from bn_field_plugin.nn.activations.relu import Relu
from bn_field_plugin.nn.activations.sine import Sine
from bn_field_plugin.nn.activations.wire import RealWire, Wire
from bn_field_plugin.nn.mlp import START_POINTS
from tests.nn.cases import NORMED, draw

REAL = [name for name, kind in ACTIVATIONS.items() if not kind.is_complex]
SCALED = [name for name in REAL if not ACTIVATIONS[name].keeps_scale]


def fresh(activation: str, **options) -> CoordinateMLP:
    torch.manual_seed(0)
    settings = {"in_dim": 2, "out_dim": 3, "width": 16, "depth": 3, "norm": "none", "init": "paper"} | options
    return CoordinateMLP(CoordinateMLPConfig(activation=activation, **settings))


def box(count: int = START_POINTS) -> torch.Tensor:
    """Points over which the norms' first statistics are taken."""
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_type_checkers_know_the_names_of_the_table() -> None:
    assert get_args(ActivationName) == tuple(ACTIVATIONS)


@pytest.mark.parametrize("name", REAL)
def test_slopes_are_quotients_of_small_differences(name: str) -> None:
    activation, z, step = ACTIVATIONS[name](), 0.2 * draw(100), 1e-6
    with torch.no_grad():
        truth = (activation(z + step) - activation(z - step)) / (2 * step)
        torch.testing.assert_close(activation.slope(z), truth, rtol=1e-6, atol=1e-6)


def test_formulas_at_a_point() -> None:
    z = torch.tensor([-0.3], dtype=torch.float64)
    assert float(Sine(30.0)(z)) == pytest.approx(math.sin(-9.0))
    assert float(Finer(30.0)(z)) == pytest.approx(math.sin(30 * 1.3 * -0.3))
    assert float(Gauss(0.1)(z)) == pytest.approx(math.exp(-4.5))
    assert float(RealWire(20.0, 10.0)(z)) == pytest.approx(math.cos(6.0) * math.exp(-9.0))
    assert float(Relu()(z)) == 0


def test_wire_is_the_papers_wavelet_of_complex_numbers() -> None:
    z = 0.1 * torch.complex(draw(50), draw(50, seed=1))
    truth = torch.exp(1j * 20.0 * z - (10.0 * z.abs()).square())
    torch.testing.assert_close(Wire(20.0, 10.0)(z), truth)
    real = z.real
    torch.testing.assert_close(Wire(20.0, 10.0)(real), Wire(20.0, 10.0)(real + 0j))
    torch.testing.assert_close(Wire(20.0, 10.0)(real).real, RealWire(20.0, 10.0)(real))


def test_finer_is_faster_further_out() -> None:
    """The first zeros are the solutions of (z + 1) z = k pi / omega."""
    finer = Finer(30.0)
    zeros = torch.tensor(
        [-0.5 + math.sqrt(0.25 + k * math.pi / 30) for k in range(1, 9)], dtype=torch.float64
    )
    assert finer(zeros).abs().max() < 1e-12
    assert (zeros.diff().diff() < 0).all()


@pytest.mark.parametrize("first", [True, False])
def test_sines_draw_uniform_weights(first: bool) -> None:
    torch.manual_seed(0)
    weight = torch.empty(400, 50)
    draw_for_sines(weight, 30.0, first)
    bound = 1 / 50 if first else math.sqrt(6 / 50) / 30
    assert weight.abs().max() == pytest.approx(bound, rel=1e-3)
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert abs(float(weight.mean())) < 0.02 * bound


@pytest.mark.parametrize("name", ["sine", "finer"])
def test_phases_of_sines_vary_alike_at_any_depth(name: str) -> None:
    """Sitzmann et al. 2020, theorem 1.8: omega W h has a standard deviation of about 1."""
    network = fresh(name, width=256, depth=6)
    hidden = network.layers[0](box())
    for layer in network.hidden_layers[1:]:
        phases = 30 * (hidden @ layer.linear.weight.T)
        assert 0.85 < phases.std() < 1.1
        hidden = layer(hidden)


def test_the_first_biases_of_finer_are_wide() -> None:
    for norm in ("none", "batch"):
        layers = fresh("finer", width=2000, depth=2, norm=norm, finer_bias=5.0).hidden_layers
        biases = [layer.linear.bias if layer.norm is None else layer.norm.bias for layer in layers]
        assert biases[0].detach().std() == pytest.approx(5 / math.sqrt(3), rel=0.05)
        assert biases[1].detach().std() == pytest.approx(2000**-0.5 / math.sqrt(3), rel=0.2)


@pytest.mark.parametrize("activation", ["gauss", "wire-real"])
def test_without_an_initialisation_of_their_own_weights_are_pytorchs(activation: str) -> None:
    ours, theirs = fresh(activation), fresh(activation, init="pytorch")
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_with_batch_norm_a_fresh_network_is_the_function_that_it_is_without(
    name: str, placement: str
) -> None:
    normed = fresh(name, norm="batch", placement=placement, norm_eps=1e-12)
    plain = fresh(name)
    x = h = box()
    with torch.no_grad(), batch_statistics(normed):
        for ours, theirs in zip(normed.hidden_layers, plain.hidden_layers, strict=True):
            theirs.linear.weight.copy_(ours.linear.weight)
            mean = (h @ ours.linear.weight.T).mean(0)
            theirs.linear.bias.copy_(ours.norm.bias - mean if placement == "before" else ours.linear.bias)
            h = theirs(h)
        plain.output.load_state_dict(normed.output.state_dict())
        torch.testing.assert_close(normed(x), plain(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SCALED)
def test_so_it_is_with_norms_in_the_first_and_last_layers_alone(name: str) -> None:
    ends = fresh(name, norm="batch", placement="after", norm_layers="ends", depth=4, norm_eps=1e-12)
    assert [layer.norm is not None for layer in ends.hidden_layers] == [True, False, False, True]
    with torch.no_grad(), batch_statistics(ends):
        torch.testing.assert_close(ends(box()), fresh(name, depth=4)(box()), rtol=1e-3, atol=1e-3)


def test_phases_behind_a_batch_norm_are_as_fast_as_sirens() -> None:
    """Normalised numbers times 30 would be phases with a standard deviation of 30."""
    layers = fresh("sine", norm="batch", width=128).hidden_layers
    first = 30 * layers[0].norm.weight
    torch.testing.assert_close(first, 30 * layers[0].linear.weight.norm(dim=1) / 3**0.5, rtol=0.1, atol=0)
    for layer in layers[1:]:
        assert 0.65 < 30 * layer.norm.weight.detach().square().mean().sqrt() < 1.1


@pytest.mark.parametrize("norm", NORMED)
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("name", SCALED)
def test_any_norm_keeps_the_activations_range(name: str, placement: str, norm: str) -> None:
    def spread(network: CoordinateMLP) -> torch.Tensor:
        """Standard deviation of each activation's inputs."""
        found, hidden = [], box()
        for layer in network.hidden_layers:
            z = layer.linear(hidden)
            z = layer.norm(z) if layer.norm is not None and layer.norm_first else z
            found.append(z.std())
            hidden = layer(hidden)
        return torch.stack(found)

    network = fresh(name, norm=norm, placement=placement, width=64)
    with torch.no_grad(), batch_statistics(network):
        ratio = spread(network) / spread(fresh(name, width=64))
    assert (ratio > 0.6).all() and (ratio < 1.6).all(), ratio


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms_before_relu_start_at_one(norm: str) -> None:
    for layer in fresh("relu", norm=norm).hidden_layers:
        assert (layer.norm.weight == 1).all() and (layer.norm.bias == 0).all()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_options_out_of_range_are_errors(option: str, value: float) -> None:
    name = next(name for name, kind in ACTIVATIONS.items() if option in kind.options)
    with pytest.raises(UserError, match=f"{option} is .*must be above 0"):
        fresh(name, **{option: value})


def test_every_option_of_an_activation_changes_it() -> None:
    z = 0.1 * draw(20)
    for name, kind in ACTIVATIONS.items():
        for option in set(kind.options) - {"finer_bias"}:
            changed = fresh(name, **{option: 1.5}).hidden_layers[0].activation
            assert not torch.equal(changed(z), kind()(z))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in REAL])
def test_networks_of_complex_numbers(name: str) -> None:
    """Outputs are real, in training, evaluation and double precision; norms are refused in one line."""
    network, x = fresh(name), box(300)
    y = network(x)
    assert y.dtype == torch.float32 and y.shape == (300, 3)
    y.square().mean().backward()
    assert all(p.grad is not None and not p.is_complex() for p in network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), y.detach())
        torch.testing.assert_close(network.double()(x.double()).float(), y.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="real numbers"):
        fresh(name, norm="batch")
