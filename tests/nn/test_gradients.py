"""Derivatives by the coordinates are those of each sample alone, and can be differentiated again."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP, StatisticsMode, gradients, running_norms, value_and_gradient
from bn_field_plugin.nn.gradients import held_statistics
from bn_field_plugin.nn.statistics import calibrate, frozen_statistics
from tests.nn.cases import NORMED, RUNNING, coordinates, network, statistics, unchanged

NAMES = ("none", *NORMED)
KINDS = [
    {"norm": norm, "placement": placement, "activation": activation, "skips": (1,), "encoding": "positional"}
    for norm in NAMES
    for placement in ("before", "after")
    for activation in ("relu", "sine")
]


def differences(function, x: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of the first output, one coordinate of all samples at a time."""
    columns = []
    for axis in range(x.shape[1]):
        shift = step * torch.eye(x.shape[1], dtype=x.dtype)[axis]
        columns.append((function(x + shift)[:, 0] - function(x - shift)[:, 0]) / (2 * step))
    return torch.stack(columns, dim=-1)


def own_jacobian(function, x: Tensor) -> Tensor:
    """Derivatives of each sample's first output by its own coordinates, from the full Jacobian.

    Stops the test where one sample's output depends on another's coordinates.
    """
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x)[:, 0], x)
    own = jacobian.diagonal(dim1=0, dim2=1).T
    leaked = jacobian - torch.diag_embed(own.T, dim1=0, dim2=1)
    assert not leaked.any()
    return own


def take_batch_as_running(mlp: CoordinateMLP, x: Tensor) -> None:
    """Let evaluation use the statistics that a training pass over `x` normalises with."""
    calibrate(mlp, [x])


@pytest.mark.parametrize("options", KINDS, ids=lambda kind: "-".join(list(kind.values())[:3]))
def test_without_gradients_it_is_the_derivative_of_evaluation(options):
    mlp, x = network(**options).eval(), coordinates(7, 3)
    with torch.no_grad():
        values, slopes = value_and_gradient(mlp, x)
        torch.testing.assert_close(values, mlp(x))
        torch.testing.assert_close(slopes, differences(mlp, x), rtol=1e-5, atol=1e-6)
    assert not values.requires_grad
    assert not slopes.requires_grad
    torch.testing.assert_close(slopes, own_jacobian(mlp, x))


@pytest.mark.parametrize("options", KINDS, ids=lambda kind: "-".join(list(kind.values())[:3]))
def test_a_training_pass_gives_what_evaluation_gives_with_the_batchs_statistics(options):
    mlp, x = network(**options).train(), coordinates(9, 3)
    values, slopes = value_and_gradient(mlp, x)
    take_batch_as_running(mlp, x)
    mlp.eval()
    torch.testing.assert_close(values, mlp(x))
    torch.testing.assert_close(slopes, own_jacobian(mlp, x))
    with torch.no_grad():
        torch.testing.assert_close(slopes.detach(), differences(mlp, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", RUNNING)
def test_that_law_breaks_without_the_guard(norm, monkeypatch):
    """Autograd through batch statistics adds derivatives of other samples' outputs."""

    @contextmanager
    def unguarded(_):
        yield False

    monkeypatch.setattr(gradients, "held_statistics", unguarded)
    mlp, x = network(norm=norm, activation="sine").train(), coordinates(9, 3)
    _, slopes = value_and_gradient(mlp, x)
    take_batch_as_running(mlp, x)
    assert (slopes - own_jacobian(mlp.eval(), x)).abs().max() > 1e-2


@pytest.mark.parametrize("norm", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_without_gradients_company_does_not_matter(norm, training):
    mlp, x = network(norm=norm).train(training), coordinates(9, 3)
    with torch.no_grad():
        together, alone = value_and_gradient(mlp, x), value_and_gradient(mlp, x[4:5])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[4:5], other)


@pytest.mark.parametrize("norm", NAMES)
def test_values_and_parameter_gradients_are_those_of_an_ordinary_training_pass(norm):
    """Gradients go through the statistics too, so a loss on the values trains as before."""
    one, other, x = network(norm=norm).train(), network(norm=norm).train(), coordinates(30, 3)
    expected = one(x)
    values, _ = value_and_gradient(other, x)
    torch.testing.assert_close(values, expected)
    ours = torch.autograd.grad(values.square().sum(), list(other.parameters()), materialize_grads=True)
    theirs = torch.autograd.grad(expected.square().sum(), list(one.parameters()), materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    for a, b in zip(statistics(one), statistics(other), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("norm", NAMES)
def test_the_gradient_can_be_differentiated_by_the_parameters_through_the_statistics(norm):
    """Eikonal terms need it. Oracle: central differences in each parameter of a smooth network."""
    x = coordinates(12, 3)

    def eikonal(mlp):
        _, slopes = value_and_gradient(mlp, x)
        return (slopes.norm(dim=-1) - 1).square().mean()

    mlp = network(norm=norm, activation="sine", width=4, depth=2).train()
    parameters = list(mlp.parameters())
    actual = torch.autograd.grad(eikonal(mlp), parameters, materialize_grads=True)
    step = 1e-6
    for parameter, gradient in zip(parameters, actual, strict=True):
        flat = parameter.detach().view(-1)
        for index in range(0, flat.numel(), 3):
            before = flat[index].item()
            found = []
            for shift in (step, -step):
                flat[index] = before + shift
                found.append(eikonal(mlp).item())
            flat[index] = before
            expected = (found[0] - found[1]) / (2 * step)
            assert gradient.reshape(-1)[index].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("norm", RUNNING)
def test_only_training_with_gradients_updates_and_it_does_so_once(norm):
    mlp, x = network(norm=norm), coordinates(9, 3)
    before = statistics(mlp)
    with torch.no_grad():
        value_and_gradient(mlp.train(), x)
    value_and_gradient(mlp.eval(), x)
    with frozen_statistics(mlp):
        value_and_gradient(mlp.train(), x)
    assert unchanged(mlp, before)
    tracked = running_norms(mlp)[0].num_batches_tracked.item()
    value_and_gradient(mlp.train(), x)
    assert running_norms(mlp)[0].num_batches_tracked.item() == tracked + 1


@pytest.mark.parametrize("norm", RUNNING)
def test_statistics_are_made_exact_through_it(norm):
    one, other, x = network(norm=norm), network(norm=norm), coordinates(20, 3)
    assert calibrate(one, [x], lambda x: value_and_gradient(one, x)) == 3
    calibrate(other, [x])
    for a, b in zip(statistics(one), statistics(other), strict=True):
        assert torch.equal(a, b)


def test_blocks_change_nothing(monkeypatch):
    mlp, x = network(norm="batch", encoding="positional").eval(), coordinates(10, 3)
    with torch.no_grad():
        whole = value_and_gradient(mlp, x)
        monkeypatch.setattr(gradients, "BLOCK_POINTS", 3)
        for one, other in zip(whole, value_and_gradient(mlp, x), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("norm", NAMES)
@pytest.mark.parametrize("graph", [True, False])
def test_no_samples_give_nothing(norm, graph):
    with torch.set_grad_enabled(graph):
        values, slopes = value_and_gradient(network(norm=norm).train(), coordinates(0, 3))
    assert values.shape == (0, 2)
    assert slopes.shape == (0, 3)


def test_nothing_stays_held_afterwards():
    mlp, x = network(norm="batch").train(), coordinates(9, 3)
    with held_statistics(mlp):
        mlp(x)
    with torch.no_grad(), pytest.raises(RuntimeError, match="stop"), held_statistics(mlp):
        raise RuntimeError("stop")
    norms = running_norms(mlp)
    assert all(norm.mode is StatisticsMode.AUTO and not norm.holds_statistics for norm in norms)
    torch.testing.assert_close(mlp(2 * x), network(norm="batch").train()(2 * x))
