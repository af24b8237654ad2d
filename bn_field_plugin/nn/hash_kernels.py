"""The hash grid's interpolation on a CPU, compiled by numba: forward, and gradients to tables and positions.

Each kernel is a loop over samples `[first, last)` of one level: one level after the other, so that its table
stays in the cache. Imported when first needed, by `hash_grid`, whose torch route is the oracle.

Arguments of all of them: positions `x` `[n, d]` in [-1, 1], tables `[rows, features]`, features of all levels
`[n, levels * features]`, or gradients of such; fp32 and contiguous. A level is the first of its columns, its
resolution, its first row in the tables, and the mask of its hash, which is 0 where the level is dense. Tuples
of zeros, one a coordinate (`axes`) and one a feature (`columns`), tell the compiler how many there are.
"""

# Without fastmath, sums are taken in the order in which they are written, and have the same bits everywhere.
# mypy does not look into compiled functions.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from bn_field_plugin.nn.hash_grid import PRIMES

SECOND, THIRD = np.uint32(PRIMES[1]), np.uint32(PRIMES[2])
"""Factors of the spatial hash along the second and the third axis."""

HALF, ONE, ZERO, NEXT = np.float32(0.5), np.float32(1.0), np.float32(0.0), np.uint32(1)


@njit(inline="always", error_model="numpy")
def _locate(coordinate, resolution):
    """Cell of a coordinate, and its place in there from 0 to 1."""
    scaled = (coordinate * HALF + HALF) * np.float32(resolution)
    scaled = min(max(scaled, ZERO), np.float32(resolution))
    # If a coordinate is NaN, max() gives its first argument: the cell is in the grid, and the place is NaN.
    cell = min(np.int32(max(ZERO, scaled)), np.int32(resolution - 1))
    return np.uint32(cell), scaled - np.float32(cell)


def _cell(x, s, resolution, mask, axes):
    """Rows of the corners of a sample's cell, x running fastest, and the sample's place in it."""


@overload(_cell, inline="always")
def _cell_of(x, s, resolution, mask, axes):
    def three(x, s, resolution, mask, axes):
        cx, fx = _locate(x[s, 0], resolution)
        cy, fy = _locate(x[s, 1], resolution)
        cz, fz = _locate(x[s, 2], resolution)
        dx = cx + NEXT
        if mask == 0:
            side = np.uint32(resolution + 1)
            y0, z0 = cy * side, cz * side * side
            y1, z1 = y0 + side, z0 + side * side
            a, b, c, d = y0 + z0, y1 + z0, y0 + z1, y1 + z1
            rows = (cx + a, dx + a, cx + b, dx + b, cx + c, dx + c, cx + d, dx + d)
        else:
            y0, z0 = cy * SECOND, cz * THIRD
            y1, z1 = y0 + SECOND, z0 + THIRD
            a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
            rows = (
                (cx ^ a) & mask,
                (dx ^ a) & mask,
                (cx ^ b) & mask,
                (dx ^ b) & mask,
                (cx ^ c) & mask,
                (dx ^ c) & mask,
                (cx ^ d) & mask,
                (dx ^ d) & mask,
            )
        return rows, (fx, fy, fz)

    def two(x, s, resolution, mask, axes):
        cx, fx = _locate(x[s, 0], resolution)
        cy, fy = _locate(x[s, 1], resolution)
        dx = cx + NEXT
        if mask == 0:
            side = np.uint32(resolution + 1)
            y0 = cy * side
            y1 = y0 + side
            rows = (cx + y0, dx + y0, cx + y1, dx + y1)
        else:
            y0 = cy * SECOND
            y1 = y0 + SECOND
            rows = ((cx ^ y0) & mask, (dx ^ y0) & mask, (cx ^ y1) & mask, (dx ^ y1) & mask)
        return rows, (fx, fy)

    return three if len(axes) == 3 else two


def _weights(place):
    """Weights of the corners; they sum to one."""


@overload(_weights, inline="always")
def _weights_of(place):
    def three(place):
        fx, fy, fz = place
        gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
        a, b, c, d = gy * gz, fy * gz, gy * fz, fy * fz
        return gx * a, fx * a, gx * b, fx * b, gx * c, fx * c, gx * d, fx * d

    def two(place):
        fx, fy = place
        gx, gy = ONE - fx, ONE - fy
        return gx * gy, fx * gy, gx * fy, fx * fy

    return three if len(place) == 3 else two


def _slopes(place):
    """Derivatives of the corners' weights along each axis, in cells."""


@overload(_slopes, inline="always")
def _slopes_of(place):
    def three(place):
        fx, fy, fz = place
        gx, gy, gz = ONE - fx, ONE - fy, ONE - fz
        a, b, c, d = gy * gz, fy * gz, gy * fz, fy * fz
        e, f, g, h = gx * gz, fx * gz, gx * fz, fx * fz
        i, j, k, m = gx * gy, fx * gy, gx * fy, fx * fy
        return (-a, a, -b, b, -c, c, -d, d), (-e, -f, e, f, -g, -h, g, h), (-i, -j, -k, -m, i, j, k, m)

    def two(place):
        fx, fy = place
        gx, gy = ONE - fx, ONE - fy
        return (-gy, gy, -fy, fy), (-gx, -fx, gx, fx)

    return three if len(place) == 3 else two


INT32, INT64 = ir.IntType(32), ir.IntType(64)


def _row(builder, table, number, size):
    """Pointer to a row of `size` numbers in fp32, as one vector."""
    offset = builder.mul(number, ir.Constant(INT64, 4 * size))
    return builder.inttoptr(builder.add(table, offset), ir.VectorType(ir.FloatType(), size).as_pointer())


def _load(builder, pointer):
    loaded = builder.load(pointer)
    loaded.align = 4
    return loaded


def _store(builder, value, pointer):
    builder.store(value, pointer).align = 4


def _repeated(builder, number, size):
    """A vector that holds one number in each place."""
    vector = ir.VectorType(ir.FloatType(), size)
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT32, size), [0] * size))


def _corners(builder, table, first_row, rows, weights, count, size):
    """Pointer to each corner's row, and its weight in each place."""
    for k in range(count):
        number = builder.add(first_row, builder.zext(builder.extract_value(rows, k), INT64))
        weight = _repeated(builder, builder.extract_value(weights, k), size)
        yield _row(builder, table, number, size), weight


# By itself, the compiler would not load the features of a row as one vector.
@intrinsic
def _sum_of_rows(context, table, first_row, rows, weights, out, columns):
    """Store the weighted sum of rows of a table at the address `out`; `table` is an address too."""
    size = len(columns)

    def generate(context, builder, signature, arguments):
        table, first_row, rows, weights, out, _ = arguments
        total = None
        for row, weight in _corners(builder, table, first_row, rows, weights, signature.args[2].count, size):
            product = builder.fmul(weight, _load(builder, row))
            total = product if total is None else builder.fadd(total, product)
        _store(builder, total, _row(builder, out, ir.Constant(INT64, 0), size))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, rows, weights, types.int64, columns), generate


@intrinsic
def _add_to_rows(context, table, first_row, rows, weights, grad, columns):
    """Add the vector at the address `grad`, weighted, to rows of a table."""
    size = len(columns)

    def generate(context, builder, signature, arguments):
        table, first_row, rows, weights, grad, _ = arguments
        change = _load(builder, _row(builder, grad, ir.Constant(INT64, 0), size))
        for row, weight in _corners(builder, table, first_row, rows, weights, signature.args[2].count, size):
            # Each row is loaded only after the last one has been stored, since two corners may share a row.
            _store(builder, builder.fadd(_load(builder, row), builder.fmul(weight, change)), row)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, rows, weights, types.int64, columns), generate


@njit(inline="always", error_model="numpy")
def _address(array, column):
    """Address of a column of a matrix in fp32, and the distance of its rows, in bytes."""
    return np.int64(array.ctypes.data) + 4 * np.int64(column), 4 * np.int64(array.shape[1])


@njit(nogil=True, cache=True, error_model="numpy")
def forward(x, tables, out, axes, columns, column, resolution, row, mask, first, last):
    """Fill the level's columns of `out`."""
    table, _ = _address(tables, 0)
    start, pitch = _address(out, column)
    for s in range(first, last):
        rows, place = _cell(x, s, resolution, mask, axes)
        _sum_of_rows(table, row, rows, _weights(place), start + s * pitch, columns)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_tables(x, grad_out, grad_tables, axes, columns, column, resolution, row, mask, first, last):
    """Add to the gradients of the level's rows."""
    table, _ = _address(grad_tables, 0)
    start, pitch = _address(grad_out, column)
    for s in range(first, last):
        rows, place = _cell(x, s, resolution, mask, axes)
        _add_to_rows(table, row, rows, _weights(place), start + s * pitch, columns)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_positions(
    x, tables, grad_out, grad_x, axes, columns, column, resolution, row, mask, first, last
):
    """Add the level's share to the gradients of positions; coordinates outside [-1, 1] have no gradient."""
    scale = np.float32(resolution) * HALF
    for s in range(first, last):
        rows, place = _cell(x, s, resolution, mask, axes)
        slopes = _slopes(place)
        for a in range(len(axes)):
            total = ZERO
            for k in range(len(rows)):
                product = ZERO
                for f in range(len(columns)):
                    product += grad_out[s, column + f] * tables[row + np.int64(rows[k]), f]
                total += slopes[a][k] * product
            if -ONE <= x[s, a] <= ONE:
                grad_x[s, a] += scale * total


def warm_up(dim, features):
    """Call each kernel once, for so many coordinates and features a level."""
    x, tables = np.zeros((1, dim), np.float32), np.zeros((3**dim, features), np.float32)
    out = np.zeros((1, features), np.float32)
    level = (0,) * dim, (0,) * features, 0, 2, 0, np.uint32(0), 0, 1
    forward(x, tables, out, *level)
    backward_tables(x, out, tables, *level)
    backward_positions(x, tables, out, np.zeros_like(x), *level)
