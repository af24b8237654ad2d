"""Moments of a batch are torch's, whole or from blocks."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn.batch_moments import batch_moments, merged_moments
from tests.nn.cases import draw


def test_moments_of_a_batch():
    x = draw(50, 3) + 1e6
    for device_free in (batch_moments(x), batch_moments(x[:0])):
        assert all(m.isfinite().all() for m in device_free)
    mean, var, count = batch_moments(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(var, x.var(0, correction=0))
    assert count == 50


@given(n=st.integers(1, 60), block=st.integers(1, 20), seed=st.integers(0, 99))
def test_moments_of_blocks_make_those_of_all(n, block, seed):
    x = draw(n, 3, seed=seed) + 5
    parts = x.split(block)
    means = torch.stack([part.mean(0) for part in parts])
    squares = torch.stack([(part - part.mean(0)).square().sum(0) for part in parts])
    mean, var = merged_moments(means, squares, n, block)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(var, x.var(0, correction=0))
