"""Networks as solids: points and the surface agree about what is inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bn_field_plugin import CoordinateMLP, CoordinateMLPConfig
from standalone.shape import inference


def half_space(level: float) -> CoordinateMLP:
    """A network that computes relu(x + 2), so that its solid is a half space."""
    network = CoordinateMLP(CoordinateMLPConfig(in_dim=3, out_dim=1, width=1, depth=1, norm="none"))
    with torch.no_grad():
        network.layers[0].linear.weight.copy_(torch.tensor([[1.0, 0, 0]]))
        network.layers[0].linear.bias.fill_(2)
        network.output.weight.fill_(1)
        network.output.bias.fill_(-2 - level)
    return network.eval()


def test_inside_is_above_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    monkeypatch.setattr(inference, "POINTS_PER_CALL", 64)
    np.testing.assert_array_equal(inference.inside(half_space(0.25), points, 0.0), points[:, 0] > 0.25)
    np.testing.assert_array_equal(inference.inside(half_space(0.0), points, 0.5), points[:, 0] > 0.5)


def test_the_surface_lies_at_the_level() -> None:
    mesh = inference.surface(half_space(0.25), 33, 0.0)
    assert mesh is not None
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(0.75 * 4, rel=0.1)
    assert mesh.vertices[:, 0].min() == pytest.approx(0.25, abs=1e-5)


def test_a_network_without_surface_has_none() -> None:
    assert inference.surface(half_space(5.0), 9, 0.0) is None
