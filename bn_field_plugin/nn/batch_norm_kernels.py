"""Batch norm and ReLU on a CPU, compiled by numba: block by block of samples, each while it is in the cache.

Each kernel takes samples `[first, last)`, so few that they fit a core's cache; matrices are `[n, c]`, fp32
and contiguous, vectors `[c]`. Some samples are taken together as one row, so that it fills the processor's
vectors whatever the number of features.
"""

# Without fastmath, the backward pass rounds as the forward pass does, and finds the same zeros of the ReLU.
# mypy does not look into compiled functions.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

ZERO = np.float32(0.0)

LANES = 16
"""Numbers in fp32 that the widest vectors hold."""


@njit(inline="always", error_model="numpy")
def _width(features):
    """Length of a row of one or more samples."""
    width = features
    while width % LANES:
        width += features
    return width


@njit(inline="always", error_model="numpy")
def _flat(matrix, first, last):
    """Samples one after the other."""
    features = matrix.shape[1]
    return matrix.reshape(-1)[first * features : last * features]


@njit(nogil=True, cache=True, error_model="numpy")
def _repeated(vector, width):
    """A number for each place of a row."""
    row = np.empty(width, np.float32)
    for j in range(width):
        row[j] = vector[j % len(vector)]
    return row


@njit(nogil=True, cache=True, error_model="numpy")
def _folded(row, vector):
    """The row's sums over its samples."""
    vector[:] = ZERO
    for j in range(len(row)):
        vector[j % len(vector)] += row[j]


@njit(nogil=True, cache=True, error_model="numpy")
def moments(z, mean, squares, first, last):
    """Mean of each feature over the samples, and sum of squares around it."""
    width = _width(z.shape[1])
    flat = _flat(z, first, last)
    many = 4 * width
    whole = len(flat) // many * many
    sums = np.zeros(width, np.float32)
    for s in range(0, whole, many):
        a, b, c, d = flat[s:], flat[s + width :], flat[s + 2 * width :], flat[s + 3 * width :]
        for j in range(width):
            sums[j] += (a[j] + b[j]) + (c[j] + d[j])
    for s in range(whole, len(flat), width):
        row = flat[s : s + width]
        for j in range(len(row)):
            sums[j] += row[j]
    _folded(sums, mean)
    for j in range(len(mean)):
        mean[j] /= np.float32(last - first)
    center = _repeated(mean, width)
    sums[:] = ZERO
    for s in range(0, whole, many):
        a, b, c, d = flat[s:], flat[s + width :], flat[s + 2 * width :], flat[s + 3 * width :]
        for j in range(width):
            e, f, g, h = a[j] - center[j], b[j] - center[j], c[j] - center[j], d[j] - center[j]
            sums[j] += (e * e + f * f) + (g * g + h * h)
    for s in range(whole, len(flat), width):
        row = flat[s : s + width]
        for j in range(len(row)):
            e = row[j] - center[j]
            sums[j] += e * e
    _folded(sums, squares)


@njit(nogil=True, cache=True, error_model="numpy")
def normalize(z, mean, scale, shift, relu, y, first, last):
    """`y = (z - mean) * scale + shift`, then ReLU if asked."""
    width = _width(z.shape[1])
    flat, out = _flat(z, first, last), _flat(y, first, last)
    mean, scale, shift = _repeated(mean, width), _repeated(scale, width), _repeated(shift, width)
    for s in range(0, len(flat), width):
        row, made = flat[s : s + width], out[s : s + width]
        for j in range(len(row)):
            value = (row[j] - mean[j]) * scale[j] + shift[j]
            # What is not a number stays so.
            made[j] = ZERO if relu and value < ZERO else value


@njit(nogil=True, cache=True, error_model="numpy")
def sums(grad, z, mean, scale, shift, relu, total, product, first, last):
    """Sums of the gradients behind the ReLU, and of their products with the centred features."""
    width = _width(z.shape[1])
    flat, given = _flat(z, first, last), _flat(grad, first, last)
    mean, scale, shift = _repeated(mean, width), _repeated(scale, width), _repeated(shift, width)
    totals, products = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for s in range(0, len(flat), width):
        row, above = flat[s : s + width], given[s : s + width]
        for j in range(len(row)):
            centred = row[j] - mean[j]
            hidden = relu and centred * scale[j] + shift[j] <= ZERO
            g = ZERO if hidden else above[j]
            totals[j] += g
            products[j] += g * centred
    _folded(totals, total)
    _folded(products, product)


@njit(nogil=True, cache=True, error_model="numpy")
def backward(grad, z, mean, scale, shift, relu, through_var, through_mean, grad_z, first, last):
    """`grad_z = scale * g - (z - mean) * through_var - through_mean` for the gradients g behind the ReLU."""
    width = _width(z.shape[1])
    flat, given, out = _flat(z, first, last), _flat(grad, first, last), _flat(grad_z, first, last)
    mean, scale, shift = _repeated(mean, width), _repeated(scale, width), _repeated(shift, width)
    through_var, through_mean = _repeated(through_var, width), _repeated(through_mean, width)
    for s in range(0, len(flat), width):
        row, above, made = flat[s : s + width], given[s : s + width], out[s : s + width]
        for j in range(len(row)):
            centred = row[j] - mean[j]
            hidden = relu and centred * scale[j] + shift[j] <= ZERO
            g = ZERO if hidden else above[j]
            made[j] = scale[j] * g - centred * through_var[j] - through_mean[j]


def warm_up():
    """Call each kernel once."""
    matrix, vector = np.zeros((1, 1), np.float32), np.zeros(1, np.float32)
    moments(matrix, vector, vector.copy(), 0, 1)
    normalize(matrix, vector, vector, vector, True, matrix.copy(), 0, 1)
    sums(matrix, matrix, vector, vector, vector, True, vector.copy(), vector.copy(), 0, 1)
    backward(matrix, matrix, vector, vector, vector, True, vector, vector, matrix.copy(), 0, 1)
