"""Products of matrices within compiled loops, by the BLAS whose address they are given.

Matrices are fp32, and their rows lie one after the other. `gemm` is the address of BLAS's `sgemm`.
"""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def _sgemm(typing, gemm, transposes, sizes, a, lda, b, ldb, beta, c, ldc):
    """Fortran's `sgemm`: `c = op(a) @ op(b) + beta * c`, columns contiguous; addresses and leading sizes.

    `transposes` holds the letters of op(a) and op(b) as numbers, `sizes` the rows and columns of `c` and the
    length of the sums.
    """
    signature = types.void(gemm, transposes, sizes, a, lda, b, ldb, beta, c, ldc)

    def generate(context, builder, signature, arguments):
        gemm, transposes, sizes, a, lda, b, ldb, beta, c, ldc = arguments
        byte, integer, single = ir.IntType(8), ir.IntType(32), ir.FloatType()

        def stored(value, kind):
            place = cgutils.alloca_once(builder, kind)
            builder.store(value, place)
            return place

        def number(value):
            return stored(builder.trunc(value, integer), integer)

        def letter(position):
            return stored(builder.trunc(builder.extract_value(transposes, position), byte), byte)

        def matrix(address):
            return builder.inttoptr(address, single.as_pointer())

        given = [
            *(letter(position) for position in range(2)),
            *(number(builder.extract_value(sizes, position)) for position in range(3)),
            stored(single(1.0), single),
            *(matrix(a), number(lda), matrix(b), number(ldb)),
            *(stored(beta, single), matrix(c), number(ldc)),
        ]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(gemm, kind.as_pointer()), given)
        return context.get_dummy_value()

    return signature, generate


AS_IT_IS, TRANSPOSED = ord("N"), ord("T")


@njit(inline="always", error_model="numpy")
def _multiply(gemm, transposes, sizes, a, b, beta, out):
    """`_sgemm` of matrices whose rows lie one after the other: Fortran sees each of them transposed."""
    first, second, third = a.ctypes.data, b.ctypes.data, out.ctypes.data
    rows = a.shape[1], b.shape[1], out.shape[1]
    _sgemm(gemm, transposes, sizes, first, rows[0], second, rows[1], np.float32(beta), third, rows[2])


@njit(inline="always", error_model="numpy")
def through(gemm, x, weight, beta, out):
    """`out = x @ weight.T + beta * out`."""
    sizes = weight.shape[0], x.shape[0], x.shape[1]
    _multiply(gemm, (TRANSPOSED, AS_IT_IS), sizes, weight, x, beta, out)


@njit(inline="always", error_model="numpy")
def back_through(gemm, grad, weight, out):
    """`out = grad @ weight`."""
    sizes = weight.shape[1], grad.shape[0], grad.shape[1]
    _multiply(gemm, (AS_IT_IS, AS_IT_IS), sizes, weight, grad, 0, out)


@njit(inline="always", error_model="numpy")
def outer(gemm, grad, x, out):
    """`out = grad.T @ x`."""
    sizes = x.shape[1], grad.shape[1], grad.shape[0]
    _multiply(gemm, (AS_IT_IS, TRANSPOSED), sizes, x, grad, 0, out)
