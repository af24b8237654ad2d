"""The kernels for blocks of samples, forward and backward, equal numpy's products and sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import blockwise_kernels as kernels
from bn_field_plugin.nn.blas import blas
from tests.laws import cases

BLAS = blas()
pytestmark = pytest.mark.skipif(BLAS is None, reason="this torch has no MKL")

SIZES = {
    "n": st.integers(1, 70),
    "size": st.integers(1, 30),
    "inputs": st.integers(1, 20),
    "outputs": st.integers(1, 20),
    "normed": st.booleans(),
    "seed": st.integers(0, 99),
}


class Case:
    """Arrays of one layer."""

    def __init__(self, n: int, size: int, inputs: int, outputs: int, normed: bool, seed: int) -> None:
        generator = np.random.default_rng(seed)

        def drawn(*shape: int) -> np.ndarray:
            return generator.normal(size=shape).astype(np.float32)

        self.n, self.size, self.blocks, self.normed = n, size, -(-n // size), normed
        self.below, self.weight, self.bias = drawn(n, inputs), drawn(outputs, inputs), drawn(outputs)
        self.norm = drawn(inputs), drawn(inputs), drawn(inputs)
        self.above, self.z, self.own = drawn(n, outputs), drawn(n, outputs), tuple(drawn(3, outputs))
        self.back = drawn(outputs), drawn(outputs)

    @property
    def into(self) -> np.ndarray:
        """The layer's inputs, in fp64."""
        return behind(self.below, self.norm) if self.normed else self.below.astype(np.float64)

    def rows(self, block: int) -> slice:
        return slice(block * self.size, min((block + 1) * self.size, self.n))

    def empty(self, *shape: int) -> np.ndarray:
        return np.full(shape, 7, np.float32)


def behind(z: np.ndarray, norm: tuple[np.ndarray, ...]) -> np.ndarray:
    """Norm and ReLU of products."""
    mean, scale, shift = norm
    return np.maximum((z.astype(np.float64) - mean) * scale + shift, 0)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))


@cases(40)
@given(**SIZES)
def test_forward_and_output(n, size, inputs, outputs, normed, seed):
    case = Case(n, size, inputs, outputs, normed, seed)
    told = BLAS.sgemm, case.below, case.norm, normed, case.weight
    z, means, squares = (case.empty(rows, outputs) for rows in (n, case.blocks, case.blocks))
    out = case.empty(n, outputs)
    half = case.blocks // 2
    for first, last in ((half, case.blocks), (0, half)):  # pieces may come in any order
        kernels.forward(*told, z, means, squares, size, first, last)
        kernels.output(*told, case.bias, out, size, first, last)
    expected = case.into @ case.weight.T
    close(z, expected)
    close(out, expected + case.bias)
    for block in range(case.blocks):
        rows = expected[case.rows(block)]
        close(means[block], rows.mean(0))
        close(squares[block], ((rows - rows.mean(0)) ** 2).sum(0))


@cases(40)
@given(**SIZES, hidden=st.booleans(), wanted=st.booleans())
def test_gradients(n, size, inputs, outputs, normed, seed, hidden, wanted):
    case = Case(n, size, inputs, outputs, normed, seed)
    to_weight = case.empty(case.blocks, outputs, inputs)
    to_below = case.empty(n if wanted else 0, inputs)
    totals, dots = case.empty(case.blocks, inputs), case.empty(case.blocks, inputs)
    given_above = case.above.copy()
    told = case.above, case.z, case.own, case.back, hidden, case.below, case.norm, normed, case.weight
    kernels.gradients(BLAS.sgemm, *told, to_weight, to_below, totals, dots, size, 0, case.blocks)
    np.testing.assert_array_equal(case.above, given_above)
    grad = case.above.astype(np.float64)
    if hidden:
        mean, scale, _ = case.own
        centred = case.z.astype(np.float64) - mean
        grad = scale * grad * (behind(case.z, case.own) > 0) - centred * case.back[0] - case.back[1]
    mean = case.norm[0]
    passes = behind(case.below, case.norm) > 0
    for block in range(case.blocks):
        rows = case.rows(block)
        close(to_weight[block], grad[rows].T @ case.into[rows])
        if wanted and normed:
            kept = (grad @ case.weight)[rows] * passes[rows]
            close(totals[block], kept.sum(0))
            close(dots[block], (kept * (case.below[rows] - mean)).sum(0))
    if wanted:
        close(to_below, grad @ case.weight)
