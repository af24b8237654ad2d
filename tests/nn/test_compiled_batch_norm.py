"""Batch norm by compiled loops is torch's, forward and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import compiled_batch_norm
from tests.laws import cases
from tests.nn.cases import draw

EPS = 1e-3


@cases(30)
@given(n=st.integers(2, 3000), c=st.integers(1, 20), relu=st.booleans(), seed=st.integers(0, 99))
def test_it_is_torchs(n, c, relu, seed):
    z, grad = draw(n, c, seed=seed) + 1, draw(n, c, seed=seed + 1)
    gamma, beta = draw(c, seed=seed + 2), draw(c, seed=seed + 3)
    leaves = [z.clone().requires_grad_(), gamma.clone().requires_grad_(), beta.clone().requires_grad_()]
    y = F.batch_norm(leaves[0], None, None, *leaves[1:], training=True, eps=EPS)
    y = F.relu(y) if relu else y
    expected = [y.detach(), *torch.autograd.grad(y, leaves, grad)]
    single = z.float()
    mean, var = compiled_batch_norm.moments(single)
    torch.testing.assert_close(mean, z.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(var, z.var(0, correction=0), rtol=1e-4, atol=1e-5)
    norm = compiled_batch_norm.Normalisation.of(mean, var, gamma.float(), beta.float(), EPS, relu)
    found = [norm.apply(single), *norm.gradients(grad.float(), single, gamma.float())]
    for value, wanted in zip(found, expected, strict=True):
        size = max(1.0, float(wanted.abs().max()))
        # By rounding, a sample at the kink of ReLU may lie on either side.
        off = (value.double() - wanted).abs() > 2e-3 * size
        assert off.double().mean() <= 0.01
