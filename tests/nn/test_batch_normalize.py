"""Batch norm of given samples by compiled loops is the norm by torch operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn import batch_normalize, frozen_statistics
from bn_field_plugin.nn.norms import BatchNorm
from tests.nn.cases import draw

N, C = 300, 5


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Numbers of samples in each call of the compiled loops, which take batches of any size here."""
    seen: list[int] = []
    normalize = batch_normalize.batch_normalize

    def counted(x: Tensor, *rest: object) -> object:
        seen.append(x.shape[0])
        return normalize(x, *rest)

    monkeypatch.setattr(batch_normalize, "batch_normalize", counted)
    monkeypatch.setattr(batch_normalize, "LARGE", 2)
    return seen


def norm(dtype: torch.dtype = torch.float32) -> BatchNorm:
    made = BatchNorm(C, dtype=dtype)
    made.weight.data = draw(C, seed=1, dtype=dtype)
    made.bias.data = draw(C, seed=2, dtype=dtype)
    return made


def results(made: BatchNorm, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, gradients and statistics of a pass."""
    x = x.clone().requires_grad_()
    y = made(x)
    y.backward(grad)
    return [y.detach(), x.grad, made.weight.grad, made.bias.grad, made.running_mean, made.running_var]


@pytest.mark.parametrize("transposed", [False, True])
def test_equal_to_the_norm_in_fp64(calls, transposed):
    x, grad = draw(N, C, seed=3) * 2 + 1, draw(N, C, seed=4)
    expected = results(norm(torch.float64), x, grad)
    assert not calls
    single = x.float().T.contiguous().T if transposed else x.float()
    found = results(norm(), single, grad.float())
    assert calls == [N]
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-4, atol=1e-4)


def test_gradients_that_are_differentiated_again(calls, monkeypatch):
    x = draw(N, C, seed=3).float()

    def second() -> list[Tensor]:
        made, leaf = norm(), x.clone().requires_grad_()
        wanted = [leaf, made.weight, made.bias]
        first = torch.autograd.grad(made(leaf).sin().sum(), wanted, create_graph=True)
        return list(torch.autograd.grad(sum(part.square().sum() for part in first), wanted))

    found = second()
    assert calls == [N]
    monkeypatch.setattr(batch_normalize, "serves", lambda *_: False)
    for value, wanted in zip(found, second(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_parameters_that_are_not_trained_get_no_gradient(calls):
    made = norm()
    made.weight.requires_grad_(False)
    made(draw(N, C).float()).sum().backward()
    assert calls
    assert made.weight.grad is None
    assert made.bias.grad is not None


def test_what_it_leaves_to_torch(calls):
    x = draw(N, C).float()
    norm().eval()(x)
    norm(torch.float64)(x.double())
    with frozen_statistics(made := norm()):
        made(x)
    with forward_ad.dual_level():
        norm()(forward_ad.make_dual(x, x))
    assert not calls


def test_small_batches_do_not_load_numba(monkeypatch):
    monkeypatch.setattr(batch_normalize.compiled_batch_norm, "kernels", lambda: pytest.fail("loaded"))
    norm()(draw(N, C).float())
