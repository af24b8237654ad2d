"""Sines and cosines within compiled loops, in vectors of the processor."""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

PI = np.float32(3.140625), np.float32(9.67502593994140625e-4), np.float32(1.509957990978376432e-7)
"""Pi as a sum, of which a multiple of the first parts is exact in fp32 (Cody & Waite 1980)."""

ONE_OVER_PI, HALF, ONE, FOUR = (np.float32(value) for value in (1 / np.pi, 0.5, 1.0, 4.0))

LARGEST = np.float32(1.6)
"""Largest rest of an angle, a little more than pi / 2 for turns that are rounded to the wrong side."""

SINE = tuple(np.float32(v) for v in (2.7525562e-6, -1.9840874e-4, 8.3333310e-3, -1.6666667e-1))
COSINE = tuple(np.float32(v) for v in (-2.7557319e-7, 2.4801587e-5, -1.3888889e-3, 4.1666667e-2, -0.5))
"""Coefficients of the powers of `r * r`, the highest one after the leading one."""

LEADING = np.float32(-2.3889859e-8), np.float32(2.0875723e-9)
"""Leading coefficients of both."""


@njit(inline="always", error_model="numpy")
def sine_and_cosine(x):
    """Sine and cosine of an angle, within 2e-7 up to angles of some thousand."""
    turns = np.rint(x * ONE_OVER_PI)
    r = ((x - turns * PI[0]) - turns * PI[1]) - turns * PI[2]
    # Of huge angles nothing certain is left, but sines stay sines; what is not a number stays so.
    r = -LARGEST if r < -LARGEST else r
    r = LARGEST if r > LARGEST else r
    half = turns * HALF
    sign = ONE - FOUR * (half - np.floor(half))
    q = r * r
    sine = (((LEADING[0] * q + SINE[0]) * q + SINE[1]) * q + SINE[2]) * q + SINE[3]
    cosine = ((((LEADING[1] * q + COSINE[0]) * q + COSINE[1]) * q + COSINE[2]) * q + COSINE[3]) * q + COSINE[
        4
    ]
    return sign * (r + r * q * sine), sign * (ONE + q * cosine)
