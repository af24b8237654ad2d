from __future__ import annotations

import numpy as np
import pytest
import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk import closed_form_ntk, mean_field, ntk, random_points
from bn_field_plugin.ntk.mean_field import relu_moments
from standalone.networks import Variant
from standalone.ntk.studies.common import NetworkSize, build


def test_relu_moments_are_those_of_gaussian_samples() -> None:
    generator = np.random.default_rng(0)
    root = generator.standard_normal((3, 3))
    covariance = root @ root.T
    samples = generator.standard_normal((1_000_000, 3)) @ root.T
    activated, slope = relu_moments(covariance)
    on = samples > 0
    np.testing.assert_allclose(activated, (samples * on).T @ (samples * on) / 1e6, rtol=2e-2)
    np.testing.assert_allclose(slope, on.astype(float).T @ on / 1e6, rtol=1e-2)


def test_one_hidden_layer_is_the_sum_by_hand() -> None:
    """With He's initialisation: M qhat_1 + 1 of the output layer, (x.x' + 1) qtilde_1 of the first."""
    x = np.array([[0.6, 0.8], [0.8, -0.6]])
    kernel = closed_form_ntk(x, width=10, depth=1, init="he")
    # At one point |x|^2 = 1 and q = 2 x.x / 2 = 1, so qhat = 1/2 and qtilde = 2 * 1/2. Between two points q =
    # 0, so qhat = 1/(2 pi) and qtilde = 2/4.
    np.testing.assert_allclose(np.diag(kernel), 10 / 2 + 1 + 2)
    np.testing.assert_allclose(kernel[0, 1], 10 / (2 * np.pi) + 1 + 0.5)


@pytest.mark.parametrize("init", ["pytorch", "he"])
def test_finite_kernels_converge_to_the_closed_form_as_one_over_root_width(init: str) -> None:
    points, depth, seeds = random_points(12), 2, 8
    widths = (16, 64, 256, 1024)
    errors = []
    for width in widths:
        closed = closed_form_ntk(points.numpy(), width, depth, init)  # type: ignore[arg-type]
        squares = []
        for seed in range(seeds):
            network = build(Variant("mlp"), NetworkSize(width, depth, init), 2, 1, seed)  # type: ignore[arg-type]
            found = ntk(network, points).numpy()
            squares.append(np.linalg.norm(found - closed) ** 2 / np.linalg.norm(closed) ** 2)
        errors.append(np.sqrt(np.mean(squares)))
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35
    assert errors[-1] < 0.15


def test_moments_are_those_of_a_kernel_with_two_values() -> None:
    """The theory replaces the kernel's entries by two means, one on the diagonal and one off it."""
    points = random_points(20).numpy()
    kernel = closed_form_ntk(points, 64, 3)
    n = len(kernel)
    own = np.trace(kernel) / n
    cross = (kernel.sum() - n * own) / (n * (n - 1))
    values = np.linalg.eigvalsh(np.full((n, n), cross) + (own - cross) * np.eye(n))
    found = mean_field(points, 64, 3)
    np.testing.assert_allclose(
        [found.mean, found.variance, found.maximum], [values.mean(), values.var(), values.max()]
    )
    np.testing.assert_allclose(found.kappa1 / found.kappa2, own / cross)


def test_predictions_are_near_wide_networks() -> None:
    points = random_points(40)
    found = mean_field(points.numpy(), 512, 3, init="he")
    values = torch.linalg.eigvalsh(ntk(build(Variant("mlp"), NetworkSize(512, 3, "he"), 2, 1, 0), points))
    assert found.mean == pytest.approx(float(values.mean()), rel=0.2)
    assert found.maximum == pytest.approx(float(values.max()), rel=0.4)


def test_initialisations_without_a_mean_field_are_named() -> None:
    with pytest.raises(UserError, match="siren"):
        closed_form_ntk(random_points(3).numpy(), 8, 2, "siren")  # type: ignore[arg-type]
