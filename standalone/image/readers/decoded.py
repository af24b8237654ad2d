"""The result of a reader of a picture format, and the limits of size that all readers keep."""

from __future__ import annotations

from dataclasses import dataclass

from bn_field_plugin.errors import UserError
from standalone.image.readers.samples import Pixels

MAX_PIXELS = 2**26
"""Most pixels of a picture, read or decoded: a header that claims more is refused before memory is taken."""

MAX_SHRUNK_PIXELS = 2**28
"""Most pixels of a file that is shrunk as it is read."""


@dataclass(frozen=True)
class Decoded:
    """The content of a picture file, as a viewer shows it."""

    pixels: Pixels
    """Grey, RGB or RGBA, upright."""
    profile: bytes | None = None
    """ICC profile of the pixels."""
    notes: tuple[str, ...] = ()
    """Notes on what was converted or left out, each as the end of a sentence that begins with the file's
    name."""


def check_size(height: int, width: int, longer_side: int | None = None) -> None:
    """Refuse sizes that a file's header claims, before memory is taken for them.

    Args:
        height: rows.
        width: columns.
        longer_side: longer side to which the picture will be shrunk, for which larger files are accepted.

    Raises:
        UserError: there are no pixels, or too many.
    """
    if height < 1 or width < 1:
        raise UserError("has no pixels: give one with at least one row and one column")
    limit, remedy = MAX_PIXELS, "shrink it (--max-side) or cut it into tiles"
    if longer_side is not None:
        limit, remedy = MAX_SHRUNK_PIXELS, "cut it into tiles"
    if height * width > limit:
        raise UserError(f"claims {width} x {height} pixels, more than {limit:,}: {remedy}")


def fitting_profile(profile: bytes | None, channels: int) -> bytes | None:
    """An ICC profile if it is for `channels`, else None: another one would change the colours wrongly."""
    space = b"GRAY" if channels == 1 else b"RGB "
    return profile if profile is not None and profile[16:20] == space else None
