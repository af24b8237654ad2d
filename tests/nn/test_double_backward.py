"""Gradients are autograd's, can be differentiated, and are None where nobody needs them."""

from __future__ import annotations

import torch

from bn_field_plugin.nn.double_backward import gradients_by_torch
from tests.nn.cases import draw


def test_gradients_are_those_of_the_formula_and_so_are_their_derivatives() -> None:
    """For y = a^2 b the gradients are 2 a b g and a^2 g, whose derivatives by a are 2 b g and 2 a g."""
    a, b, grad = (draw(7, seed=seed) for seed in range(3))
    a.requires_grad_()
    b.requires_grad_()
    by_a, by_b = gradients_by_torch([a.square() * b], [grad], [a, b], [True, True])
    assert by_a is not None and by_b is not None
    torch.testing.assert_close(by_a, 2 * a * b * grad)
    torch.testing.assert_close(by_b, a.square() * grad)
    for found, expected in ((by_a, 2 * b * grad), (by_b, 2 * a * grad)):
        (again,) = torch.autograd.grad(found.sum(), a, retain_graph=True)
        torch.testing.assert_close(again, expected)


def test_inputs_without_need_have_none_and_outputs_without_gradient_are_left_out() -> None:
    a, b = draw(5).requires_grad_(), draw(5, seed=1)
    outputs = (a * b, b + 1)
    by_b, by_a = gradients_by_torch(outputs, (torch.ones(5).double(),) * 2, (b, a), (False, True))
    assert by_b is None
    torch.testing.assert_close(by_a, b)
