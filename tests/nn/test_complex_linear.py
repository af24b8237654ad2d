"""A complex linear map of two real ones is torch's own of complex numbers."""

from __future__ import annotations

import torch
from torch import nn

from bn_field_plugin.nn.complex_linear import ComplexLinear
from tests.nn.cases import draw


def test_it_is_torchs_linear_map_of_complex_numbers() -> None:
    ours = ComplexLinear(5, 3).double()
    theirs = nn.Linear(5, 3, dtype=torch.complex128)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    x = torch.complex(draw(7, 5), draw(7, 5, seed=1))
    torch.testing.assert_close(ours(x), theirs(x))
    for map_ in (ours, theirs):
        map_(x).abs().square().sum().backward()
    torch.testing.assert_close(ours.real.weight.grad, theirs.weight.grad.real)
    torch.testing.assert_close(ours.imag.weight.grad, theirs.weight.grad.imag)
    torch.testing.assert_close(ours.imag.bias.grad, theirs.bias.grad.imag)


def test_parts_are_drawn_as_pytorch_draws_them() -> None:
    torch.manual_seed(0)
    weight = ComplexLinear(100, 400).weight.detach()
    for part in (weight.real, weight.imag):
        assert part.abs().max() <= 0.1
        torch.testing.assert_close(part.std(), torch.tensor(0.1 / 3**0.5), rtol=0.02, atol=0)
