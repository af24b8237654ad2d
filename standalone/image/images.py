"""Pictures in memory and on disk: PNG, JPEG, TIFF and EXR, at their own depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.image.readers.decoded import MAX_PIXELS
from standalone.image.readers.formats import FormatName, decode_file, encode_file
from standalone.image.readers.samples import area_means, associated, unassociated

DepthName = Literal["uint8", "uint16", "float16", "float32"]
"""Types of a pixel's values."""

SUFFIXES: dict[FormatName, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "tiff": (".tif", ".tiff"),
    "exr": (".exr",),
}
"""Endings of file names by format, the usual one first."""

DEPTHS: dict[FormatName, tuple[DepthName, ...]] = {
    "png": ("uint8", "uint16"),
    "jpeg": ("uint8",),
    "tiff": ("uint8", "uint16", "float16", "float32"),
    "exr": ("float16", "float32"),
}
"""Depths that each format holds."""

CHANNELS: dict[FormatName, tuple[int, ...]] = {
    "png": (1, 3, 4),
    "jpeg": (1, 3),
    "tiff": (1, 3, 4),
    "exr": (1, 3, 4),
}
"""Numbers of channels that each format holds: grey, RGB, RGBA."""


@dataclass(frozen=True)
class ValueRange:
    """The pixel values for which a network's outputs -1 and 1 stand."""

    low: float
    """Black: 0, or the least value of a float image that leaves [0, 1]."""
    high: float
    """White: the largest integer, 1, or the largest value of a float image that leaves [0, 1]."""

    def normalize(self, values: Shaped[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Pixel values as targets of a network, in [-1, 1]."""
        scale = 2.0 / (self.high - self.low)
        return ((values.astype(np.float64) - self.low) * scale - 1.0).astype(np.float32)

    def denormalize(self, outputs: Shaped[np.ndarray, "..."], depth: DepthName) -> Shaped[np.ndarray, "..."]:
        """Outputs of a network as pixel values: clamped to the range, integers rounded half up."""
        unit = np.clip((outputs.astype(np.float64) + 1.0) * 0.5, 0.0, 1.0)
        values = unit * (self.high - self.low) + self.low
        return np.floor(values + 0.5).astype(depth) if depth in INTEGERS else values.astype(depth)

    def to_8bit(self, values: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
        """Pixel values of any depth as 8-bit values, with the range as 0 to 255, clamped, rounded half up."""
        unit = (values.astype(np.float64) - self.low) / (self.high - self.low)
        rounded: np.ndarray = np.floor(np.clip(unit, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return rounded


INTEGERS: tuple[DepthName, ...] = ("uint8", "uint16")
"""Depths whose values are whole numbers."""


@dataclass(frozen=True)
class Picture:
    """An image of 1, 3 or 4 channels: grey, RGB or RGBA."""

    pixels: Shaped[np.ndarray, "h w c"]
    """Values at the depth of the file."""
    format: FormatName
    """Format of the file that it came from or belongs in; EXR has colours that are multiplied by alpha."""
    profile: bytes | None = None
    """ICC profile of the values, where the file had one."""
    notes: tuple[str, ...] = ()
    """Notes on what reading converted or left out, each as the end of a sentence that begins with the file's
    name."""

    @property
    def depth(self) -> DepthName:
        """Type of the values."""
        name = self.pixels.dtype.name
        if name in get_args(DepthName):
            return cast(DepthName, name)
        raise UserError(f"pixels of type {name} are unknown: convert them to 8, 16 bit or float")

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Values of a pixel."""
        return int(self.pixels.shape[2])

    @property
    def suffix(self) -> str:
        """Usual ending of the format's file names."""
        return SUFFIXES[self.format][0]

    @property
    def is_lossy(self) -> bool:
        """Whether the format changes pixels as it stores them."""
        return self.format == "jpeg"

    def value_range(self) -> ValueRange:
        """Range of the values: of the depth for integers, [0, 1] for floats unless they leave it."""
        if self.depth in INTEGERS:
            return ValueRange(0.0, float(np.iinfo(self.pixels.dtype).max))
        low, high = float(self.pixels.min()), float(self.pixels.max())
        if low >= 0 and high <= 1:
            return ValueRange(0.0, 1.0)
        if high > low:
            return ValueRange(low, high)
        reach = max(1.0, abs(low) * 2.0**-20)  # so that low and high differ in fp32
        limit = float(np.finfo(self.pixels.dtype).max)
        return ValueRange(max(low - reach, -limit), min(low + reach, limit))


def read_picture(path: Path, longer_side: int | None = None) -> Picture:
    """Read a PNG, JPEG, TIFF or EXR file as a viewer shows it; the content tells the format, not the name.

    Args:
        path: the file.
        longer_side: shrink the picture to this longer side (see `shrunk`), which lets larger files in.

    Raises:
        UserError: no such file, another format, damage, a flavour that is not read, no pixels, too many, or
            values that are not finite.
    """
    check_side(longer_side)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"the image {path} cannot be read ({reason}): give a PNG, JPEG, TIFF or EXR"
        ) from error
    return picture_of(data, f"the image {path}", longer_side)


def picture_of(data: bytes, name: str, longer_side: int | None = None) -> Picture:
    """The picture in a file's content.

    Args:
        data: the content.
        name: name of the file in messages.
        longer_side: shrink the picture to this longer side, as in `read_picture`.

    Raises:
        UserError: the content cannot be read, as in `read_picture`.
    """
    try:
        read, kind = decode_file(data, longer_side)
    except UserError as error:
        raise UserError(f"{name} {error}") from error
    pixels = read.pixels if read.pixels.ndim == 3 else read.pixels[..., None]
    return checked(shrunk(Picture(pixels, kind, read.profile, read.notes), longer_side), name)


def checked(picture: Picture, name: str) -> Picture:
    """Return `picture` after a check that it can be fitted.

    Args:
        picture: the picture.
        name: what messages call it.

    Raises:
        UserError: the picture has no pixels, too many, an unsupported number of channels or depth, or values
            that are not finite.
    """
    pixels = picture.pixels
    if pixels.size == 0:
        raise UserError(f"{name} has no pixels: give one with at least one row and one column")
    if pixels.shape[2] not in (1, 3, 4):
        raise UserError(f"{name} has {pixels.shape[2]} channels: convert it to grey, RGB or RGBA")
    if picture.height * picture.width > MAX_PIXELS:
        raise UserError(f"{name} has more than {MAX_PIXELS:,} pixels: cut it into tiles")
    if picture.depth not in INTEGERS and not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).any(axis=-1).sum())
        raise UserError(f"{name} has {count} pixels that are NaN or infinite: replace them first")
    if picture.height * picture.width < 2:
        raise UserError(f"{name} has a single pixel: batch statistics need at least two")
    return picture


def format_of(path: Path) -> FormatName:
    """The format that a file's ending names.

    Raises:
        UserError: the file has no ending, or that of another format.
    """
    for name, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return name
    known = ", ".join(suffixes[0] for suffixes in SUFFIXES.values())
    raise UserError(f"the ending of {path} is of no known format: use one of {known}")


def check_holds(path: Path, depth: DepthName, channels: int) -> FormatName:
    """The format that a file's ending names, if it holds values of that depth and that many channels.

    Raises:
        UserError: the format does not hold them; the message names endings that do.
    """
    name = format_of(path)
    if depth in DEPTHS[name] and channels in CHANNELS[name]:
        return name
    able = [s[0] for f, s in SUFFIXES.items() if depth in DEPTHS[f] and channels in CHANNELS[f]]
    raise UserError(
        f"{path}: {name.upper()} cannot hold {channels} channels of {depth}; "
        f"use the ending {' or '.join(able)}"
    )


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture, complete or not at all, in the picture's format and depth.

    Raises:
        UserError: the format cannot hold it, or the file cannot be written.
    """
    check_holds(path.with_suffix(picture.suffix), picture.depth, picture.channels)
    data = encoded_picture(picture)
    try:
        write_whole(path, data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): choose another place"
        ) from error


def encoded_picture(picture: Picture) -> bytes:
    """Content of the file of a picture."""
    return encode_file(picture.pixels, picture.format, picture.profile)


def in_format(picture: Picture, kind: FormatName) -> Picture:
    """The picture for a file of another format. EXR's colours are multiplied by alpha, others are not."""
    pixels = picture.pixels
    if picture.channels == 4 and (kind == "exr") != (picture.format == "exr"):
        pixels = associated(pixels) if kind == "exr" else unassociated(pixels)
    return replace(picture, pixels=pixels, format=kind)


def check_side(longer_side: int | None) -> None:
    """Check the longer side to which a picture is to be shrunk.

    Raises:
        UserError: a number below 2.
    """
    if longer_side is not None and longer_side < 2:
        raise UserError(f"--max-side is {longer_side}: it must be at least 2")


def shrunk(picture: Picture, longer_side: int | None) -> Picture:
    """The picture with its longer side reduced to a number of pixels, by averaging over areas.

    Colours are weighted by their alpha, so that the colours of transparent pixels do not show at edges.

    Args:
        picture: the picture.
        longer_side: pixels; None, or at least the present size, leaves the picture as it is.

    Raises:
        UserError: a number below 2.
    """
    check_side(longer_side)
    if longer_side is None or longer_side >= max(picture.height, picture.width):
        return picture
    scale = longer_side / max(picture.height, picture.width)
    rows, columns = max(1, round(picture.height * scale)), max(1, round(picture.width * scale))
    weighs = picture.channels == 4 and picture.format != "exr"
    means = area_means(picture.pixels, rows, columns, weighted=weighs)
    pixels = np.floor(means + 0.5) if picture.depth in INTEGERS else means
    return replace(picture, pixels=pixels.astype(picture.pixels.dtype))


def astronaut() -> Picture:
    """scikit-image's picture of an astronaut, 512 x 512 RGB (NASA, public domain)."""
    from skimage.data import astronaut as load

    return Picture(np.asarray(load()), "png")
