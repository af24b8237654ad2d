"""Bytes of image files to pictures and back: one reader for each format, that keeps its depth."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from bn_field_plugin.errors import UserError
from standalone.image.readers.decoded import Decoded, fitting_profile
from standalone.image.readers.exr import read_exr, write_exr
from standalone.image.readers.jpeg import read_jpeg
from standalone.image.readers.png import SIGNATURE, read_png, with_profile
from standalone.image.readers.quiet import silent_libraries
from standalone.image.readers.tiff import read_tiff

FormatName = Literal["png", "jpeg", "tiff", "exr"]
"""File formats that can be read and written."""

MAGIC: tuple[tuple[bytes, FormatName], ...] = (
    (SIGNATURE, "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"\x76\x2f\x31\x01", "exr"),
)
"""First bytes of the formats."""

OTHERS: tuple[tuple[int, bytes, str], ...] = (
    *((8, brand, "HEIC") for brand in (b"heic", b"heix", b"mif1")),
    *(
        (8, b"avif", "AVIF"),
        (8, b"WEBP", "WebP"),
        (0, b"GIF8", "GIF"),
        (0, b"BM", "BMP"),
        (0, b"8BPS", "PSD"),
    ),
    *(
        (4, b"jP  ", "JPEG 2000"),
        (0, b"\xffO\xffQ", "JPEG 2000"),
        (4, b"JXL ", "JPEG XL"),
        (0, b"\xff\n", "JPEG XL"),
    ),
    *((0, b"#?RADIANCE", "Radiance HDR"), (0, b"%PDF", "PDF"), (0, b"\x93NUMPY", "a NumPy array")),
)
"""Known files that are not read: where they are told from others, by which bytes, and their name."""

LFS_POINTER = b"version https://git-lfs"
"""First bytes of what stands for a file in a clone without Git LFS."""

READERS: dict[FormatName, Callable[[bytes, int | None], Decoded]] = {
    "png": read_png,
    "jpeg": read_jpeg,
    "tiff": read_tiff,
    "exr": read_exr,
}
"""Reader of each format: it gives the picture in a file's content."""

JPEG_QUALITY = 95
"""Quality of JPEG files that are written."""


def decode_file(data: bytes, longer_side: int | None = None) -> tuple[Decoded, FormatName]:
    """Content and format of an image file.

    Args:
        data: content of the file.
        longer_side: longer side to which the picture will be shrunk, or None.

    Raises:
        UserError: with the end of a sentence that begins with the file's name.
    """
    name = next((name for magic, name in MAGIC if data.startswith(magic)), None)
    if not data:
        raise UserError("is empty: copy or save it anew")
    if data.startswith(LFS_POINTER):
        raise UserError("is a pointer of Git LFS: fetch the picture itself (git lfs pull)")
    if name is None:
        other = next((kind for at, magic, kind in OTHERS if data.startswith(magic, at)), None)
        if other is not None:
            raise UserError(f"is {other}, which is not read: convert it to PNG, JPEG, TIFF or EXR")
        raise UserError("is no PNG, JPEG, TIFF or EXR file: convert it to one of these")
    try:
        with silent_libraries():
            return READERS[name](data, longer_side), name
    except UserError:
        raise
    except Exception as error:  # damaged files make the libraries raise almost anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"is damaged or no proper {name.upper()} ({reason}): save it anew") from error


def encode_file(pixels: Shaped[np.ndarray, "h w c"], name: FormatName, profile: bytes | None = None) -> bytes:
    """Content of an image file; the format must hold the depth and channels (see `images.check_holds`).

    Args:
        pixels: grey, RGB or RGBA.
        name: the format.
        profile: ICC profile of the values; EXR has none.
    """
    flat = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    profile = fitting_profile(profile, pixels.shape[2])
    if name == "exr":
        return write_exr(pixels)
    if name == "png":
        import imagecodecs

        data = bytes(imagecodecs.png_encode(flat))
        return data if profile is None else with_profile(data, profile)
    buffer = io.BytesIO()
    if name == "tiff":
        import tifffile

        extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if pixels.shape[2] == 4 else {}
        kind = "minisblack" if pixels.shape[2] == 1 else "rgb"
        tifffile.imwrite(buffer, flat, photometric=kind, iccprofile=profile, **extra)
    else:
        from PIL import Image

        image = Image.fromarray(flat)
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, icc_profile=profile)
    return buffer.getvalue()
