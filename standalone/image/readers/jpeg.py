"""JPEG files, by Pillow: grey, colour and ink; the first picture of those that hold several."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from bn_field_plugin.errors import UserError
from bn_field_plugin.exif import TAG
from standalone.image.readers.decoded import MAX_PIXELS, Decoded, check_size, fitting_profile
from standalone.image.readers.samples import from_inks, upright

MULTI_PICTURE = b"MPF\0"
"""First bytes of the index of a file with several pictures, in an APP2 segment."""


def read_jpeg(data: bytes, longer_side: int | None = None) -> Decoded:
    """The picture of a JPEG file; if a camera has written several into one file, the photo.

    Args:
        data: content of the file.
        longer_side: longer side to which the picture will be shrunk, or None. If it is given, files beyond
            the usual limit are decoded at a half, a quarter or an eighth of their size.

    Raises:
        UserError: the file has another colour space, or too many pixels.
        Exception: almost any, for a damaged file.
    """
    # `Image.open` is not used: it has limits of its own, and calls files with several pictures another
    # format.
    from PIL.JpegImagePlugin import JpegImageFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = JpegImageFile(io.BytesIO(data))
    if longer_side is not None and image.height * image.width > MAX_PIXELS:
        factor = longer_side / max(image.size)
        image.draft(None, (max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    check_size(image.height, image.width, longer_side)
    notes = []
    if MULTI_PICTURE in data[: 2**18]:
        notes.append("holds more than one picture: the first is read")
    profile = image.info.get("icc_profile")
    orientation = _orientation(image)
    if image.mode == "CMYK":
        pixels, how = in_rgb(image, profile)
        notes.append(f"is in CMYK: read as RGB {how}")
        profile = None
    elif image.mode in ("L", "RGB"):
        pixels = np.asarray(image)
    else:
        raise UserError(f"has the colour mode {image.mode}: convert it to grey or RGB")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return Decoded(upright(pixels, orientation), fitting_profile(profile, channels), tuple(notes))


def in_rgb(image: Any, profile: bytes | None) -> tuple[np.ndarray, str]:
    """A CMYK image of Pillow as sRGB, by its profile or else by ideal inks, and a note that says which."""
    from PIL import ImageCms

    if profile is not None and profile[16:20] == b"CMYK":
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            light = ImageCms.createProfile("sRGB")
            return np.asarray(
                ImageCms.profileToProfile(image, inks, light, outputMode="RGB")
            ), "by its profile"
        except ImageCms.PyCMSError:
            pass
    return from_inks(np.asarray(image)), "without a profile"


def _orientation(image: Any) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(TAG, 1)  # Pillow looks into XMP too
    except Exception:  # the EXIF block is damaged; viewers then do not turn the picture
        return 1
    return value if isinstance(value, int) else 1
