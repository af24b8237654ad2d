"""The compiled twin of `WindingTree.twin`; imported when first needed, as numba takes seconds to compile."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
def add_winding_numbers(
    points: np.ndarray, nodes: np.ndarray, bounds: np.ndarray, triangles: np.ndarray, out: np.ndarray
) -> None:
    """Winding numbers of points into `out`; the other arguments are `WindingTree`'s attributes."""
    first_leaf = len(nodes) // 2
    stack = np.empty(64, dtype=np.int64)
    for p in range(len(points)):
        px, py, pz = points[p, 0], points[p, 1], points[p, 2]
        total = 0.0
        stack[0] = 0
        size = 1
        while size > 0:
            size -= 1
            i = stack[size]
            n = nodes[i]
            x, y, z = n[0] - px, n[1] - py, n[2] - pz
            square = x * x + y * y + z * z
            if square > n[3]:
                inverse = 1.0 / square
                r3 = inverse * math.sqrt(inverse)
                linear = n[4] * x + n[5] * y + n[6] * z + n[7]
                quadratic = (
                    x * (n[8] * x + n[11] * y + n[12] * z) + y * (n[9] * y + n[13] * z) + n[10] * z * z
                )
                traces = n[14] * x + n[15] * y + n[16] * z
                cubic = (
                    x * x * (n[17] * x + n[20] * y + n[21] * z)
                    + y * y * (n[22] * x + n[18] * y + n[23] * z)
                    + z * z * (n[24] * x + n[25] * y + n[19] * z)
                    + n[26] * x * y * z
                )
                total += r3 * (linear + inverse * (7.5 * cubic * inverse - 3.0 * quadratic - 1.5 * traces))
            elif i < first_leaf:
                stack[size] = 2 * i + 1
                stack[size + 1] = 2 * i + 2
                size += 2
            else:
                for k in range(bounds[i - first_leaf], bounds[i - first_leaf + 1]):
                    ax, ay, az = triangles[k, 0, 0] - px, triangles[k, 0, 1] - py, triangles[k, 0, 2] - pz
                    bx, by, bz = triangles[k, 1, 0] - px, triangles[k, 1, 1] - py, triangles[k, 1, 2] - pz
                    cx, cy, cz = triangles[k, 2, 0] - px, triangles[k, 2, 1] - py, triangles[k, 2, 2] - pz
                    la = math.sqrt(ax * ax + ay * ay + az * az)
                    lb = math.sqrt(bx * bx + by * by + bz * bz)
                    lc = math.sqrt(cx * cx + cy * cy + cz * cz)
                    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
                    total += 2.0 * math.atan2(
                        volume,
                        la * lb * lc
                        + (ax * bx + ay * by + az * bz) * lc
                        + (bx * cx + by * cy + bz * cz) * la
                        + (cx * ax + cy * ay + cz * az) * lb,
                    )
        out[p] = total / (4.0 * math.pi)


def warm_up() -> None:
    """Call the kernel once, so that numba compiles it, or reads what it has compiled before."""
    add_winding_numbers(
        np.zeros((1, 3)), np.zeros((1, 27)), np.array([0, 1]), np.zeros((1, 3, 3)), np.empty(1)
    )
