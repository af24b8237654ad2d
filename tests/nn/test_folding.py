"""A folded network computes what the network computes in evaluation, without norms."""

from __future__ import annotations

import copy

import pytest
import torch

from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    GaussianEncodingConfig,
    HashGridEncodingConfig,
    PositionalEncodingConfig,
    calibrate,
    fold_norm,
)
from bn_field_plugin.nn.norms import Norm
from tests.nn.cases import combinations, coordinates, draw, network, statistics, unchanged

AFFINE = ("batch", "global")
CLOSE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}


def train(mlp, steps: int = 5) -> None:
    optimizer = torch.optim.Adam(mlp.parameters(), lr=0.01)
    dtype = mlp.output.weight.dtype
    for step in range(steps):
        x = coordinates(30, 3, seed=step, dtype=dtype)
        optimizer.zero_grad()
        (mlp(x) - draw(30, 2, seed=90 + step, dtype=dtype)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("options", combinations())
def test_folded_equals_evaluation(options, dtype):
    mlp = network(**options, dtype=dtype)
    x = coordinates(50, 3, dtype=dtype)
    for _ in range(2):
        folded = fold_norm(mlp)
        expected = mlp.eval()(x)  # a pass with gradients does not fold norms
        torch.testing.assert_close(folded(x), expected, **CLOSE[dtype])
        train(mlp.train())


@pytest.mark.parametrize("placement", ["before", "after"])
def test_norms_of_the_first_and_last_layers_fold_too(placement):
    mlp = network(norm="batch", placement=placement, norm_layers="ends", depth=4)
    assert [layer.norm is not None for layer in mlp.hidden_layers] == [True, False, False, True]
    train(mlp)
    x = coordinates(50, 3)
    torch.testing.assert_close(fold_norm(mlp)(x), mlp.eval()(x), **CLOSE[torch.float64])


@pytest.mark.parametrize("norm", AFFINE)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_folded_equals_evaluation_where_scales_are_extreme(norm, placement):
    """Negative and zero scales, features without variance, means far from zero."""
    mlp = network(norm=norm, placement=placement, skips=(1,))
    with torch.no_grad():
        for layer in mlp.layers:
            layer.norm.weight[:2] = torch.tensor([-2.0, 0.0])
            layer.norm.running_var[:1] = 0.0
            layer.norm.running_mean.add_(3.0)
    x = coordinates(50, 3)
    folded, expected = fold_norm(mlp)(x), mlp.eval()(x)
    torch.testing.assert_close(folded, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("norm", AFFINE)
def test_folded_equals_evaluation_after_calibration(norm):
    mlp = network(norm=norm)
    train(mlp)
    x = coordinates(200, 3)
    calibrate(mlp, x.split(30))
    torch.testing.assert_close(fold_norm(mlp)(x), mlp.eval()(x), **CLOSE[torch.float64])


@pytest.mark.parametrize("norm", AFFINE)
def test_a_folded_network_has_no_norm_and_no_statistics(norm):
    mlp = network(norm=norm, encoding="gaussian")
    folded = fold_norm(mlp)
    assert not any(isinstance(module, Norm) for module in folded.modules())
    assert folded.config.norm == "none"
    assert not folded.training
    assert not any("norm" in name or "running" in name for name in folded.state_dict())
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in mlp.parameters())
    assert all(layer.linear.bias is not None for layer in folded.layers)


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "global", "cross"])
def test_folding_leaves_the_original_alone_and_shares_nothing_with_it(norm):
    mlp = network(norm=norm, encoding="gaussian").train()
    before, tensors = statistics(mlp), copy.deepcopy(mlp.state_dict())
    generator = torch.get_rng_state()
    folded = fold_norm(mlp)
    assert torch.equal(torch.get_rng_state(), generator), "folding drew random numbers"
    assert mlp.training
    own = {t.data_ptr() for t in mlp.state_dict().values()}
    assert own.isdisjoint(t.data_ptr() for t in folded.state_dict().values())
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.add_(1)
    assert unchanged(mlp, before)
    assert all(torch.equal(value, tensors[name]) for name, value in mlp.state_dict().items())
    x = coordinates(20, 3)
    folded(x).sum().backward()
    assert all(p.grad is None for p in mlp.parameters())


@pytest.mark.parametrize("norm", ["layer", "cross"])
def test_norms_that_depend_on_the_sample_stay(norm):
    mlp = network(norm=norm).train()
    folded = fold_norm(mlp)
    x = coordinates(20, 3)
    assert folded.config == mlp.config
    assert not folded.training
    assert torch.equal(folded(x), mlp.eval()(x))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_folding_twice_is_folding_once(placement):
    folded = fold_norm(network(norm="batch", placement=placement))
    again = fold_norm(folded)
    assert all(torch.equal(a, b) for a, b in zip(folded.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_folding_under_autocast_folds_in_full_precision(placement):
    mlp = network(norm="batch", placement=placement, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fold_norm(mlp)
    for a, b in zip(inside.parameters(), fold_norm(mlp).parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("placement", ["before", "after"])
def test_evaluation_under_autocast_folds_in_full_precision_too(placement):
    mlp = network(norm="batch", placement=placement, dtype=torch.float32).eval()
    folded = fold_norm(mlp)
    x = coordinates(50, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(mlp(x), folded(x))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoding": PositionalEncodingConfig()},
        {"encoding": GaussianEncodingConfig(num_features=4)},
        {"encoding": HashGridEncodingConfig(num_levels=2, log2_table_size=6)},
        {"skips": (1,)},
        {"activation": "sine", "init": "paper"},
    ],
    ids=["bare", "positional", "gaussian", "hash", "skip", "sine"],
)
def test_a_folded_network_can_be_traced_and_exported(options):
    """Tracing and export cannot record kernels of oneDNN and of ours."""
    x, more = torch.rand(2, 7, 2) * 2 - 1
    folded = fold_norm(CoordinateMLP(CoordinateMLPConfig(in_dim=2, out_dim=1, width=8, depth=3, **options)))
    for recorded in (torch.jit.trace(folded, x), torch.export.export(folded, (x,)).module()):
        torch.testing.assert_close(recorded(more), folded(more), rtol=1e-5, atol=1e-6)
