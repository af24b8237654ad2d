"""Optimizers by name, learning rates by norm, and the schedule's laws."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import parametrize

from bn_field_plugin import CoordinateMLP, UserError
from bn_field_plugin.nn.muon import Muon, hidden_matrices
from standalone.networks import Variant
from standalone.optimization import (
    LEARNING_RATES,
    OptimizationConfig,
    ScheduledOptimizers,
    count_parameters,
)
from standalone.optimizers import LeanMuon


def network(name: str = "mlp+batch", depth: int = 3) -> CoordinateMLP:
    torch.manual_seed(0)
    return CoordinateMLP(Variant.parse(name).config(2, 1, 8, depth))


def test_muon_takes_the_hidden_matrices_and_adam_all_else() -> None:
    mlp = network()
    adam, muon = ScheduledOptimizers(mlp, OptimizationConfig()).optimizers
    assert isinstance(muon, LeanMuon)
    hidden = {id(p) for p in muon.param_groups[0]["params"]}
    rest = {id(p) for p in adam.param_groups[0]["params"]}
    assert hidden == {id(layer.linear.weight) for layer in mlp.hidden_layers[1:]}
    assert hidden | rest == {id(p) for p in mlp.parameters()}
    assert not hidden & rest


@pytest.mark.parametrize("name", ["siren", "finer+batch"])
def test_behind_sines_muon_takes_the_output_matrix_too(name: str) -> None:
    mlp = network(name)
    adam, muon = ScheduledOptimizers(mlp, OptimizationConfig()).optimizers
    taken = {id(p) for p in muon.param_groups[0]["params"]}
    assert taken == {id(linear.weight) for linear in mlp.linears[1:]}
    assert {id(p) for p in mlp.parameters()} - taken == {id(p) for p in adam.param_groups[0]["params"]}


def test_a_single_hidden_layer_needs_adam_alone() -> None:
    assert len(ScheduledOptimizers(network(depth=1), OptimizationConfig()).optimizers) == 1


@pytest.mark.parametrize("name", ["hash-6+batch", "mlp+batch", "wire"])
def test_steps_are_those_of_plain_adam_also_for_complex_weights(name: str) -> None:
    one, other = network(name), network(name)
    ours = ScheduledOptimizers(one, OptimizationConfig("adam", lr=1e-2, hidden_lr=1e-2))
    plain = torch.optim.Adam(other.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for _ in range(3):
        for mlp in (one, other):
            mlp.train()(x).square().sum().backward()
        ours.step(1.0)
        plain.step()
        plain.zero_grad()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_steps_are_those_of_plain_muon_and_adam() -> None:
    one, other = network(), network()
    ours = ScheduledOptimizers(one, OptimizationConfig(lr=1e-2, hidden_lr=2e-2))
    hidden = hidden_matrices(other)
    rest = [p for p in other.parameters() if all(p is not matrix for matrix in hidden)]
    muon = Muon(hidden, lr=2e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    plain = [torch.optim.Adam(rest, lr=1e-2, betas=(0.9, 0.99), eps=1e-15, fused=True), muon]
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for _ in range(3):
        for mlp in (one, other):
            mlp.train()(x).square().sum().backward()
        ours.step(1.0)
        for optimizer in plain:
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
def test_fits_go_on_from_a_checkpoint_and_never_load_the_compiler() -> None:
    """It takes 1.5 seconds and 150 MB."""
    code = """
import sys, torch
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig, ScheduledOptimizers
from bn_field_plugin import CoordinateMLP
torch.manual_seed(0)
x = torch.rand(64, 2)
def step(network, optimizers):
    network.train()(x).square().sum().backward()
    optimizers.step(0.5)
for name in ("hash-6+batch", "pemlp-2+batch"):
    networks = [CoordinateMLP(Variant.parse(name).config(2, 1, 8, 3)) for _ in range(2)]
    first, second = (ScheduledOptimizers(one, OptimizationConfig()) for one in networks)
    for _ in range(2):
        step(networks[0], first)
    networks[1].load_state_dict(networks[0].state_dict())
    second.load_state_dict(first.state_dict())
    step(networks[0], first), step(networks[1], second)
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters()))
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["hash", "hash+batch", "wire"])
def test_adam_alone_trains_what_muon_does_not_suit(name: str) -> None:
    optimizers = ScheduledOptimizers(network(name), OptimizationConfig("muon")).optimizers
    assert len(optimizers) == 2 and not any(isinstance(one, LeanMuon) for one in optimizers)


@pytest.mark.parametrize("name", ["wire-real", "wire-real+batch"])
def test_muon_suits_the_matrices_of_real_wire(name: str) -> None:
    _, hidden = ScheduledOptimizers(network(name), OptimizationConfig("muon")).optimizers
    assert isinstance(hidden, LeanMuon)


def test_parametrized_matrices_are_still_hidden_ones() -> None:
    mlp = network("mlp")
    parametrize.register_parametrization(mlp.linears[1], "weight", torch.nn.Identity())
    assert sum(p.numel() for p in hidden_matrices(mlp)) == 2 * 64


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mlp", "none"),
        ("mlp+layer", "norm"),
        ("siren", "siren"),
        ("siren+batch", "siren and norm"),
        ("wire-real+batch", "wire-real and norm"),
        ("gauss+layer", "gauss and norm"),
        ("hash", "hash"),
        ("hash+batch", "hash and norm"),
    ],
)
def test_learning_rates_follow_the_norm_unless_given(optimizer, name: str, kind: str) -> None:
    config = Variant.parse(name).config(2, 1, 8, 3)
    assert OptimizationConfig(optimizer).learning_rates(config) == LEARNING_RATES[optimizer][kind]
    assert OptimizationConfig(optimizer, lr=0.5).learning_rates(config).rest == 0.5
    assert OptimizationConfig(optimizer, hidden_lr=0.5).learning_rates(config).hidden == 0.5


@pytest.mark.parametrize("name", ["siren", "siren+batch", "finer+layer"])
def test_rates_of_sines_fall_with_the_number_of_steps(name: str) -> None:
    config = Variant.parse(name).config(2, 1, 8, 3)
    usual = OptimizationConfig()
    rates = [usual.learning_rates(config, steps) for steps in (1, 20, 100, 1000, 10_000)]
    assert rates[0] == rates[1], "of so few steps, none goes far"
    assert rates[3] == usual.learning_rates(config)
    for former, latter in itertools.pairwise(rates[1:]):
        assert former.hidden > latter.hidden and former.rest > latter.rest
    assert OptimizationConfig(lr=0.5, hidden_lr=0.25).learning_rates(config, 10) == (0.25, 0.5)
    deep = usual.learning_rates(dataclasses.replace(config, depth=8))
    assert deep.hidden < rates[3].hidden and deep.rest < rates[3].rest
    wide = usual.learning_rates(dataclasses.replace(config, width=128, depth=5))
    assert wide.hidden == pytest.approx(rates[3].hidden / 2**0.5)
    assert usual.learning_rates(dataclasses.replace(config, width=64, depth=5)) == rates[3]


@pytest.mark.parametrize("name", ["mlp+batch", "pemlp-5", "hash", "wire", "gauss"])
def test_other_rates_suit_any_number_of_steps(name: str) -> None:
    config = Variant.parse(name).config(2, 1, 8, 3)
    assert OptimizationConfig().learning_rates(config, 10) == OptimizationConfig().learning_rates(config)


@given(warmup=st.integers(0, 100), final=st.floats(0, 1), steps=st.integers(1, 1000))
def test_the_schedule_rises_then_falls_to_its_final_share(warmup: int, final: float, steps: int) -> None:
    config = OptimizationConfig(warmup_steps=warmup, final_fraction=final)
    factors = [config.factor(step, step / steps, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert peak <= min(warmup, steps // 10) + 1
    assert all(a >= b - 1e-12 for a, b in zip(factors[peak:], factors[peak + 1 :], strict=False))
    assert math.isclose(config.factor(10**6, 1.0, steps), final, abs_tol=1e-12)


def test_a_step_applies_the_factor_to_each_peak() -> None:
    mlp = network()
    optimizers = ScheduledOptimizers(mlp, OptimizationConfig(lr=0.1, hidden_lr=0.2))
    mlp(torch.rand(16, 2)).sum().backward()
    optimizers.step(0.5)
    assert [one.param_groups[0]["lr"] for one in optimizers.optimizers] == [0.05, 0.1]
    assert all(p.grad is None for p in mlp.parameters())


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"hidden_lr": -1.0}, {"lr": math.nan}, {"warmup_steps": -1}, {"final_fraction": 2.0}],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(UserError, match=f"--{name}"):
        OptimizationConfig(**options).check()


def test_parameters_are_counted() -> None:
    assert count_parameters(network("mlp")) == (2 * 8 + 8) + 2 * (64 + 8) + (8 + 1)
