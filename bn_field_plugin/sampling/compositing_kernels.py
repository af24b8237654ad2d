"""Compositing packed samples on a CPU, compiled by numba; `compositing` is the oracle."""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

ONE, ZERO = np.float32(1.0), np.float32(0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def light(density, length, starts, light, here, behind, first, last):
    """Light that gets to each sample of rays `[first, last)`, and what is left of it behind the last ones."""
    for r in range(first, last):
        left = light[r]
        for s in range(starts[r], starts[r + 1]):
            here[s] = left
            left *= np.exp(-density[s] * length[s])
        behind[r] = left


@njit(nogil=True, cache=True, error_model="numpy")
def forward(density, color, length, starts, sums, accumulation, weights, first, last):
    """Colours, opacities and weights of rays `[first, last)`."""
    channels = color.shape[1]
    for r in range(first, last):
        light, total = ONE, ZERO
        for c in range(channels):
            sums[r, c] = ZERO
        for s in range(starts[r], starts[r + 1]):
            weight = light * -np.expm1(-density[s] * length[s])
            light *= np.exp(-density[s] * length[s])
            weights[s] = weight
            total += weight
            for c in range(channels):
                sums[r, c] += weight * color[s, c]
        accumulation[r] = total


@njit(nogil=True, cache=True, error_model="numpy")
def backward(
    density,
    color,
    length,
    starts,
    grad_sums,
    grad_accumulation,
    grad_weights,
    grad_density,
    grad_color,
    first,
    last,
):
    """Gradients of densities and colours of the samples of rays `[first, last)`.

    A denser sample adds light of its own, and takes light from the samples behind it. The first pass over a
    ray sums what each sample adds to the loss; the second one takes off what the samples behind it add.
    """
    channels = color.shape[1]
    for r in range(first, last):
        light, behind = ONE, ZERO
        for s in range(starts[r], starts[r + 1]):
            weight = light * -np.expm1(-density[s] * length[s])
            light *= np.exp(-density[s] * length[s])
            gain = grad_accumulation[r] + grad_weights[s]
            for c in range(channels):
                gain += grad_sums[r, c] * color[s, c]
                grad_color[s, c] = weight * grad_sums[r, c]
            behind += weight * gain
            # Kept for the second pass: the light left behind this sample times its gain for the loss, and the
            # sum of what the samples up to this one add. The total less that sum is what those behind add.
            grad_density[s] = light * gain
            grad_density[s] += behind
        for s in range(starts[r], starts[r + 1]):
            grad_density[s] = length[s] * (grad_density[s] - behind)


def warm_up():
    """Call each kernel once."""
    light(*[np.zeros(1, np.float32)] * 2, np.zeros(2, np.int64), *[np.zeros(1, np.float32)] * 3, 0, 1)
    one, rgb, starts = np.zeros(1, np.float32), np.zeros((1, 3), np.float32), np.zeros(2, np.int64)
    forward(one, rgb, one, starts, rgb, one, one, 0, 1)
    backward(one, rgb, one, starts, rgb, one, one, one.copy(), rgb.copy(), 0, 1)
