"""Drift follows its definition: how far a norm's normalised values move."""

from __future__ import annotations

import copy

import pytest
import torch

from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, calibrate, frozen_statistics, running_norms
from bn_field_plugin.nn.norms import RunningNorm
from bn_field_plugin.viewer.drift import drifts, norm_drift
from tests.nn.cases import coordinates, draw, vary


def normed(name: str, **options: object) -> CoordinateMLP:
    torch.manual_seed(0)
    config = CoordinateMLPConfig(in_dim=3, out_dim=2, width=6, depth=3, norm=name, **options)
    mlp = CoordinateMLP(config).double()
    vary(mlp)
    return mlp


@pytest.mark.parametrize("name", ["batch", "global"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_it_is_the_root_mean_square_change_of_normalised_values(name: str, eps: float) -> None:
    """Measured for the first norm, on the samples of the exact statistics."""
    running = running_norms(normed(name, norm_eps=eps))[0]
    exact = copy.deepcopy(running)
    samples = 3 * draw(200, 6, seed=3) + 1
    calibrate(exact, [samples])
    values = []
    for norm in (running, exact):
        plain = copy.deepcopy(norm)
        torch.nn.init.ones_(plain.weight)
        torch.nn.init.zeros_(plain.bias)
        with frozen_statistics(plain), torch.no_grad():
            values.append(plain(samples))
    expected = (values[0] - values[1]).square().mean().sqrt()
    assert norm_drift(running, exact) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("name", ["batch", "global", "cross"])
def test_exact_statistics_have_none_and_moved_ones_have_some(name: str) -> None:
    mlp = normed(name)
    points = coordinates(300, 3)
    calibrate(mlp, [points])
    exact = copy.deepcopy(mlp)
    assert set(drifts(mlp, exact).values()) == {0.0}
    moved: RunningNorm = running_norms(mlp)[1]
    moved.running_mean += moved.running_var.sqrt()
    found = drifts(mlp, exact)
    assert found["layers.1.norm"] == pytest.approx(1.0, rel=1e-3)  # one standard deviation
    assert [name for name, value in found.items() if value > 0] == ["layers.1.norm"]


@pytest.mark.parametrize("name", ["none", "layer"])
def test_networks_that_keep_no_statistics_have_none(name: str) -> None:
    mlp = normed(name)
    assert drifts(mlp, mlp) == {}
