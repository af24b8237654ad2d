"""Marching rays through a grid of occupied cells on a CPU, compiled by numba; `marching` is the oracle."""

# Without fastmath, positions are rounded as torch rounds them, and samples lie in the same cells for both.
# mypy does not look into compiled functions.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

ONE, TINY, MOST = np.float32(1.0), np.float32(1e-12), np.float32(1e9)
MARGIN, ROUNDING = np.float32(0.02), np.float32(2e-6)


@njit(inline="always", error_model="numpy")
def _cell(position, low, per_unit, resolution):
    """Cell of a coordinate along its axis."""
    return min(max(int((position - low) * per_unit), 0), resolution - 1)


@njit(inline="always", error_model="numpy")
def _exit(origin, inverse, low, size, cell, bits):
    """Distance at which a ray leaves the block of `2**bits` cells that holds a cell, along one axis."""
    block = (cell >> bits) + (1 if inverse > 0 else 0)
    return (low + np.float32(block << bits) * size - origin) * inverse


@njit(inline="always", error_model="numpy")
def _inverse(direction):
    """One over a component of a direction; of one that is zero, a number so large that nothing is near."""
    if abs(direction) < TINY:
        return ONE / TINY
    return ONE / direction


@njit(nogil=True, cache=True, error_model="numpy")
def find(
    origins,
    directions,
    nears,
    fars,
    occupied,
    coarse,
    low,
    per_unit,
    step,
    jitter,
    found,
    counts,
    next_step,
    is_over,
    first,
    last,
):
    """Steps of rays `[first, last)` whose sample lies in an occupied cell, up to the columns of `found`.

    An empty cell, or an empty block of cells, is left in one leap. The leap ends a little before the cell
    does, so that rounding can never carry it past a sample of the next cell.
    """
    resolution, most = occupied.shape[0], found.shape[1]
    # A block is found by shifting bits. A division of integers would take as long as all else that is done
    # for a cell.
    whole = 0
    while coarse.shape[0] << whole < resolution:
        whole += 1
    bits = np.uint64(whole)
    step = np.float32(step)
    per_step = ONE / step
    sx, sy, sz = ONE / per_unit[0], ONE / per_unit[1], ONE / per_unit[2]
    for r in range(first, last):
        ox, oy, oz = origins[r, 0], origins[r, 1], origins[r, 2]
        dx, dy, dz = directions[r, 0], directions[r, 1], directions[r, 2]
        ix, iy, iz = _inverse(dx), _inverse(dy), _inverse(dz)
        near, far, shift = nears[r], fars[r], jitter[r]
        # By how many steps a leap ends before the cell does. Distances are rounded, far ones more.
        margin = MARGIN + ROUNDING * far * per_step
        k, count, over = next_step[r], 0, True
        while True:
            middle = near + (np.float32(k) + shift) * step
            if not middle < far:
                break
            i = _cell(ox + dx * middle, low[0], per_unit[0], resolution)
            j = _cell(oy + dy * middle, low[1], per_unit[1], resolution)
            m = _cell(oz + dz * middle, low[2], per_unit[2], resolution)
            # Unsigned, because for signed indices numba also compiles a test whether they are negative.
            u, v, w = np.uint64(i), np.uint64(j), np.uint64(m)
            is_near = coarse[u >> bits, v >> bits, w >> bits]
            if is_near and occupied[u, v, w]:
                if count == most:
                    over = False
                    break
                found[r, count] = k
                count += 1
                k += 1
            else:
                leapt = 0 if is_near else whole
                away = min(
                    _exit(ox, ix, low[0], sx, i, leapt),
                    _exit(oy, iy, low[1], sy, j, leapt),
                    _exit(oz, iz, low[2], sz, m, leapt),
                )
                leap = min((away - near) * per_step - shift, MOST) - margin
                k = max(k + 1, np.int64(leap) + 1)
        counts[r] = count
        next_step[r] = k
        is_over[r] = over


@njit(nogil=True, cache=True, error_model="numpy")
def pack(nears, step, jitter, found, starts, ray, middle, first, last):
    """Ray and distance of each sample found, ray after ray."""
    step = np.float32(step)
    for r in range(first, last):
        start = starts[r]
        for i in range(starts[r + 1] - start):
            ray[start + i] = r
            middle[start + i] = nears[r] + (np.float32(found[r, i]) + jitter[r]) * step


def warm_up():
    """Call each kernel once."""
    one, three = np.zeros(1, np.float32), np.ones((1, 3), np.float32)
    occupied, found = np.ones((2, 2, 2), np.bool_), np.zeros((1, 1), np.int32)
    counts, truth = np.zeros(1, np.int64), np.zeros(1, np.bool_)
    corner = three[0]
    find(
        three,
        three,
        one,
        one,
        occupied,
        occupied,
        corner,
        corner,
        1.0,
        one,
        found,
        counts,
        np.zeros(1, np.int64),
        truth,
        0,
        1,
    )
    pack(one, 1.0, one, found, np.zeros(2, np.int64), np.zeros(1, np.int64), one, 0, 1)
