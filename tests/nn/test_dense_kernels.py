"""The kernels of dense layers equal numpy's numbers, for all sizes of layers, blocks and pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.nn import dense_kernels as kernels
from bn_field_plugin.nn.blas import blas
from bn_field_plugin.nn.dense import FINER, IDENTITY, NO_ROW, RELU, SINE
from tests.laws import cases

BLAS = blas()
pytestmark = pytest.mark.skipif(BLAS is None, reason="this torch has no MKL")

NOTHING = np.zeros((0, 1), np.float32)
OMEGA = 0.5


class Case:
    """A network and a batch, with outputs and gradients by numpy in fp64."""

    def __init__(self, n: int, widths: list[int], kind: int, ends: bool) -> None:
        self.kind, self.last_kind = kind, kind if ends else IDENTITY
        generator = np.random.default_rng(sum(widths) + n)

        def drawn(*shape: int) -> np.ndarray:
            return generator.normal(size=shape).astype(np.float32)

        self.sizes = np.array(list(zip(widths[1:], widths[:-1], strict=True)))
        self.layers = [(drawn(*size) / np.float32(size[1] ** 0.5), drawn(size[0])) for size in self.sizes]
        self.numbers = np.concatenate([part.ravel() for layer in self.layers for part in layer])
        self.x, self.above = drawn(n, widths[0]), drawn(n, widths[-1])
        self.widest, self.hidden = int(self.sizes[:, 0].max()), len(self.layers) - 1

    def passed(self) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """What comes into each layer and out of the last, what into each activation, and its slopes."""
        inputs, products, slopes = [self.x.astype(np.float64)], [], []
        for index, (weight, bias) in enumerate(self.layers):
            z = inputs[-1] @ weight.T + bias
            size, kind = np.abs(z), self.kind if index < self.hidden else self.last_kind
            y, slope = {
                IDENTITY: (z, np.ones_like(z)),
                RELU: (np.maximum(z, 0), (z > 0) * 1.0),
                SINE: (np.sin(OMEGA * z), OMEGA * np.cos(OMEGA * z)),
                FINER: (
                    np.sin(OMEGA * (size + 1) * z),
                    OMEGA * (2 * size + 1) * np.cos(OMEGA * (size + 1) * z),
                ),
            }[kind]
            inputs.append(y)
            products.append(z)
            slopes.append(slope)
        return inputs, products, slopes

    def gradients(self, rows: slice, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of numbers and samples, of some rows."""
        (inputs, _, slopes), grad, parts = self.passed(), above[rows], []
        for index in range(self.hidden, -1, -1):
            grad = grad * slopes[index][rows]
            parts += [grad.sum(0), (grad.T @ inputs[index][rows]).ravel()]
            grad = grad @ self.layers[index][0]
        return np.concatenate(parts[::-1]), grad


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))


@cases(60)
@given(
    n=st.integers(1, 50),
    size=st.integers(1, 20),
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    kind=st.sampled_from([RELU, SINE, FINER]),
    ends=st.booleans(),
    is_kept=st.booleans(),
    wants_numbers=st.booleans(),
    wants_x=st.booleans(),
)
def test_forward_and_gradients(n, size, widths, kind, ends, is_kept, wants_numbers, wants_x):
    case, blocks = Case(n, widths, kind, ends), -(-n // size)
    activated = case.hidden + ends
    kept = np.full((activated if is_kept else 0, n * case.widest if is_kept else 1), 7, np.float32)
    out = np.full((n, widths[-1]), 7, np.float32)
    means, squares = np.full((2, blocks if ends else 0, widths[-1]), 7, np.float32)
    told = BLAS.sgemm, case.x, case.sizes, case.numbers, kind, np.float32(OMEGA), case.last_kind, kept
    pieces = (blocks // 2, blocks), (0, blocks // 2)  # they may come in any order
    for piece in pieces:
        kernels.forward(*told, out, means, squares, size, *piece)
    inputs, products, _ = case.passed()
    close(out, inputs[-1])
    for index in range(activated if is_kept else 0):
        expected = inputs[index + 1] if kind == RELU else products[index]
        close(kept[index][: expected.size].reshape(expected.shape), expected)
    above, moments = case.above.astype(np.float64), (NO_ROW,) * 3
    if ends:
        moments = tuple(np.linspace(-1, 1, 3 * widths[-1], dtype=np.float32).reshape(3, -1))
        center, to_mean, to_var = moments
        above = above + to_mean + to_var * (inputs[-1] - center)
    to_numbers = np.full((blocks if wants_numbers else 0, len(case.numbers)), 7, np.float32)
    to_x = np.full(case.x.shape, 7, np.float32) if wants_x else NOTHING
    for piece in pieces:
        kernels.gradients(*told, case.above, *moments, to_numbers, to_x, size, *piece)
    for block in range(blocks):
        rows = slice(block * size, (block + 1) * size)
        numbers, samples = case.gradients(rows, above)
        if ends:
            close(means[block], inputs[-1][rows].mean(0))
            close(squares[block], np.square(inputs[-1][rows] - inputs[-1][rows].mean(0)).sum(0))
        if wants_numbers:
            close(to_numbers[block], numbers)
        if wants_x:
            close(to_x[rows], samples)
