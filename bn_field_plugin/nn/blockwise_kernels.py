"""Blocks of samples on their way through hidden layers, compiled: norm, ReLU, products and sums in one call.

Each kernel takes blocks `[first, last)` of `size` samples each; the last block of all may hold fewer.
Matrices are fp32, contiguous, and hold all samples. `gemm` is the address of BLAS's `sgemm`.

What comes into a layer is told by `below`, and by mean, scale and shift of the norm behind it: `below` holds
products before that norm and its ReLU where `normed`, and the samples themselves where not.
"""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

from bn_field_plugin.nn.batch_norm_kernels import backward, moments, normalize, sums
from bn_field_plugin.nn.sgemm import back_through, outer, through


@njit(inline="always", error_model="numpy")
def _into(below, norm, normed, room):
    """What comes into a layer, for the samples of `below`; `room` has place for them."""
    if not normed:
        return below
    mean, scale, shift = norm
    normalize(below, mean, scale, shift, True, room, 0, len(below))
    return room[: len(below)]


@njit(nogil=True, cache=True, error_model="numpy")
def forward(gemm, below, norm, normed, weight, z, means, squares, size, first, last):
    """Products `z` of a hidden layer, and of each block their means and the sums of squares around them."""
    room = np.empty((size, below.shape[1]), np.float32)
    for block in range(first, last):
        start, stop = block * size, min((block + 1) * size, len(z))
        through(gemm, _into(below[start:stop], norm, normed, room), weight, 0, z[start:stop])
        moments(z, means[block], squares[block], start, stop)


@njit(nogil=True, cache=True, error_model="numpy")
def output(gemm, below, norm, normed, weight, bias, out, size, first, last):
    """Outputs of a linear layer."""
    room = np.empty((size, below.shape[1]), np.float32)
    for block in range(first, last):
        start, stop = block * size, min((block + 1) * size, len(out))
        made = out[start:stop]
        for s in range(len(made)):
            for j in range(len(bias)):
                made[s, j] = bias[j]
        through(gemm, _into(below[start:stop], norm, normed, room), weight, 1, made)


@njit(nogil=True, cache=True, error_model="numpy")
def gradients(
    gemm,
    above,
    z,
    own,
    back,
    hidden,
    below,
    norm,
    normed,
    weight,
    to_weight,
    to_below,
    totals,
    dots,
    size,
    first,
    last,
):
    """Gradients of a linear layer, from those of what comes out of it.

    Where it is `hidden`, `above` holds gradients behind its norm `own` and the ReLU, `z` its products, and
    `back` what variance and mean send back to each sample; else `above` holds those of its products.

    Fills of each block those of the weight; where `to_below` has rows, those of what comes into the layer;
    and of the norm there the sums over samples of the gradients, and of their products with the features.
    """
    room = np.empty((size, below.shape[1]), np.float32)
    given = np.empty((size if hidden else 0, above.shape[1]), np.float32)
    mean, scale, shift = norm
    own_mean, own_scale, own_shift = own
    var_back, mean_back = back
    for block in range(first, last):
        start, stop = block * size, min((block + 1) * size, len(above))
        grad = above[start:stop]
        if hidden:
            n = stop - start
            behind = own_mean, own_scale, own_shift, True, var_back, mean_back
            backward(grad, z[start:stop], *behind, given, 0, n)
            grad = given[:n]
        outer(gemm, grad, _into(below[start:stop], norm, normed, room), to_weight[block])
        if len(to_below):
            back_through(gemm, grad, weight, to_below[start:stop])
            if normed:
                sums(to_below, below, mean, scale, shift, True, totals[block], dots[block], start, stop)


def warm_up():
    """Compile each kernel, or read it from disk; there is nothing to multiply."""
    nothing, row = np.zeros((0, 1), np.float32), np.zeros(1, np.float32)
    norm, cube, sgemm = (row, row, row), np.zeros((0, 1, 1), np.float32), 0
    forward(sgemm, nothing, norm, True, nothing, nothing, nothing, nothing, 1, 0, 0)
    output(sgemm, nothing, norm, True, nothing, row, nothing, 1, 0, 0)
    told = nothing, nothing, norm, (row, row), True, nothing, norm, True, nothing
    gradients(sgemm, *told, cube, nothing, nothing, nothing, 1, 0, 0)
