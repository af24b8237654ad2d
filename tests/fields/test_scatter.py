"""Scattering: values inside are kept in order, all else is zero, gradients go through."""

import torch

from bn_field_plugin.fields.scatter import scatter


def test_values_return_to_their_places() -> None:
    inside = torch.tensor([[True, False, True], [False, True, False]])
    values = torch.arange(6.0).reshape(3, 2).requires_grad_()
    out = scatter(values, inside)
    assert out.shape == (2, 3, 2)
    assert torch.equal(out[inside], values)
    assert (out[~inside] == 0).all()
    out.sum().backward()
    assert torch.equal(values.grad, torch.ones(3, 2))
