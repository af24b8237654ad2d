"""Linear layers and activations, compiled: each block of samples passes all of them within the cache.

Each kernel takes blocks `[first, last)` of `size` samples each; the last block of all may hold fewer.
Matrices are fp32, contiguous, and hold all samples. `gemm` is the address of BLAS's `sgemm`.

A row of `sizes` has a layer's numbers of outputs and of inputs. `numbers` holds the weights and biases of all
layers, one after the other. `kind` and `omega` tell the activation between layers, and `last_kind` the one
behind the last layer.

Activations are kept for the backward pass: of ReLU what comes out of it, of sines what goes into them.
"""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

from bn_field_plugin.nn.batch_norm_kernels import moments
from bn_field_plugin.nn.dense import FINER, IDENTITY, RELU
from bn_field_plugin.nn.sgemm import back_through, outer, through
from bn_field_plugin.nn.sines import sine_and_cosine

IN_LINE = 16
"""Numbers in 64 bytes."""

ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)


@njit(inline="always", error_model="numpy")
def _layer(sizes, numbers, index):
    """Weight and bias of a layer, as views of `numbers` (or of their gradients)."""
    start = 0
    for before in range(index):
        start += sizes[before, 0] * (sizes[before, 1] + 1)
    outputs, inputs = sizes[index, 0], sizes[index, 1]
    middle = start + outputs * inputs
    return numbers[start:middle].reshape(outputs, inputs), numbers[middle : middle + outputs]


@njit(inline="always", error_model="numpy")
def _rooms(count, size):
    """Rows of at least `size` numbers, for any content.

    Each begins at a multiple of 64 bytes, as torch's matrices do: where a matrix begins, BLAS may round
    differently.
    """
    size = -(-size // IN_LINE) * IN_LINE
    numbers = np.empty(count * size + IN_LINE, np.float32)
    start = -np.int64(numbers.ctypes.data) % (4 * IN_LINE) // 4
    return numbers[start : start + count * size].reshape(count, size)


@njit(inline="always", error_model="numpy")
def _room(room, start, n, columns):
    """Rows `start` to `start + n` of a matrix of `columns` columns."""
    return room[start * columns : (start + n) * columns].reshape(n, columns)


@njit(error_model="numpy", fastmath={"contract"})
def _linear(gemm, x, weight, bias, out):
    """`out = x @ weight.T + bias`."""
    through(gemm, x, weight, 0, out)
    for s in range(len(out)):
        row = out[s]
        for j in range(len(bias)):
            row[j] += bias[j]


@njit(error_model="numpy", fastmath={"contract"})
def _activate(kind, omega, z, out):
    """Apply an activation; `out` may be `z`."""
    given, made = z.reshape(-1), out.reshape(-1)
    if kind == RELU:
        for i in range(len(given)):
            # What is not a number stays so.
            made[i] = ZERO if given[i] < ZERO else given[i]
    elif kind == FINER:
        for i in range(len(given)):
            made[i], _ = sine_and_cosine(omega * (abs(given[i]) + ONE) * given[i])
    elif kind != IDENTITY:
        for i in range(len(given)):
            made[i], _ = sine_and_cosine(omega * given[i])


@njit(error_model="numpy", fastmath={"contract"})
def _activate_again(kind, omega, kept, out, slopes):
    """What an activation gave, and its slopes, from what is kept of it."""
    given, made, slope = kept.reshape(-1), out.reshape(-1), slopes.reshape(-1)
    if kind == RELU:
        for i in range(len(given)):
            made[i] = given[i]
            slope[i] = ONE if given[i] > ZERO else ZERO
    elif kind == FINER:
        for i in range(len(given)):
            size = abs(given[i])
            made[i], cosine = sine_and_cosine(omega * (size + ONE) * given[i])
            slope[i] = omega * (TWO * size + ONE) * cosine
    else:
        for i in range(len(given)):
            made[i], cosine = sine_and_cosine(omega * given[i])
            slope[i] = omega * cosine


@njit(error_model="numpy")
def _pass(gemm, x, sizes, numbers, kind, omega, last_kind, rooms, kept, start, out):
    """All layers for one block of samples; `kept` has rooms for each activation, or none."""
    h = x
    for index in range(len(sizes)):
        weight, bias = _layer(sizes, numbers, index)
        is_last = index == len(sizes) - 1
        now = last_kind if is_last else kind
        made = out if is_last else _room(rooms[index % 2], 0, len(x), len(bias))
        z = made
        if len(kept) and now != IDENTITY:
            z = _room(kept[index], start, len(x), len(bias))
        _linear(gemm, h, weight, bias, z)
        if now == RELU and len(kept):
            _activate(now, omega, z, z)
            if is_last:
                out[:] = z
            h = z
        else:
            _activate(now, omega, z, made)
            h = made


@njit(nogil=True, cache=True, error_model="numpy")
def forward(gemm, x, sizes, numbers, kind, omega, last_kind, kept, out, means, squares, size, first, last):
    """Outputs, and where `means` has rows those of each block, with the sums of squares around them."""
    rooms = _rooms(2, size * sizes[:, 0].max())
    for block in range(first, last):
        start, stop = block * size, min((block + 1) * size, len(out))
        made = out[start:stop]
        _pass(gemm, x[start:stop], sizes, numbers, kind, omega, last_kind, rooms, kept, start, made)
        if len(means):
            moments(out, means[block], squares[block], start, stop)


@njit(error_model="numpy", fastmath={"contract"})
def _from_moments(above, out, center, to_mean, to_var, grad):
    """Gradients of outputs, with those that come through their mean and variance."""
    for s in range(len(above)):
        given, value, made = above[s], out[s], grad[s]
        for j in range(len(center)):
            made[j] = given[j] + to_mean[j] + to_var[j] * (value[j] - center[j])


@njit(error_model="numpy")
def _times(grad, slopes):
    """Gradients behind an activation, from those before it."""
    made, slope = grad.reshape(-1), slopes.reshape(-1)
    for i in range(len(made)):
        # Behind a ReLU that is off there is nothing, whatever comes from above.
        made[i] = made[i] * slope[i] if slope[i] != ZERO else ZERO


@njit(nogil=True, cache=True, error_model="numpy")
def gradients(
    gemm,
    x,
    sizes,
    numbers,
    kind,
    omega,
    last_kind,
    kept,
    above,
    center,
    to_mean,
    to_var,
    to_numbers,
    to_x,
    size,
    first,
    last,
):
    """Gradients from those of the outputs, `above`; all layers are passed again where nothing is `kept`.

    `to_mean` and `to_var` hold what a change of the outputs' mean and variance changes, for each sample:
    with center c, an output y gets `to_mean + to_var * (y - c)` besides; empty where nobody asked for them.

    Fills of each block those of `numbers` where `to_numbers` has rows, and those of `x` where `to_x` has.
    """
    layers, widest = len(sizes), sizes.max()
    again = _rooms(0 if len(kept) else layers, size * widest)
    rooms = _rooms(4, size * widest)
    for block in range(first, last):
        start, stop = block * size, min((block + 1) * size, len(above))
        n, into = stop - start, x[start:stop]
        stored, at = kept, start
        if not len(kept):
            stored, at = again, 0
            ends = _room(rooms[3], 0, n, sizes[-1, 0])
            _pass(gemm, into, sizes, numbers, kind, omega, last_kind, rooms, again, 0, ends)
        grad, slopes = above[start:stop], above[start:stop]
        for index in range(layers, -1, -1):
            # What comes into layer `index`, which is not there for the last one: the outputs.
            columns = sizes[index - 1, 0] if index else sizes[0, 1]
            h, now = into, kind if index < layers else last_kind
            has_slopes = index > 0 and now != IDENTITY
            if has_slopes:
                h, slopes = _room(rooms[2], 0, n, columns), _room(rooms[3], 0, n, columns)
                _activate_again(now, omega, _room(stored[index - 1], at, n, columns), h, slopes)
            if index < layers:
                weight, _ = _layer(sizes, numbers, index)
                if len(to_numbers):
                    to_weight, to_bias = _layer(sizes, to_numbers[block], index)
                    outer(gemm, grad, h, to_weight)
                    to_bias[:] = ZERO
                    for s in range(n):
                        for j in range(len(to_bias)):
                            to_bias[j] += grad[s, j]
                if index:
                    below = _room(rooms[index % 2], 0, n, columns)
                    back_through(gemm, grad, weight, below)
                    grad = below
                elif len(to_x):
                    back_through(gemm, grad, weight, to_x[start:stop])
            elif len(to_mean):
                grad = _room(rooms[index % 2], 0, n, columns)
                _from_moments(above[start:stop], h, center, to_mean, to_var, grad)
            elif has_slopes:
                grad = _room(rooms[index % 2], 0, n, columns)
                grad[:] = above[start:stop]
            if has_slopes:
                _times(grad, slopes)


def warm_up():
    """Compile each kernel, or read it from disk; there is nothing to multiply."""
    nothing, sizes, numbers = np.zeros((0, 1), np.float32), np.ones((2, 2), np.int64), np.zeros(4, np.float32)
    told = 0, nothing, sizes, numbers, IDENTITY, ONE, IDENTITY, nothing, nothing
    row = np.zeros(0, np.float32)
    forward(*told, nothing, nothing, 1, 0, 0)
    gradients(*told, row, row, row, nothing, nothing, 1, 0, 0)
