"""Sines and cosines of the compiled loops beside numpy's in fp64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from bn_field_plugin.nn.sines import sine_and_cosine
from tests.laws import cases


@njit(error_model="numpy", fastmath={"contract"})
def of_all(x, sines, cosines):
    for i in range(len(x)):
        sines[i], cosines[i] = sine_and_cosine(x[i])


def both(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sines, cosines = np.empty_like(x), np.empty_like(x)
    of_all(x, sines, cosines)
    return sines, cosines


@pytest.mark.parametrize("largest", [1e-6, 1.0, 100.0, 5000.0])
def test_within_two_roundings(largest):
    x = np.random.default_rng(0).uniform(-largest, largest, 2**16).astype(np.float32)
    sines, cosines = both(x)
    np.testing.assert_allclose(sines, np.sin(x.astype(np.float64)), rtol=0, atol=2e-7)
    np.testing.assert_allclose(cosines, np.cos(x.astype(np.float64)), rtol=0, atol=2e-7)


def test_small_angles_keep_their_digits():
    x = np.float32(10.0) ** -np.arange(1, 30, dtype=np.float32)
    np.testing.assert_allclose(both(x)[0], np.sin(x.astype(np.float64)), rtol=2e-7)


@cases(50)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_odd_and_even_and_bounded(angle):
    sines, cosines = both(np.array([angle, -angle], np.float32))
    assert sines[0] == -sines[1]
    assert cosines[0] == cosines[1]
    assert np.abs(sines).max() <= 1.000001
    assert np.abs(cosines).max() <= 1.000001


def test_what_is_not_a_number_stays_so():
    sines, cosines = both(np.array([np.nan, np.inf, -np.inf], np.float32))
    assert np.isnan(sines).all()
    assert np.isnan(cosines).all()
