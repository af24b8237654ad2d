"""PNG files of every colour type and depth: pixels by libpng, the rest by its chunks (PNG specification)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from bn_field_plugin.errors import UserError
from bn_field_plugin.exif import orientation_of
from standalone.image.readers.decoded import Decoded, check_size, fitting_profile
from standalone.image.readers.samples import in_colour, upright

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of every file."""

GREY, COLOUR, PALETTE = 0, 2, 3
"""Colour types without alpha; pixels of the last are numbers of colours in a palette."""

MAX_PROFILE = 2**24
"""Most bytes of an unpacked profile or text."""

XMP = b"XML:com.adobe.xmp"
"""Keyword of an XMP packet."""
RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
"""Keywords of text chunks that hold EXIF in files from before PNG had a chunk for it: a name, a length, and
the block in hexadecimal."""


def read_png(data: bytes, longer_side: int | None = None) -> Decoded:
    """The picture of a PNG file.

    Args:
        data: content of the file.
        longer_side: longer side to which the picture will be shrunk, or None.

    Raises:
        UserError: the file has several frames, or too many pixels.
        Exception: almost any, for a damaged file.
    """
    import imagecodecs

    first = data[len(SIGNATURE) + 4 :][:4]
    if first == b"CgBI":
        raise UserError("is a PNG as apps for the iPhone hold it (CgBI): convert it with pngcrush or sips")
    if first != b"IHDR":
        raise UserError("is no proper PNG (its first chunk is no header): save it anew")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, len(SIGNATURE) + 8)
    check_size(height, width, longer_side)
    meta = _Meta(data)
    if meta.frames > 1:
        raise UserError(f"has {meta.frames} frames: extract one")
    pixels = imagecodecs.png_decode(data)
    notes = []
    if colour == PALETTE:
        _check_indices(data, *meta.palette, depth)
        notes.append("has a palette: read as RGB" + "A" * (pixels.ndim == 3 and pixels.shape[2] == 4))
    elif meta.has_transparent_colour and colour in (GREY, COLOUR) and pixels.shape[2:] in ((2,), (4,)):
        # A transparent colour beside alpha has no meaning, and damaged ones are left out.
        notes.append("has a colour that is transparent: read with alpha")
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        pixels = in_colour(pixels)
        notes.append("is grey with alpha: read as RGBA")
    orientation = orientation_of(meta.exif, meta.xmp)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return Decoded(upright(pixels, orientation), fitting_profile(meta.profile, channels), tuple(notes))


def with_profile(png: bytes, profile: bytes) -> bytes:
    """Insert an ICC profile into a PNG file, right behind the file's header."""
    content = b"ICC Profile\0\0" + zlib.compress(profile)
    end_of_header = len(SIGNATURE) + 25
    return png[:end_of_header] + _chunk(b"iCCP", content) + png[end_of_header:]


def _check_indices(data: bytes, at: int, palette: bytes, depth: int) -> None:
    """Refuse pixels beyond the palette, which libpng shows as black.

    Args:
        data: content of the file.
        at: where the chunk of the palette begins.
        palette: its content.
        depth: bits of a pixel.

    Raises:
        UserError: there are such pixels.
    """
    import imagecodecs

    colours = len(palette) // 3
    if colours >= 2**depth:
        return
    # With a palette whose colours are their own numbers, the decoder gives those of the pixels.
    numbers = _chunk(b"PLTE", bytes(number for number in range(2**depth) for _ in range(3)))
    numbered = data[:at] + numbers + data[at + 12 + len(palette) :]
    if imagecodecs.png_decode(numbered)[..., 0].max() >= colours:
        raise UserError(f"has pixels beyond the {colours} colours of its palette: save it anew")


class _Meta:
    """The content of the chunks other than pixels."""

    def __init__(self, data: bytes) -> None:
        self.frames = 1
        self.has_transparent_colour = False
        self.palette = (0, b"")  # where its chunk begins, and its content
        self.profile: bytes | None = None
        self.exif: bytes | None = None
        self.xmp: bytes | None = None
        for at, name, content in _chunks(data):
            if name == b"acTL" and len(content) >= 4:
                (self.frames,) = struct.unpack_from(">I", content)
            elif name == b"PLTE":
                self.palette = at, content
            elif name == b"tRNS":
                self.has_transparent_colour = True
            elif name == b"iCCP":
                _, _, packed = content.partition(b"\0")
                self.profile = _unpacked(packed[1:])
            elif name == b"eXIf":
                self.exif = content
            elif name in (b"tEXt", b"zTXt", b"iTXt"):
                self._text(name, content)

    def _text(self, name: bytes, content: bytes) -> None:
        keyword, _, rest = content.partition(b"\0")
        if name == b"iTXt" and keyword == XMP:
            is_packed, rest = rest[:1] == b"\1", rest[2:]
            _, _, rest = rest.partition(b"\0")  # language
            _, _, rest = rest.partition(b"\0")  # translated keyword
            self.xmp = _unpacked(rest) if is_packed else rest
        elif keyword in RAW_EXIF and self.exif is None:
            text = (_unpacked(rest[1:]) if name == b"zTXt" else rest) or b""
            try:
                self.exif = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
            except ValueError:
                return


def _chunks(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Where the chunks begin, their names and contents; pixels are left out."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name != b"IDAT":
            yield at, name, data[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unpacked(packed: bytes) -> bytes | None:
    """Decompressed bytes; None if the data are damaged, or larger than `MAX_PROFILE`."""
    try:
        inflater = zlib.decompressobj()
        found = inflater.decompress(packed, MAX_PROFILE)
    except zlib.error:
        return None
    return found if inflater.eof else None
