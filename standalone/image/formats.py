"""Bytes of image files to arrays and back, by the library that keeps each format's depth.

Pillow reads 8-bit PNG and JPEG, OpenCV 16-bit PNG and EXR (Pillow would cut them to 8 bits), tifffile TIFF.
Headers are looked at first, so that what we do not support is named rather than silently converted.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bn_field_plugin.nn import UserError
from standalone.image.exr_header import read_exr_header
from standalone.image.images import MAX_PIXELS, FormatName

Pixels = Shaped[np.ndarray, "h w *c"]
"""Rows, columns and, where there are several, channels."""

MAGIC: tuple[tuple[bytes, FormatName], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x76\x2f\x31\x01", "exr"),
)
"""First bytes of the formats."""

PNG_GREY, PNG_PALETTE, PNG_GREY_ALPHA = 0, 3, 4
"""Colour types of a PNG file (PNG specification, 11.2.1)."""

JPEG_QUALITY = 95
"""Quality of JPEG files that are written."""


def decode_file(data: bytes) -> tuple[Pixels, FormatName]:
    """Pixels and format of an image file's content.

    Raises:
        UserError: with the end of a sentence that begins with the file's name.
    """
    name = next((name for magic, name in MAGIC if data.startswith(magic)), None)
    if name is None:
        raise UserError("is no PNG, JPEG, TIFF or EXR file: convert it to one of these")
    try:
        return DECODERS[name](data), name
    except UserError:
        raise
    except Exception as error:  # damaged files make the libraries raise almost anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"is damaged or no proper {name.upper()} ({reason}): save it anew") from error


def encode_file(pixels: Shaped[np.ndarray, "h w c"], name: FormatName) -> bytes:
    """Content of an image file; the format must hold the depth and channels (see `images.check_holds`)."""
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if name == "exr":
        kind = "EXR_TYPE_HALF" if pixels.dtype == np.float16 else "EXR_TYPE_FLOAT"
        cv2 = _opencv()
        return _opencv_encode(
            ".exr", flat.astype(np.float32), [cv2.IMWRITE_EXR_TYPE, getattr(cv2, f"IMWRITE_{kind}")]
        )
    if name == "png" and pixels.dtype == np.uint16:
        return _opencv_encode(".png", flat, [])
    buffer = io.BytesIO()
    if name == "tiff":
        import tifffile

        extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if pixels.shape[2] == 4 else {}
        kind = "minisblack" if pixels.shape[2] == 1 else "rgb"
        tifffile.imwrite(buffer, np.ascontiguousarray(flat), photometric=kind, **extra)
    else:
        from PIL import Image

        options: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0} if name == "jpeg" else {}
        Image.fromarray(np.ascontiguousarray(flat)).save(buffer, name.upper(), **options)
    return buffer.getvalue()


def check_size(height: int, width: int) -> None:
    """Refuse sizes that a file's header claims, before memory is taken for them.

    Raises:
        UserError: no pixels, or more than `MAX_PIXELS`.
    """
    if height < 1 or width < 1:
        raise UserError("has no pixels: give one with at least one row and one column")
    if height * width > MAX_PIXELS:
        raise UserError(f"claims {width} x {height} pixels, more than {MAX_PIXELS:,}: cut it into tiles")


def _decode_png(data: bytes) -> Pixels:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    check_size(height, width)
    if colour == PNG_PALETTE:
        raise UserError("has a palette: convert it to RGB")
    if colour == PNG_GREY_ALPHA:
        raise UserError("is grey with alpha: convert it to grey or RGBA")
    pixels = _decode_with_pillow(data)  # also checks the frames
    return _opencv_decode(data) if bits == 16 else pixels


def _decode_with_pillow(data: bytes) -> Pixels:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size has its own limit
        with Image.open(io.BytesIO(data)) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"has {getattr(image, 'n_frames', 1)} frames: extract one")
            check_size(image.height, image.width)
            if image.mode not in ("1", "L", "RGB", "RGBA") and not image.mode.startswith("I;16"):
                raise UserError(f"has the colour mode {image.mode}: convert it to grey, RGB or RGBA")
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert("L") if image.mode == "1" else upright)


def _decode_tiff(data: bytes) -> Pixels:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if len(file.pages) != 1:
            raise UserError(f"has {len(file.pages)} pages: extract one")
        page: Any = file.pages[0]
        check_size(page.imagelength, page.imagewidth)
        kind = page.photometric.name
        if kind == "PALETTE":
            raise UserError("has a palette: convert it to RGB")
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR"):
            raise UserError(f"has the colour space {kind}: convert it to grey, RGB or RGBA")
        if page.samplesperpixel > 4:
            raise UserError(f"has {page.samplesperpixel} channels: convert it to grey, RGB or RGBA")
        if page.dtype is None or page.dtype.name not in ("uint8", "uint16", "float16", "float32"):
            raise UserError(f"has values of type {page.dtype}: convert it to 8, 16 bit or 32-bit float")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            pixels = _opencv_decode(data)  # it brings the codecs that tifffile lacks
        if page.samplesperpixel > 1 and page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
        if kind == "MINISWHITE" and pixels.dtype.kind == "u":
            pixels = np.iinfo(pixels.dtype).max - pixels
        return pixels.astype(pixels.dtype.newbyteorder("="))


def _decode_exr(data: bytes) -> Pixels:
    header = read_exr_header(data)
    check_size(header.height, header.width)
    if set(header.channels) not in ({"Y"}, {"R", "G", "B"}, {"R", "G", "B", "A"}):
        names = ", ".join(header.channels)
        raise UserError(f"has the channels {names}: keep Y, or R, G, B, or R, G, B, A")
    pixels = _opencv_decode(data)
    if header.channels == ("Y",) and pixels.ndim == 3:
        pixels = pixels[..., :1]
    return pixels.astype(np.float16) if header.is_half else pixels


DECODERS: dict[FormatName, Callable[[bytes], Pixels]] = {
    "png": _decode_png,
    "jpeg": _decode_with_pillow,
    "tiff": _decode_tiff,
    "exr": _decode_exr,
}
"""From a file's content to its pixels, by format."""


def _opencv() -> Any:
    """OpenCV, with its EXR codec switched on and its log off: errors are ours to report."""
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    import cv2

    cv2.setLogLevel(0)
    return cv2


def _opencv_decode(data: bytes) -> Pixels:
    cv2 = _opencv()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError("is damaged: save it anew")
    return _swap_red_and_blue(pixels)


def _opencv_encode(suffix: str, pixels: Pixels, options: list[int]) -> bytes:
    done, data = _opencv().imencode(suffix, np.ascontiguousarray(_swap_red_and_blue(pixels)), options)
    if not done:
        raise UserError(f"this OpenCV cannot write {suffix}: use another ending")
    return bytes(data)


def _swap_red_and_blue(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        return pixels
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
