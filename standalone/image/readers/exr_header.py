"""The header of an OpenEXR file: size, channels and their types (OpenEXR file layout)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bn_field_plugin.errors import UserError

WHOLE, HALF = 0, 1
"""Numbers of the whole number and of the 16-bit float among the types of a channel."""

TILED, MULTI_PART, DEEP = 0x200, 0x1000, 0x800
"""Bits of the version field."""


@dataclass(frozen=True)
class Window:
    """A part of the plane of pixels."""

    left: int
    """First column."""
    top: int
    """First row."""
    width: int
    """Columns."""
    height: int
    """Rows."""


@dataclass(frozen=True)
class ExrHeader:
    """The part of a header that decides whether and how pixels are read."""

    data: Window
    """Part of the plane for which the file has pixels."""
    display: Window
    """Part of the plane that a viewer shows."""
    channels: tuple[str, ...]
    """Names of the channels, in the order of the file (alphabetic)."""
    is_half: bool
    """Whether all channels are 16-bit floats."""


def read_exr_header(data: bytes) -> ExrHeader:
    """Read the header of a single-part file of scan lines or tiles.

    Raises:
        UserError: the file has several parts, deep pixels, or no valid header.
    """
    try:
        (version,) = struct.unpack_from("<I", data, 4)
        if version & (MULTI_PART | DEEP):
            raise UserError("has several parts or deep pixels: flatten it")
        attributes = _attributes(data)
        data_window, display_window = (_window(attributes[name]) for name in ("dataWindow", "displayWindow"))
        names, types = _channels(attributes["channels"])
    except (KeyError, IndexError, ValueError, struct.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("has a damaged header: save it anew") from error
    if WHOLE in types:
        raise UserError("has whole numbers: save it in half or single precision")
    return ExrHeader(data_window, display_window, names, all(kind == HALF for kind in types))


def _window(data: bytes) -> Window:
    left, top, right, bottom = struct.unpack("<4i", data)
    return Window(left, top, right - left + 1, bottom - top + 1)


def _attributes(data: bytes) -> dict[str, bytes]:
    """Values of the header's attributes by name."""
    found, at = {}, 8
    while data[at] != 0:
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0:
            raise ValueError("negative size")
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return found


def _channels(data: bytes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and types of the channels."""
    names, types, at = [], [], 0
    while data[at] != 0:
        name, at = _text(data, at)
        kind, _, x_sampling, y_sampling = struct.unpack_from("<iiii", data, at)
        if (x_sampling, y_sampling) != (1, 1):
            raise UserError("has subsampled channels: save it without subsampling")
        names.append(name)
        types.append(kind)
        at += 16
    return tuple(names), tuple(types)


def _text(data: bytes, at: int) -> tuple[str, int]:
    """The text at a position, up to its zero byte, and the position after that."""
    end = data.index(0, at)
    return data[at:end].decode("latin-1"), end + 1
