"""Batch norm and ReLU on a CPU, compiled by numba: block by block of samples, each while it is in the cache.

Each kernel takes samples `[first, last)`, at most `batch_linear.BLOCK` of them; matrices are `[n, c]`, fp32,
contiguous, vectors `[c]`. Torch's own kernels walk the samples more often and on one core only.
"""

# No fastmath: backward finds the same zeros of the ReLU as forward.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

ZERO = np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def moments(z, mean, squares, first, last):
    """Mean of each feature over the samples, and sum of squares around it."""
    features = z.shape[1]
    whole = first + (last - first) // 4 * 4
    mean[:] = ZERO
    squares[:] = ZERO
    for s in range(first, whole, 4):
        for j in range(features):
            mean[j] += (z[s, j] + z[s + 1, j]) + (z[s + 2, j] + z[s + 3, j])
    for s in range(whole, last):
        for j in range(features):
            mean[j] += z[s, j]
    for j in range(features):
        mean[j] /= np.float32(last - first)
    for s in range(first, whole, 4):
        for j in range(features):
            a, b, c, d = (
                z[s, j] - mean[j],
                z[s + 1, j] - mean[j],
                z[s + 2, j] - mean[j],
                z[s + 3, j] - mean[j],
            )
            squares[j] += (a * a + b * b) + (c * c + d * d)
    for s in range(whole, last):
        for j in range(features):
            a = z[s, j] - mean[j]
            squares[j] += a * a


@njit(nogil=True, cache=True, error_model="numpy")
def normalize(z, mean, scale, shift, relu, y, first, last):
    """`y = (z - mean) * scale + shift`, then ReLU if asked."""
    for s in range(first, last):
        for j in range(z.shape[1]):
            value = (z[s, j] - mean[j]) * scale[j] + shift[j]
            # What is not a number stays so.
            y[s, j] = ZERO if relu and value < ZERO else value


@njit(nogil=True, cache=True, error_model="numpy")
def sums(grad, z, mean, scale, shift, relu, total, product, first, last):
    """Sums of the gradients behind the ReLU, and of their products with the centred features."""
    features = z.shape[1]
    total[:] = ZERO
    product[:] = ZERO
    for s in range(first, last):
        for j in range(features):
            centred = z[s, j] - mean[j]
            hidden = relu and centred * scale[j] + shift[j] <= ZERO
            g = ZERO if hidden else grad[s, j]
            total[j] += g
            product[j] += g * centred


@njit(nogil=True, cache=True, error_model="numpy")
def backward(grad, z, mean, scale, shift, relu, through_var, through_mean, grad_z, first, last):
    """`grad_z = scale * g - (z - mean) * through_var - through_mean` for the gradients g behind the ReLU."""
    for s in range(first, last):
        for j in range(z.shape[1]):
            centred = z[s, j] - mean[j]
            hidden = relu and centred * scale[j] + shift[j] <= ZERO
            g = ZERO if hidden else grad[s, j]
            grad_z[s, j] = scale[j] * g - centred * through_var[j] - through_mean[j]


def warm_up():
    """Call each kernel once."""
    matrix, vector = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    moments(matrix, vector, vector.copy(), 0, 1)
    normalize(matrix, vector, vector, vector, True, matrix.copy(), 0, 1)
    sums(matrix, matrix, vector, vector, vector, True, vector.copy(), vector.copy(), 0, 1)
    backward(matrix, matrix, vector, vector, vector, True, vector, vector, matrix.copy(), 0, 1)
