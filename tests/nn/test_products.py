"""Products and sums over many samples equal the plain lines of torch that they replace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import products
from tests.nn.cases import draw

DTYPES = (torch.float32, torch.float64)
sizes = st.sampled_from([0, 1, 5, products.BLOCK - 1, products.BLOCK, 2 * products.BLOCK + 3])
widths = st.integers(1, 9)


@given(sizes, widths, widths, st.booleans(), st.booleans(), st.sampled_from(DTYPES))
def test_linear_is_a_product_with_bias_and_relu(n, d, c, has_bias, relu, dtype):
    x, weight = draw(n, d, dtype=dtype), draw(c, d, seed=1, dtype=dtype)
    bias = draw(c, seed=2, dtype=dtype) if has_bias else None
    y = products.linear(x, weight, bias, relu)
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(y, F.relu(expected) if relu else expected)


def test_linear_takes_any_layout_and_gives_no_gradient():
    x, weight = draw(6, 40, dtype=torch.float32).T, draw(6, 3, seed=1, dtype=torch.float32).T
    y = products.linear(x, weight.requires_grad_())
    torch.testing.assert_close(y, x @ weight.detach().T)
    assert not y.requires_grad


def test_linear_works_without_onednn():
    x, weight, bias = (draw(*shape, dtype=torch.float32) for shape in ((40, 6), (3, 6), (3,)))
    assert products._has_fused_linear(x) == torch.backends.mkldnn.is_available()
    with torch.backends.mkldnn.flags(enabled=False):
        assert not products._has_fused_linear(x)
        y = products.linear(x, weight, bias, relu=True)
    torch.testing.assert_close(y, F.relu(F.linear(x, weight, bias)))


def test_linear_can_be_compiled_and_transformed():
    torch._dynamo.reset()
    x, weight, bias = (draw(*shape, dtype=torch.float32) for shape in ((40, 6), (3, 6), (3,)))
    expected = products.linear(x, weight, bias, relu=True)
    compiled = torch.compile(products.linear, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias, relu=True), expected)
    batched = torch.func.vmap(lambda x: products.linear(x, weight, bias, relu=True))(x.view(4, 10, 6))
    torch.testing.assert_close(batched.view(40, 3), expected)


@given(sizes, widths, widths, st.sampled_from(DTYPES))
def test_sums_are_those_of_the_samples(n, c, d, dtype):
    a, b = draw(n, c, dtype=dtype), draw(n, d, seed=1, dtype=dtype)
    close = {"rtol": 1e-5, "atol": 1e-3} if dtype == torch.float32 else {}
    torch.testing.assert_close(products.sum_of_rows(a), a.double().sum(0), **close)
    torch.testing.assert_close(products.sum_of_outer_products(a, b), a.double().T @ b.double(), **close)


@pytest.mark.parametrize("width", [1, 28])
def test_sums_of_very_many_samples_keep_their_digits(width):
    x = torch.full((2**18 + 5, width), 0.1) + draw(2**18 + 5, width, dtype=torch.float32).abs()
    wide = x.double()
    torch.testing.assert_close(products.sum_of_rows(x), wide.sum(0), rtol=3e-7, atol=0)
    torch.testing.assert_close(products.sum_of_outer_products(x, x), wide.T @ wide, rtol=3e-7, atol=0)
