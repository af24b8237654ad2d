"""Which way up a picture has to be shown, according to its EXIF or XMP data."""

from __future__ import annotations

import re
import warnings

TAG = 0x0112
"""Number of the orientation tag in EXIF and TIFF."""

IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
"""The orientation as XMP spells it: a number from 1 to 8."""


def orientation_of(exif: bytes | None, xmp: bytes | None = None) -> int:
    """The orientation that metadata give: 1 to 8, and 1 (upright) where they give no valid one.

    Args:
        exif: an EXIF block, with or without its opening "Exif".
        xmp: an XMP packet, which counts where EXIF says nothing.
    """
    from PIL import Image

    if exif:
        tags = Image.Exif()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of a damaged block, which counts as no block
                tags.load(exif)
                value = tags.get(TAG)
        except Exception:  # damaged blocks make Pillow raise almost anything
            value = None
        if isinstance(value, int):
            return value if 1 <= value <= 8 else 1
    found = IN_XMP.search(xmp) if xmp else None
    return int(found[1]) if found else 1
