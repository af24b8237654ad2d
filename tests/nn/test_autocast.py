"""Under autocast, products are in half precision; statistics and what they decide are in fp32."""

from __future__ import annotations

import pytest
import torch

from bn_field_plugin.nn import calibrate
from bn_field_plugin.nn.norms import RunningNorm
from tests.nn.cases import NORMED, RUNNING, combinations, coordinates, draw, network, statistics, unchanged

HALVES = [torch.bfloat16, torch.float16]


def error(y: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square error, relative to the root mean square of the truth."""
    return (
        ((y.double() - expected.double()).square().mean() / expected.double().square().mean()).sqrt().item()
    )


def tolerance(dtype: torch.dtype) -> float:
    """Error that some roundings in each of four layers may make."""
    return 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("options", combinations())
def test_outputs_and_gradients_are_those_of_fp32_to_the_half_precision(options, dtype):
    full, half = (network(**options, omega=1.0, width=16, dtype=torch.float32) for _ in range(2))
    x = coordinates(100, 3, dtype=torch.float32)
    expected = full(x)
    with torch.autocast("cpu", dtype):
        y = half(x)
    assert y.dtype == dtype
    assert error(y, expected) < tolerance(dtype)
    grad = draw(100, 2, dtype=torch.float32)
    expected.backward(grad)
    y.backward(grad.to(dtype))
    for (name, a), b in zip(half.named_parameters(), full.parameters(), strict=True):
        assert a.grad.dtype == torch.float32
        assert a.grad.isfinite().all()
        if b.grad.norm() > 1e-3 * grad.norm():  # a gradient near zero is a rounding error
            # Rounding moves some samples over the kink of ReLU, which changes gradients by whole samples.
            assert error(a.grad, b.grad) < max(8 * tolerance(dtype), 0.25), name
    for a, b in zip(statistics(half), statistics(full), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("options", combinations())
def test_evaluation_is_that_of_fp32_to_the_half_precision_on_every_path(options, dtype):
    mlp = network(**options, omega=1.0, width=16, dtype=torch.float32).eval()
    x = coordinates(100, 3, dtype=torch.float32)
    expected = mlp(x)
    with torch.autocast("cpu", dtype):
        assert error(mlp(x), expected) < tolerance(dtype)
        with torch.no_grad():
            assert error(mlp(x), expected) < tolerance(dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("norm", RUNNING)
def test_running_statistics_stay_fp32_finite_and_right_over_steps(norm, placement, dtype):
    """The inputs are so far from zero that their sums or squares would overflow in half precision."""
    full, half = (network(norm=norm, placement=placement, width=16, dtype=torch.float32) for _ in range(2))
    for mlp in (full, half):
        with torch.no_grad():
            mlp.layers[0].linear.weight.mul_(100)
    for step in range(5):
        x = coordinates(4000, 3, seed=step, dtype=torch.float32) + 2
        full(x)
        with torch.autocast("cpu", dtype):
            half(x)
    norms = zip(full.modules(), half.modules(), strict=True)
    for a, b in ((a, b) for a, b in norms if isinstance(a, RunningNorm)):
        assert b.running_mean.dtype == b.running_var.dtype == torch.float32
        assert b.running_mean.isfinite().all()
        assert b.running_var.isfinite().all()
        scale = a.running_mean.abs().max().item()
        torch.testing.assert_close(b.running_mean, a.running_mean, rtol=0, atol=2 * tolerance(dtype) * scale)
        torch.testing.assert_close(b.running_var, a.running_var, rtol=0.2, atol=0)


@pytest.mark.parametrize("norm", RUNNING)
def test_a_product_that_overflows_fp16_leaves_the_statistics(norm):
    mlp = network(norm=norm, placement="after", dtype=torch.float32)
    before = statistics(mlp)
    with torch.no_grad():
        mlp.layers[0].linear.weight.mul_(1e6)
    x = coordinates(20, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.float16):
        mlp(x)
    assert unchanged(mlp, before)
    mlp(x)
    assert not unchanged(mlp, before), "the same numbers in fp32 are sound"


@pytest.mark.parametrize("norm", ["batch", "global", "cross"])
def test_calibration_under_autocast_keeps_fp32_statistics(norm):
    mlp = network(norm=norm, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert calibrate(mlp, coordinates(200, 3, dtype=torch.float32).split(70)) == 3
    for buffer in statistics(mlp):
        assert buffer.dtype in (torch.float32, torch.long)
        assert buffer.isfinite().all()


@pytest.mark.parametrize("norm", NORMED)
def test_coordinates_in_half_are_read_under_autocast(norm):
    """Encodings may return half precision while the weights are in fp32."""
    mlp = network(norm=norm, dtype=torch.float32)
    x = coordinates(20, 3, dtype=torch.float16)
    with torch.autocast("cpu", torch.float16):
        assert mlp(x).isfinite().all()
    with torch.no_grad():
        assert mlp.eval()(x).dtype == torch.float32
