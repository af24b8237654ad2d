"""Conversion of the samples that a codec gives to upright grey, RGB or RGBA.

There is one function for each notion (bits, palette, ink, luma, alpha, orientation), for all formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

Pixels = Shaped[np.ndarray, "h w *c"]
"""Rows, columns and, where there are several, channels."""

Opaque = Shaped[np.ndarray, "h w c"]
"""Rows, columns and channels, without alpha."""


def widened(samples: Shaped[np.ndarray, "*shape"], bits: int) -> Shaped[np.ndarray, "*shape"]:
    """Scale whole numbers of 1 to 16 bits to the full range of 8 or 16 bits, rounded to the nearest."""
    wide: type[np.unsignedinteger[Any]] = np.uint8 if bits <= 8 else np.uint16
    if bits in (8, 16):
        return samples.astype(wide, copy=False)
    top, full = 2**bits - 1, int(np.iinfo(wide).max)
    table = ((np.arange(top + 1, dtype=np.int64) * full * 2 + top) // (2 * top)).astype(wide)
    looked_up: Pixels = table[np.minimum(samples.astype(np.int64), top)]
    return looked_up


def inverted(samples: Pixels) -> Pixels:
    """Invert whole numbers whose least is white, so that the least is black."""
    negative: Pixels = np.iinfo(samples.dtype).max - samples
    return negative


def from_palette(indices: Pixels, colours: UInt16[np.ndarray, "3 n"]) -> UInt8[np.ndarray, "h w 3"]:
    """The colours that indices stand for.

    Args:
        indices: numbers of colours.
        colours: 16-bit colours; where none is above 255, they are taken for 8-bit ones, as libtiff does.
    """
    table = (colours if colours.max(initial=0) < 256 else colours >> 8).astype(np.uint8).T
    if table.shape[0] == 0 or indices.max(initial=0) >= table.shape[0]:
        raise ValueError("a pixel is beyond the palette")
    return np.ascontiguousarray(table[indices])


def from_inks(cmyk: Shaped[np.ndarray, "h w 4"]) -> Shaped[np.ndarray, "h w 3"]:
    """RGB from cyan, magenta, yellow and black as ideal inks: what is shown without a colour profile."""
    full = int(np.iinfo(cmyk.dtype).max)
    light = full - cmyk.astype(np.int64)
    return ((light[..., :3] * light[..., 3:] * 2 + full) // (2 * full)).astype(cmyk.dtype)


def from_luma(
    samples: UInt8[np.ndarray, "h w 3"],
    coefficients: Sequence[float] = (0.299, 0.587, 0.114),
    reference: Sequence[float] = (0, 255, 128, 255, 128, 255),
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB from 8-bit luma and chroma (TIFF 6.0, section 21).

    Args:
        samples: Y, Cb, Cr.
        coefficients: shares of red, green and blue in the luma.
        reference: codes of black and white of each sample.
    """
    red, green, blue = coefficients
    low, high = np.asarray(reference[::2], np.float64), np.asarray(reference[1::2], np.float64)
    luma, to_blue, to_red = np.moveaxis((samples - low) / (high - low) * (255, 127, 127), -1, 0)
    r = luma + to_red * (2 - 2 * red)
    b = luma + to_blue * (2 - 2 * blue)
    g = (luma - blue * b - red * r) / green
    rgb: np.ndarray = np.floor(np.clip(np.stack([r, g, b], axis=-1), 0, 255) + 0.5).astype(np.uint8)
    return rgb


def unassociated(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    """Divide colours by alpha, the last channel, by which they were multiplied; black where alpha is 0."""
    colours, alpha = pixels[..., :-1].astype(np.float64), pixels[..., -1:].astype(np.float64)
    full = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0
    straight = colours * np.divide(full, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return _with_alpha(straight, pixels)


def associated(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    """Colours multiplied by alpha, the last channel."""
    full = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0
    return _with_alpha(pixels[..., :-1].astype(np.float64) * (pixels[..., -1:] / full), pixels)


def _with_alpha(
    colours: Shaped[np.ndarray, "h w d"], pixels: Shaped[np.ndarray, "h w c"]
) -> Shaped[np.ndarray, "h w c"]:
    """Join colours with the alpha of `pixels`, and convert them to the depth of `pixels`."""
    if pixels.dtype.kind == "u":
        colours = np.floor(np.clip(colours, 0, np.iinfo(pixels.dtype).max) + 0.5)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=-1)


def in_colour(pixels: Shaped[np.ndarray, "h w 2"]) -> Shaped[np.ndarray, "h w 4"]:
    """Grey with alpha as RGBA."""
    return np.ascontiguousarray(pixels[..., [0, 0, 0, 1]])


def upright(pixels: Pixels, orientation: int) -> Shaped[np.ndarray, "h2 w2 *c"]:
    """Pixels as a viewer shows them.

    Args:
        pixels: rows as the file has them.
        orientation: value of the Orientation tag of TIFF and EXIF, 1 to 8, which says where row 0 and column
            0 belong; other values count as 1.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def area_means(
    pixels: Opaque, rows: int, columns: int, weighted: bool = False
) -> Shaped[np.ndarray, "h2 w2 c"]:
    """Shrink by means over areas: a pixel is the mean of the part it covers, fractions of pixels included.

    Args:
        pixels: any type.
        rows: rows of the result, at most as many.
        columns: columns of the result, at most as many.
        weighted: weigh the other channels by the last one, alpha; equally, where all of a part is
            transparent.

    Returns:
        The shrunk pixels in double precision; beside them, only a few rows take memory.
    """
    height, width, channels = pixels.shape
    if weighted:
        # Means are needed of colours times alpha, of alpha, and of bare colours, for areas where alpha is 0.
        colours = pixels.shape[2] - 1
        channels = 2 * colours + 1
    down, across = _shares(height, rows), _shares(width, columns)
    found = np.zeros((rows, columns * channels))
    step = max(1, 2**20 // (width * channels))
    for top in range(0, height, step):
        band = pixels[top : top + step].astype(np.float64)
        if weighted:
            alpha = band[..., -1:]
            band = np.concatenate([band[..., :-1] * alpha, alpha, band[..., :-1]], axis=-1)
        count = band.shape[0]
        narrow = across @ band.transpose(1, 0, 2).reshape(width, count * channels)
        flat = narrow.reshape(columns, count, channels).transpose(1, 0, 2).reshape(count, -1)
        # Only a few rows of the result overlap with this band.
        first, last = top * rows // height, -(-(top + count) * rows // height)
        found[first:last] += down[first:last, top : top + count] @ flat
    means = found.reshape(rows, columns, channels)
    if not weighted:
        return means
    by_alpha, alpha, plain = np.split(means, (colours, colours + 1), axis=-1)
    return np.concatenate([np.divide(by_alpha, alpha, out=plain, where=alpha > 0), alpha], axis=-1)


def _shares(old: int, new: int) -> Any:
    """Sparse [new, old] matrix: the shares of old intervals in new ones over the same length."""
    from scipy.sparse import csr_array

    edges = np.arange(new + 1) * (old / new)
    at, where, share = [], [], []
    for index in range(new):
        low, high = edges[index], min(edges[index + 1], float(old))
        cells = np.arange(int(low), min(int(np.ceil(high)), old))
        covered = np.minimum(cells + 1, high) - np.maximum(cells, low)
        at.append(np.full(len(cells), index))
        where.append(cells)
        share.append(covered / covered.sum())
    return csr_array((np.concatenate(share), (np.concatenate(at), np.concatenate(where))), shape=(new, old))
