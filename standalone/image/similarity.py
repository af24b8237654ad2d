"""Structural similarity of two images, at one scale (SSIM) and at five (MS-SSIM, Wang et al. 2003)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Shaped

WINDOW = 11
"""Side of the Gaussian window, in pixels."""

SIGMA = 1.5
"""Standard deviation of the window, in pixels."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales in MS-SSIM, the finest scale first."""

STABILIZERS = (0.01**2, 0.03**2)
"""Constants c1 and c2 of SSIM for values in [0, 1]: they keep its two fractions from dividing by zero."""

SMALLEST = WINDOW * 2 ** (len(WEIGHTS) - 1)
"""Shortest side of an image whose coarsest scale still holds the window."""

Planes = Float64[np.ndarray, "c h w"]
"""Channels of an image, values in [0, 1]."""

Smaller = Float64[np.ndarray, "c h2 w2"]
"""Results from an image's channels, with fewer rows and columns."""


class Similarity(NamedTuple):
    """Similarities of two images; None where they are too small for the window."""

    ssim: float | None
    """Similarity at the images' own scale."""
    ms_ssim: float | None
    """Similarity over five scales."""


def similarity(truth: Shaped[np.ndarray, "h w c"], ours: Shaped[np.ndarray, "h w c"]) -> Similarity:
    """SSIM and MS-SSIM of 8-bit images, as means over all channels.

    Only windows that lie wholly inside the image are counted, as in the papers.
    """
    a, b = (np.moveaxis(image.astype(np.float64) / 255, -1, 0) for image in (truth, ours))
    side = min(truth.shape[:2])
    if side < WINDOW:
        return Similarity(None, None)
    ssim, contrast = _at_one_scale(a, b)
    if side < SMALLEST:
        return Similarity(ssim, None)
    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = _halved(a), _halved(b)
            ssim_here, contrast = _at_one_scale(a, b)
        last = scale == len(WEIGHTS) - 1
        product *= max(0.0, ssim_here if last else contrast) ** weight
    return Similarity(ssim, product)


def _at_one_scale(a: Planes, b: Planes) -> tuple[float, float]:
    """Mean SSIM, and the mean of its second factor, which compares contrast and structure only."""
    c1, c2 = STABILIZERS
    mean_a, mean_b, aa, bb, ab = (_blurred(x) for x in (a, b, a * a, b * b, a * b))
    both, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    contrast = (2 * (ab - both) + c2) / (aa + bb - squares + c2)
    return float(((2 * both + c1) / (squares + c1) * contrast).mean()), float(contrast.mean())


def _blurred(x: Planes) -> Smaller:
    """Weighted means under the window, at all places where it lies wholly inside the image."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    window /= window.sum()
    rows, columns = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    x = sum(weight * x[:, k : k + rows] for k, weight in enumerate(window))
    means: np.ndarray = sum(weight * x[:, :, k : k + columns] for k, weight in enumerate(window))
    return means


def _halved(x: Planes) -> Smaller:
    """Means of squares of 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    means: np.ndarray = x[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2).mean(axis=(2, 4))
    return means
