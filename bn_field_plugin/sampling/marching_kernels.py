"""Marching rays through a grid of occupied cells on a CPU, compiled by numba; `marching` is the oracle."""

# No fastmath: the same roundings as torch's, so that a sample lies in the same cell.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import njit

ONE = np.float32(1.0)
FAR = np.float32(np.inf)


@njit(inline="always", error_model="numpy")
def _cell(position, low, per_unit, resolution):
    """Cell of a coordinate along its axis."""
    return min(max(int((position - low) * per_unit), 0), resolution - 1)


@njit(inline="always", error_model="numpy")
def _exit(origin, direction, low, per_unit, cell):
    """Distance at which a ray leaves a cell along one axis."""
    if direction > 0:
        return (low + np.float32(cell + 1) / per_unit - origin) / direction
    if direction < 0:
        return (low + np.float32(cell) / per_unit - origin) / direction
    return FAR


@njit(nogil=True, cache=True, error_model="numpy")
def find(
    origins,
    directions,
    nears,
    fars,
    occupied,
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

    An empty cell is left in one leap. It ends a whole step before the cell does: what it passes over lies
    inside the cell whatever the rounding.
    """
    resolution, most = occupied.shape[0], found.shape[1]
    step = np.float32(step)
    for r in range(first, last):
        ox, oy, oz = origins[r, 0], origins[r, 1], origins[r, 2]
        dx, dy, dz = directions[r, 0], directions[r, 1], directions[r, 2]
        near, far = nears[r], fars[r]
        k, count, over = next_step[r], 0, True
        while True:
            middle = near + (np.float32(k) + jitter[r]) * step
            if not middle < far:
                break
            i = _cell(ox + dx * middle, low[0], per_unit[0], resolution)
            j = _cell(oy + dy * middle, low[1], per_unit[1], resolution)
            m = _cell(oz + dz * middle, low[2], per_unit[2], resolution)
            if occupied[i, j, m]:
                if count == most:
                    over = False
                    break
                found[r, count] = k
                count += 1
                k += 1
            else:
                away = min(
                    _exit(ox, dx, low[0], per_unit[0], i),
                    _exit(oy, dy, low[1], per_unit[1], j),
                    _exit(oz, dz, low[2], per_unit[2], m),
                )
                leap = min((away - near) / step - jitter[r], np.float32(1e9)) - ONE
                k = max(k + 1, np.int64(leap))
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
