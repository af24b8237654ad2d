"""Error by frequency: which parts of an image's spectrum a network has learned (claim C6 of Cai et al.)."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float64, Shaped

EDGES = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Edges of the bands in cycles per pixel, at steps of an octave. The highest frequency of an image is 1/2
along an axis, and 0.71 diagonally."""

NAMES = tuple(
    f"{'0' if low == 0 else f'1/{round(1 / low)}'}-{'max' if high == 1 else f'1/{round(1 / high)}'}"
    for low, high in itertools.pairwise(EDGES)
)
"""Names of the bands: their edges in cycles per pixel."""


def band_energies(image: Shaped[np.ndarray, "h w c"]) -> Float64[np.ndarray, " bands"]:
    """Sum of squares of an image in each band.

    Frequencies are those of the orthonormal cosine transform, which, unlike Fourier's, does not take the
    image's borders for edges. All bands together have the sum of squares of the image.
    """
    from scipy.fft import dctn

    spectrum = dctn(image.astype(np.float64), axes=(0, 1), norm="ortho")
    rows, columns = image.shape[:2]
    vertical = np.arange(rows) / (2 * rows)
    horizontal = np.arange(columns) / (2 * columns)
    frequency = np.hypot(vertical[:, None], horizontal[None, :])
    band = np.digitize(frequency, EDGES[1:-1])
    power = np.square(spectrum).sum(axis=-1)
    return np.bincount(band.ravel(), weights=power.ravel(), minlength=len(NAMES))


def band_errors(truth: Shaped[np.ndarray, "h w c"], ours: Shaped[np.ndarray, "h w c"]) -> dict[str, float]:
    """Energy of the error over that of the truth in each band: 1 where nothing is learned, 0 where all is.

    A band in which the truth has no energy is left out.
    """
    truth = truth.astype(np.float64)
    wanted, missed = band_energies(truth), band_energies(ours.astype(np.float64) - truth)
    return {
        name: float(error / energy)
        for name, energy, error in zip(NAMES, wanted, missed, strict=True)
        if energy > 0
    }
