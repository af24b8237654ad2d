"""TIFF files: tifffile and imagecodecs give the samples, which this module interprets by the file's tags."""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import numpy as np
from jaxtyping import Shaped

from bn_field_plugin.errors import UserError
from standalone.image.readers.decoded import Decoded, check_size, fitting_profile
from standalone.image.readers.samples import (
    Opaque,
    Pixels,
    from_inks,
    from_luma,
    from_palette,
    in_colour,
    inverted,
    unassociated,
    upright,
    widened,
)

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, LUMA = 0, 1, 2, 3, 5, 6
"""Values of PhotometricInterpretation that are read."""
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, INKS: 4, LUMA: 3}
"""Number of samples of a pixel's colour; further samples of the pixel are extra samples."""

CMYK = 1
"""Value of InkSet that is read."""

UNSPECIFIED, ASSOCIATED, UNASSOCIATED, COREL = 0, 1, 2, 999
"""Values of ExtraSamples; the last is written by Corel Draw and means UNASSOCIATED."""

REDUCED, MASK = 1, 4
"""Bits of NewSubfileType, for a smaller copy of another page, and for a mask of another page."""

JPEG, OLD_JPEG = 7, 6
"""Compressions whose decoder turns luma and chroma into RGB by itself, and one that has no fixed meaning."""

FAX = {2, 3, 4}
"""Compressions of fax machines (CCITT), all of bilevel pictures."""

LZW = 5
"""A compression without a checksum."""

PLAIN = {1, LZW, 8, 32773, 32946, 34925, 34926, 50000}
"""Compressions that give back the bytes that went in: none, LZW, deflate, PackBits, LZMA, Zstandard."""

SEPARATE, BACKWARDS = 2, 2
"""Values of PlanarConfiguration (a plane for each channel) and FillOrder (bits from the least one)."""

ORIENTATION, SUBSAMPLING, REFERENCE, COEFFICIENTS, PROFILE = 274, 530, 532, 529, 34675
INK_SET, NO_DATA = 332, 42113
"""Numbers of tags."""


def read_tiff(data: bytes, longer_side: int | None = None) -> Decoded:
    """The picture of a TIFF file; pages that are smaller copies or masks of it are left out.

    Args:
        data: content of the file.
        longer_side: longer side to which the picture will be shrunk, or None.

    Raises:
        UserError: the file has several pages, or is of a kind that is not read.
        Exception: almost any, for a damaged file.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors are reported by our own messages
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page, notes = _page(file)
        check_size(page.imagelength, page.imagewidth, longer_side)
        kind, extra = _flavour(page)
        samples = _bilevel(data, page, kind) if page.compression in FAX else _samples(page)
        pixels, more = _interpreted(page, kind, extra, samples)
        channels = pixels.shape[2]
        profile = _tag(page, PROFILE)
        if kind == INKS:
            if profile is not None and pixels.dtype == np.uint8:
                pixels, how = _by_profile(pixels, profile)
            else:
                pixels, how = _inks_beside_alpha(pixels), "without a profile"
            more.append(f"is in CMYK: read as RGB {how}")
            channels = pixels.shape[2]
        more += _without_data(page, samples)
        found = upright(pixels, _tag(page, ORIENTATION) or 1)
        return Decoded(found, fitting_profile(profile, channels), (*notes, *more))


def _page(file: Any) -> tuple[Any, list[str]]:
    """The page that holds the picture, and notes on the pages that are left out."""
    pages = [file.pages[index] for index in range(len(file.pages))]
    if not pages:
        raise UserError("holds no picture: save it anew")
    whole = [page for page in pages if not (page.subfiletype & (REDUCED | MASK))]
    if not whole:
        raise UserError("holds smaller copies alone (a raw file?): convert it to RGB")
    images = len(whole)
    if file.is_imagej:  # ImageJ may write several images behind the tags of one page
        images = max(images, int((file.imagej_metadata or {}).get("images", 1)))
    if images > 1:
        raise UserError(f"has {images} pages: extract one")
    left_out = len(pages) - 1
    return whole[0], [f"holds {left_out} smaller copies or masks: left out"] if left_out else []


def _flavour(page: Any) -> tuple[int, tuple[int, ...]]:
    """Photometric interpretation and extra samples of a page.

    Raises:
        UserError: one of them is not read.
    """
    tag = page.tags.get(262)
    if tag is None:
        raise UserError("does not say what its values mean (PhotometricInterpretation): save it anew")
    kind = int(tag.value)
    name = getattr(page.photometric, "name", str(kind))
    if kind not in COLOURS:
        raise UserError(f"has the colour space {name}: convert it to grey, RGB or RGBA")
    if page.imagedepth > 1:
        raise UserError("is a volume: extract one slice")
    if kind == INKS and (_tag(page, INK_SET) or CMYK) != CMYK:
        raise UserError("has inks other than CMYK: convert it to RGB")
    if not isinstance(page.bitspersample, int):
        raise UserError(f"has samples of {page.bitspersample} bits: convert it to 8 or 16 bits each")
    kinds = ("uint8", "uint16", "float16", "float32") if kind in (BLACK_IS_ZERO, RGB) else ("uint8", "uint16")
    if page.dtype is None or page.dtype.name not in (*kinds, "bool") or page.bitspersample > 32:
        raise UserError(f"has values of type {page.dtype} in {name}: convert it to 8, 16 bit or 32-bit float")
    if page.samplesperpixel < COLOURS[kind]:
        raise UserError(f"has {page.samplesperpixel} channels in {name}: save it anew")
    count = page.samplesperpixel - COLOURS[kind]
    if count > 1 and kind in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE):
        raise UserError(f"has {page.samplesperpixel} channels: convert it to grey, RGB or RGBA")
    given = tuple(int(one) for one in page.extrasamples)
    # Without a tag, Pillow and other programs take a fourth sample beside RGB for alpha.
    return kind, given if len(given) == count else (
        UNASSOCIATED if kind == RGB else UNSPECIFIED,
        *[UNSPECIFIED] * (count - 1),
    )[:count]


def _samples(page: Any) -> Opaque:
    """The samples of a page as rows, columns, channels, in the machine's byte order."""
    if page.compression == OLD_JPEG:
        raise UserError("is compressed by JPEG of the old kind: save it anew")
    if int(page.photometric) == LUMA and page.compression != JPEG:
        if page.compression not in PLAIN:
            raise UserError(f"has luma and chroma compressed by {page.compression.name}: convert it to RGB")
        if page.bitspersample != 8:
            raise UserError("has luma and chroma of more than 8 bits: convert it to RGB")
        if tuple(_tag(page, SUBSAMPLING) or (2, 2)) != (1, 1):
            raise UserError("has subsampled chroma without JPEG: convert it to RGB")
    if page.compression == LZW:
        _check_lengths(page)
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        name = getattr(page.compression, "name", page.compression)
        raise UserError(
            f"is compressed by {name}, which this imagecodecs does not read: save it with LZW"
        ) from error
    if page.samplesperpixel > 1 and page.axes.startswith("S"):
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    native: np.ndarray = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return native


def _check_lengths(page: Any) -> None:
    """Refuse strips and tiles of LZW that unpack to fewer bytes than theirs.

    What is missing would be read as zeros, without an error. Longer ones have all that is needed.

    Raises:
        UserError: one that does.
    """
    import imagecodecs

    tiled, separate = page.is_tiled, page.planarconfig == SEPARATE
    width = page.tilewidth if tiled else page.imagewidth
    most = page.tilelength if tiled else min(page.rowsperstrip, page.imagelength)
    row = -(-width * (1 if separate else page.samplesperpixel) * page.bitspersample // 8)
    strips = -(-page.imagelength // most)  # of one plane
    file = page.parent.filehandle
    for index, (at, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if size == 0:  # by agreement, all of it is zero
            continue
        file.seek(at)
        packed = file.read(size)
        if page.fillorder == BACKWARDS:
            packed = imagecodecs.bitorder_decode(packed)
        is_last = not tiled and index % strips == strips - 1  # which may end with the picture
        needed = row * (page.imagelength - most * (strips - 1) if is_last else most)
        if len(imagecodecs.lzw_decode(packed, out=needed)) < needed:
            kind = "tile" if tiled else "strip"
            raise UserError(f"is damaged ({kind} {index} of LZW ends early): save it anew")


def _bilevel(data: bytes, page: Any, kind: int) -> Opaque:
    """The samples of a page that is compressed as fax machines do, by Pillow's libtiff.

    imagecodecs decodes fax only in versions that need a newer numpy than nerfstudio allows.
    """
    from PIL.TiffImagePlugin import TiffImageFile

    if page.bitspersample != 1 or page.samplesperpixel != 1 or kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        raise UserError(
            f"has other than black and white compressed by {page.compression.name}: save it with LZW"
        )
    turned = page.tags.get(ORIENTATION)
    if turned is not None:  # keeps Pillow from turning the picture upright, which is done below for all
        at = turned.valueoffset
        data = data[:at] + struct.pack(page.parent.byteorder + "H", 1) + data[at + 2 :]
    image = TiffImageFile(io.BytesIO(data))
    image.seek(page.index)
    white = np.asarray(image.convert("1"), dtype=np.uint8)
    return (white if kind == BLACK_IS_ZERO else 1 - white)[..., None]


def _interpreted(
    page: Any, kind: int, extra: tuple[int, ...], samples: Opaque
) -> tuple[Shaped[np.ndarray, "h w k"], list[str]]:
    """Samples as grey, RGB or RGBA, or still CMYK with or without alpha."""
    count = COLOURS[kind]
    colours: Pixels = samples[..., :count]
    alpha = next((n for n, one in enumerate(extra) if one in (ASSOCIATED, UNASSOCIATED, COREL)), None)
    notes = []
    left_out = len(extra) - (alpha is not None)
    if left_out:
        notes.append(f"has {left_out} channel{'s' * (left_out > 1)} of no stated meaning: left out")
    whole = samples.dtype.kind == "u"
    bits = int(page.bitspersample)
    if kind == PALETTE:
        colours = from_palette(colours[..., 0], np.asarray(page.colormap))
        notes.append("has a palette: read as RGB")
    elif whole:
        colours = widened(colours, bits)
    if kind == WHITE_IS_ZERO:
        colours = inverted(colours)
    if kind == LUMA and page.compression != JPEG:
        colours = from_luma(colours, *(_numbers(page, tag) for tag in (COEFFICIENTS, REFERENCE)))
    if alpha is None:
        return colours, notes
    beside = samples[..., count + alpha : count + alpha + 1]
    if whole:
        beside = widened(beside, bits)
    if beside.dtype != colours.dtype:  # the indices into a palette may have more bits than its colours
        beside = (beside >> 8).astype(colours.dtype)
    pixels = np.concatenate([colours, beside], axis=-1)
    if extra[alpha] == ASSOCIATED:
        pixels = unassociated(pixels)
        notes.append("has colours multiplied by alpha: divided by it")
    if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        pixels = in_colour(pixels)
        notes.append("is grey with alpha: read as RGBA")
    return pixels, notes


def _without_data(page: Any, samples: Opaque) -> list[str]:
    """Notes on pixels that a map (of GDAL) marks as having no data; they are read like all others.

    Raises:
        UserError: the samples are floats, whose mark is far from all values, and would take the whole range.
    """
    text = str(_tag(page, NO_DATA) or "").strip(" \0")
    try:
        mark = float(text)
    except ValueError:
        return []
    count = int((samples == mark).all(axis=-1).sum())
    if count == 0:  # no pixel has the mark; or the mark is NaN, which is refused in any picture
        return []
    if samples.dtype.kind == "f":
        raise UserError(f"has {count:,} pixels without data ({text}): replace them first")
    return [f"has {count:,} pixels without data: their {text} is read as a colour"]


def _by_profile(pixels: Opaque, profile: bytes) -> tuple[Shaped[np.ndarray, "h w c-1"], str]:
    """8-bit CMYK, with alpha or without, as RGB by its colour profile."""
    from PIL import Image

    from standalone.image.readers.jpeg import in_rgb

    image = Image.fromarray(np.ascontiguousarray(pixels[..., :4]), "CMYK")
    colours, how = in_rgb(image, profile)
    return np.concatenate([colours, pixels[..., 4:]], axis=-1), how


def _inks_beside_alpha(pixels: Opaque) -> Shaped[np.ndarray, "h w c-1"]:
    return np.concatenate([from_inks(pixels[..., :4]), pixels[..., 4:]], axis=-1)


def _numbers(page: Any, number: int) -> tuple[float, ...]:
    """Fractions of a tag, stored as numerators and denominators; the usual ones where it is absent."""
    usual = {COEFFICIENTS: (0.299, 0.587, 0.114), REFERENCE: (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)}
    found = _tag(page, number)
    if found is None:
        return usual[number]
    tag = page.tags[number]
    flat = [float(one) for one in found]
    if tag.dtype in (5, 10):  # fractions
        flat = [a / b for a, b in zip(flat[::2], flat[1::2], strict=True)]
    return tuple(flat)


def _tag(page: Any, number: int) -> Any:
    tag = page.tags.get(number)
    return None if tag is None else tag.value
