"""The compiled loops of batch norm are numpy's sums, for any number of features and samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import batch_norm_kernels as kernels
from bn_field_plugin.nn.compiled import load_compiled
from tests.laws import cases

SIZES = {
    "features": st.integers(1, 40),
    "before": st.integers(0, 3),
    "samples": st.integers(1, 150),
    "after": st.integers(0, 3),
    "relu": st.booleans(),
    "seed": st.integers(0, 99),
}


def vectors(generator: np.random.Generator, count: int, features: int) -> list[np.ndarray]:
    return [generator.normal(size=features).astype(np.float32) for _ in range(count)]


@cases(60)
@given(**SIZES)
def test_forward(features, before, samples, after, relu, seed):
    generator = np.random.default_rng(seed)
    z = generator.normal(1, 2, (before + samples + after, features)).astype(np.float32)
    mean, squares, center, scale, shift = vectors(generator, 5, features)
    rows = slice(before, before + samples)
    kernels.moments(z, mean, squares, rows.start, rows.stop)
    wide = z[rows].astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(squares, ((wide - wide.mean(0)) ** 2).sum(0), rtol=1e-4, atol=1e-5)
    y = np.full_like(z, 7)
    kernels.normalize(z, center, scale, shift, relu, y, rows.start, rows.stop)
    expected = (z[rows] - center) * scale + shift
    np.testing.assert_array_equal(y[rows], np.maximum(expected, 0) if relu else expected)
    assert (np.delete(y, np.r_[rows], axis=0) == 7).all()


@cases(60)
@given(**SIZES)
def test_backward(features, before, samples, after, relu, seed):
    generator = np.random.default_rng(seed)
    z, grad = (
        generator.normal(size=(before + samples + after, features)).astype(np.float32) for _ in range(2)
    )
    mean, scale, shift, total, product, through_var, through_mean = vectors(generator, 7, features)
    rows = slice(before, before + samples)
    centred = z[rows] - mean
    g = np.where(relu & (centred * scale + shift <= 0), np.float32(0), grad[rows])
    kernels.sums(grad, z, mean, scale, shift, relu, total, product, rows.start, rows.stop)
    np.testing.assert_allclose(total, g.sum(0, dtype=np.float64), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(product, (g * centred).sum(0, dtype=np.float64), rtol=1e-4, atol=1e-4)
    grad_z = np.full_like(z, 7)
    kernels.backward(
        grad, z, mean, scale, shift, relu, through_var, through_mean, grad_z, rows.start, rows.stop
    )
    expected = scale * g - centred * through_var - through_mean
    np.testing.assert_allclose(grad_z[rows], expected, rtol=1e-6, atol=1e-6)
    assert (np.delete(grad_z, np.r_[rows], axis=0) == 7).all()


def test_warming_up_leaves_nothing_to_compile():
    load_compiled("bn_field_plugin.nn.batch_norm_kernels")
    for kernel in (kernels.moments, kernels.normalize, kernels.sums, kernels.backward):
        assert len(kernel.signatures) == 1
