"""Products within compiled loops equal numpy's, for all sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import sgemm
from bn_field_plugin.nn.blas import blas
from tests.laws import cases

BLAS = blas()
pytestmark = pytest.mark.skipif(BLAS is None, reason="this torch has no MKL")

SIZES = {"n": st.integers(1, 40), "inputs": st.integers(1, 20), "outputs": st.integers(1, 20)}


def drawn(*shape: int) -> np.ndarray:
    """A part of a larger matrix, as kernels see blocks of samples."""
    rows = np.random.default_rng(sum(shape)).normal(size=(shape[0] + 3, *shape[1:])).astype(np.float32)
    return rows[2:-1]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@cases(40)
@given(**SIZES, beta=st.sampled_from([0.0, 1.0, -0.5]))
def test_through(n, inputs, outputs, beta):
    x, weight, out = drawn(n, inputs), drawn(outputs, inputs), drawn(n, outputs)
    expected = x.astype(np.float64) @ weight.T + beta * out.astype(np.float64)
    sgemm.through(BLAS.sgemm, x, weight, beta, out)
    close(out, expected)


@cases(40)
@given(**SIZES)
def test_back_through_and_outer_overwrite(n, inputs, outputs):
    grad, weight, x = drawn(n, outputs), drawn(outputs, inputs), drawn(n, inputs)
    to_x, to_weight = np.full((n, inputs), np.nan, np.float32), np.full((outputs, inputs), np.nan, np.float32)
    sgemm.back_through(BLAS.sgemm, grad, weight, to_x)
    sgemm.outer(BLAS.sgemm, grad, x, to_weight)
    close(to_x, grad.astype(np.float64) @ weight)
    close(to_weight, grad.astype(np.float64).T @ x)


def test_rows_around_a_block_stay():
    whole, x, weight = np.full((9, 4), 7, np.float32), drawn(5, 3), drawn(4, 3)
    sgemm.through(BLAS.sgemm, x, weight, 0, whole[2:7])
    assert (whole[[0, 1, 7, 8]] == 7).all()
    close(whole[2:7], x.astype(np.float64) @ weight.T)
