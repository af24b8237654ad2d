"""OpenEXR files, by OpenCV, placed in their display window."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bn_field_plugin.errors import UserError
from standalone.image.readers.decoded import Decoded, check_size
from standalone.image.readers.exr_header import read_exr_header
from standalone.image.readers.samples import Pixels

NAMED = 8
"""Most channels that a message names: files of several layers have dozens."""


def read_exr(data: bytes, longer_side: int | None = None) -> Decoded:
    """The picture of a single-part file; its colours are multiplied by alpha, as the format has it.

    Args:
        data: content of the file.
        longer_side: longer side to which the picture will be shrunk, or None.

    Raises:
        UserError: the file has several parts, other channels, or too many pixels.
    """
    header = read_exr_header(data)
    for window in (header.data, header.display):
        check_size(window.height, window.width, longer_side)
    if set(header.channels) not in ({"Y"}, {"R", "G", "B"}, {"R", "G", "B", "A"}):
        names = ", ".join(header.channels[:NAMED]) + ", ..." * (len(header.channels) > NAMED)
        raise UserError(f"has the channels {names}: keep Y, or R, G, B, or R, G, B, A (one layer)")
    cv2 = opencv()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError("is damaged: save it anew")
    pixels = swap_red_and_blue(pixels)
    if header.channels == ("Y",) and pixels.ndim == 3:
        pixels = pixels[..., :1]
    if header.is_half:
        pixels = pixels.astype(np.float16)
    if header.data == header.display:
        return Decoded(pixels)
    shown = np.zeros((header.display.height, header.display.width, *pixels.shape[2:]), pixels.dtype)
    top, left = header.data.top - header.display.top, header.data.left - header.display.left
    rows = slice(max(0, top), max(0, top + header.data.height))
    columns = slice(max(0, left), max(0, left + header.data.width))
    part = pixels[max(0, -top) :, max(0, -left) :]
    place = shown[rows, columns]
    place[...] = part[: place.shape[0], : place.shape[1]]
    return Decoded(
        shown, notes=("has pixels for another window than the one it shows: cut or filled with 0",)
    )


def opencv() -> Any:
    """OpenCV, with its EXR codec switched on, and its log off, since commands report errors themselves."""
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    import cv2

    cv2.setLogLevel(0)
    return cv2


def write_exr(pixels: Shaped[np.ndarray, "h w c"]) -> bytes:
    """Content of a file of half or single precision."""
    cv2 = opencv()
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    kind = cv2.IMWRITE_EXR_TYPE_HALF if pixels.dtype == np.float16 else cv2.IMWRITE_EXR_TYPE_FLOAT
    swapped = np.ascontiguousarray(swap_red_and_blue(flat.astype(np.float32)))
    done, data = cv2.imencode(".exr", swapped, [cv2.IMWRITE_EXR_TYPE, kind])
    if not done:
        raise UserError("this OpenCV cannot write .exr: use another ending")
    return bytes(data)


def swap_red_and_blue(pixels: Pixels) -> Pixels:
    """RGB for BGR and the other way round."""
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        return pixels
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
