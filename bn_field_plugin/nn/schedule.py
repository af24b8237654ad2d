"""Factors of the learning rate over a run: a linear warmup, and half a cosine wave down to a last share."""

from __future__ import annotations

import math


def warmup(step: int, steps: int) -> float:
    """Factor at a step, counted from 0: it rises in a straight line, and is 1 from step `steps` on."""
    return min(1.0, (step + 1) / (steps + 1))


def cosine_decay(progress: float, final_fraction: float) -> float:
    """Half a cosine wave (Loshchilov & Hutter 2017) from 1 to `final_fraction`, and no further.

    Args:
        progress: 0 where the wave begins, 1 where it ends.
        final_fraction: the last factor.
    """
    wave = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return final_fraction + (1 - final_fraction) * wave
