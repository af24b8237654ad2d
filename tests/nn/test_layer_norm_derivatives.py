"""Second derivatives of layer norm, in every order of forward and reverse mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, jacfwd, jacrev

from bn_field_plugin.nn import build_norm

ORDERS = [(outer, inner) for outer in (jacrev, jacfwd) for inner in (jacrev, jacfwd)]
MENDED = "torch's own layer norm has right second derivatives now: take it under transforms too (LayerNorm)"


def draw() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((3, 4), (4,), (4,))
    return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)  # type: ignore[return-value]


X, WEIGHT, BIAS = draw()
OURS = build_norm("layer", 4).double()


def value(norm: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, weight: norm(x, weight).tanh().square().sum()


def plain(x: Tensor, weight: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    var = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * weight + BIAS


def ours(x: Tensor, weight: Tensor) -> Tensor:
    return functional_call(OURS, {"weight": weight, "bias": BIAS}, (x,))


def torchs(x: Tensor, weight: Tensor) -> Tensor:
    return F.layer_norm(x, (4,), weight, BIAS, 1e-5)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("outer", "inner"), ORDERS)
def test_second_derivatives_in_any_order(outer, inner, first: int, second: int) -> None:
    want, found = (outer(inner(value(norm), first), second)(X, WEIGHT) for norm in (plain, ours))
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-12)


def test_reverse_over_forward_without_transforms() -> None:
    tangent = torch.randn(X.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradient(norm: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        x = X.clone().requires_grad_()
        with forward_ad.dual_level():
            along = forward_ad.unpack_dual(value(norm)(forward_ad.make_dual(x, tangent), WEIGHT)).tangent
            assert along is not None
            return torch.autograd.grad(along, x)[0]

    torch.testing.assert_close(gradient(ours), gradient(plain), rtol=1e-10, atol=1e-12)


def test_values_are_those_of_torch() -> None:
    torch.testing.assert_close(ours(X, WEIGHT), torchs(X, WEIGHT))
    torch.testing.assert_close(jacrev(ours)(X, WEIGHT), jacrev(torchs)(X, WEIGHT))


@pytest.mark.skipif(torch.__version__ < "2.14", reason="seen with 2.14")
def test_torch_needs_the_way_around() -> None:
    want, found = (jacrev(jacfwd(value(norm)))(X, WEIGHT) for norm in (plain, torchs))
    assert not torch.allclose(found, want, rtol=1e-3), MENDED
