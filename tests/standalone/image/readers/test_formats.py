"""Flavours of picture files: each is read as a viewer shows it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from skimage.transform import resize_local_mean

from bn_field_plugin import UserError
from standalone.image.images import Picture, in_format, picture_of, read_picture, shrunk, write_picture
from standalone.image.readers.decoded import MAX_PIXELS
from standalone.image.readers.formats import decode_file, encode_file
from standalone.image.readers.png import with_profile
from standalone.image.readers.samples import (
    area_means,
    associated,
    from_inks,
    from_palette,
    unassociated,
    upright,
    widened,
)

H, W = 24, 40
Y, X = np.mgrid[:H, :W]
RGB = np.stack([255 * (X < 12) * (Y < 8), X * 255 // (W - 1), Y * 255 // (H - 1)], -1).astype(np.uint8)
RGBA = np.dstack([RGB, X * 255 // (W - 1)]).astype(np.uint8)
GREY = RGB[..., 1]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


EXTRA_SAMPLES = struct.pack("<HHIH", 338, 3, 1, 2)
NO_TAG = struct.pack("<H", 65000)


def deep(pixels: np.ndarray) -> np.ndarray:
    """The same picture at 16 bits."""
    return pixels.astype(np.uint16) * 257


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def packed_tiff(values: np.ndarray, bits: int) -> bytes:
    """An uncompressed grey TIFF with any number of bits a pixel, which few libraries write."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = np.packbits((values[..., None] >> shifts & 1).reshape(H, -1).astype(np.uint8), axis=1).tobytes()
    tags = {256: W, 257: H, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: H, 279: len(rows)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory


def png(pixels: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG with chunks before its pixels."""
    data = encode_file(pixels if pixels.ndim == 3 else pixels[..., None], "png")
    at = data.index(b"IDAT") - 4
    for name, content in chunks.items():
        body = name.encode() + content
        data = (
            data[:at]
            + struct.pack(">I", len(content))
            + body
            + struct.pack(">I", zlib.crc32(body))
            + data[at:]
        )
    return data


def read(data: bytes) -> Picture:
    return picture_of(data, "it")


def shown(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[..., None]


def half_alpha() -> np.ndarray:
    """Colours multiplied by alpha."""
    return np.dstack([(RGB * (RGBA[..., 3:] / 255.0)).round().astype(np.uint8), RGBA[..., 3]])


# ------------------------------------------------------------------------------------------- orientation


TURNED: dict[str, Callable[[int], bytes]] = {
    "jpeg": lambda tag: pillow(Image.fromarray(RGB), "JPEG", exif=exif(tag), quality=100, subsampling=0),
    "png": lambda tag: pillow(Image.fromarray(RGB), "PNG", exif=exif(tag)),
    "png of 16 bits": lambda tag: png(deep(RGB), eXIf=exif(tag).tobytes()[6:]),
    "png, xmp": lambda tag: png(
        RGB, iTXt=b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="' + str(tag).encode() + b'"/>'
    ),
    "png, text": lambda tag: png(
        RGB,
        zTXt=b"Raw profile type exif\0\0"
        + zlib.compress(b"\nexif\n 32\n" + exif(tag).tobytes().hex().encode() + b"\n"),
    ),
    "tiff": lambda tag: pillow(Image.fromarray(RGB), "TIFF", tiffinfo={274: tag}),
    "tiff, lzw": lambda tag: pillow(
        Image.fromarray(RGB), "TIFF", tiffinfo={274: tag}, compression="tiff_lzw"
    ),
    "tiff of floats": lambda tag: tiff(
        RGB.astype(np.float32), photometric="rgb", extratags=[(274, 3, 1, tag, True)]
    ),
}


@pytest.mark.parametrize("name", list(TURNED))
@pytest.mark.parametrize("tag", range(1, 9))
def test_every_format_is_turned_upright(name: str, tag: int) -> None:
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(TURNED["png"](tag)))))
    found = read(TURNED[name](tag)).pixels
    if found.dtype == np.uint16:
        want = deep(want)
    np.testing.assert_allclose(found.astype(float), want.astype(float), atol=12 if name == "jpeg" else 0)


@pytest.mark.parametrize("tag", [0, 9, 77])
def test_an_unknown_orientation_is_upright(tag: int) -> None:
    np.testing.assert_array_equal(upright(RGB, tag), RGB)
    assert read(TURNED["tiff"](tag)).pixels.shape == RGB.shape
    assert read(TURNED["png"](tag)).pixels.shape == RGB.shape


def test_damaged_exif_is_no_exif() -> None:
    assert read(png(RGB, eXIf=b"MM\0*\0\0\0\x08\xff\xff")).pixels.shape == RGB.shape


# ----------------------------------------------------------------------------------- what the samples mean


def palette(**options) -> bytes:
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, -1) * 85
    return tiff(X.astype(np.uint8), photometric="palette", colormap=colours, **options)


def palette_shown(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


LA = Image.fromarray(np.dstack([GREY, RGBA[..., 3]]), "LA")
CMYK = Image.fromarray(RGBA, "CMYK")
QUANTISED = Image.fromarray(RGB).quantize(7)

READ: dict[str, tuple[bytes, np.ndarray]] = {
    "png palette": (pillow(QUANTISED, "PNG"), np.asarray(QUANTISED.convert("RGB"))),
    "png palette with a transparent colour": (
        pillow(QUANTISED, "PNG", transparency=2),
        np.asarray(Image.open(io.BytesIO(pillow(QUANTISED, "PNG", transparency=2))).convert("RGBA")),
    ),
    "png grey with alpha": (pillow(LA, "PNG"), np.asarray(LA.convert("RGBA"))),
    "png of 1 bit": (pillow(Image.fromarray(X % 3 == 0), "PNG"), (255 * (X % 3 == 0)).astype(np.uint8)),
    "png rgb with a transparent colour": (
        png(RGB, tRNS=struct.pack(">3H", 0, 6, 0)),
        np.dstack([RGB, 255 * np.any(RGB != (0, 6, 0), axis=-1)]).astype(np.uint8),
    ),
    "the same at 16 bits": (
        png(deep(RGB), tRNS=struct.pack(">3H", 0, 6 * 257, 0)),
        deep(np.dstack([RGB, 255 * np.any(RGB != (0, 6, 0), axis=-1)])),
    ),
    "png grey with a transparent level": (
        png(GREY, tRNS=struct.pack(">H", 0)),
        np.dstack([GREY, GREY, GREY, 255 * (GREY != 0)]).astype(np.uint8),
    ),
    "tiff rgba": (pillow(Image.fromarray(RGBA), "TIFF"), RGBA),
    "tiff rgba, lzw": (pillow(Image.fromarray(RGBA), "TIFF", compression="tiff_lzw"), RGBA),
    "tiff rgba, nothing said of the fourth": (
        tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]).replace(
            EXTRA_SAMPLES, NO_TAG + EXTRA_SAMPLES[2:]
        ),
        RGBA,
    ),
    "tiff rgb and a channel of no meaning": (
        tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]),
        RGB,
    ),
    "tiff rgba and a channel of no meaning": (
        tiff(np.dstack([RGBA, GREY]), photometric="rgb", extrasamples=["unassalpha", "unspecified"]),
        RGBA,
    ),
    "tiff of 16 bits, planes, deflate": (
        tiff(
            np.moveaxis(deep(RGBA), -1, 0), photometric="rgb", planarconfig="separate", compression="deflate"
        ),
        deep(RGBA),
    ),
    "tiff, big-endian, 16 bits": (tiff(deep(RGB), photometric="rgb", byteorder=">"), deep(RGB)),
    "tiff, big": (tiff(RGB, photometric="rgb", bigtiff=True), RGB),
    "tiff, tiles": (tiff(RGB, photometric="rgb", tile=(16, 16), compression="lzw", predictor=True), RGB),
    "tiff, white is zero": (tiff(255 - GREY, photometric="miniswhite"), GREY),
    "tiff, white is zero, lzw": (
        pillow(Image.fromarray(GREY), "TIFF", compression="tiff_lzw", tiffinfo={262: 0}),
        GREY,
    ),
    "tiff, white is zero, 16 bits": (tiff(65535 - deep(GREY), photometric="miniswhite"), deep(GREY)),
    "tiff, white is zero, with alpha": (
        tiff(
            np.dstack([255 - GREY, RGBA[..., 3]]),
            photometric="miniswhite",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
        np.asarray(LA.convert("RGBA")),
    ),
    "tiff of 1 bit": (pillow(Image.fromarray(X % 3 == 0), "TIFF"), (255 * (X % 3 == 0)).astype(np.uint8)),
    "tiff of 4 bits": (
        packed_tiff(X % 16, 4),
        (X % 16 * 17).astype(np.uint8),
    ),
    "tiff of 12 bits": (
        packed_tiff(X * 100, 12),
        np.rint(X * 100 * 65535 / 4095).astype(np.uint16),
    ),
    "tiff palette": (palette(), palette_shown(palette())),
    "tiff palette, lzw": (palette(compression="lzw"), palette_shown(palette())),
    "tiff cmyk": (pillow(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB"))),
    "tiff cmyk, lzw": (pillow(CMYK, "TIFF", compression="tiff_lzw"), np.asarray(CMYK.convert("RGB"))),
    "tiff cmyk of 16 bits": (tiff(deep(RGBA), photometric="separated"), from_inks(deep(RGBA))),
    "tiff, associated alpha of floats": (
        tiff(
            np.dstack([RGB / 255.0 * 0.5, np.full((H, W), 0.5)]).astype(np.float32),
            photometric="rgb",
            extrasamples=["assocalpha"],
        ),
        np.dstack([RGB / 255.0, np.full((H, W), 0.5)]).astype(np.float32),
    ),
    **{
        f"tiff, {name}": (tiff(RGB, photometric="rgb", compression=name), RGB)
        for name in ("lzw", "deflate", "packbits", "zstd", "lzma")
    },
    "tiff, float of 16 bits": (
        tiff((RGB / 255).astype(np.float16), photometric="rgb"),
        (RGB / 255).astype(np.float16),
    ),
    "tiff, float with predictor": (
        tiff((RGB / 255).astype(np.float32), photometric="rgb", compression="deflate", predictor=True),
        (RGB / 255).astype(np.float32),
    ),
}


@pytest.mark.parametrize("name", list(READ))
def test_flavours_are_read_as_a_viewer_shows_them(name: str) -> None:
    data, want = READ[name]
    found = read(data)
    assert found.pixels.dtype == want.dtype
    np.testing.assert_allclose(found.pixels, shown(want), atol=1e-6)


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_fax_is_read(compression: str, white_is_zero: bool, orientation: int) -> None:
    drawn = (X + Y * Y) % 3 == 0
    tags = {274: orientation, 262: 0 if white_is_zero else 1}
    data = pillow(Image.fromarray(drawn), "TIFF", compression=compression, tiffinfo=tags)
    want = upright(np.where(drawn, 255, 0).astype(np.uint8)[..., None], orientation)
    np.testing.assert_array_equal(read(data).pixels, want)


def test_what_claims_to_be_fax_and_is_not_is_one_line() -> None:
    data = bytearray(tiff(RGB, photometric="rgb"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags[259].valueoffset
    data[at] = 4
    with pytest.raises(UserError, match="other than black and white"):
        read(bytes(data))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_luma_and_chroma_become_rgb(compression: str | None) -> None:
    plain = pillow(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression=compression)
    for data in (plain, tiff(RGB, photometric="rgb", compression="jpeg", subsampling=(2, 2))):
        assert tifffile.TiffFile(io.BytesIO(data)).pages[0].photometric.name == "YCBCR"
        want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.abs(read(data).pixels.astype(int) - want).max() <= 1


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_associated_alpha_is_divided_out(compression: str | None) -> None:
    data = tiff(half_alpha(), photometric="rgb", extrasamples=["assocalpha"], compression=compression)
    found = read(data)
    solid = RGBA[..., 3] > 64
    assert np.abs(found.pixels[solid].astype(int) - RGBA[solid]).max() <= 3
    assert "multiplied by alpha" in found.notes[0]
    again = read(encode_file(found.pixels, "tiff"))
    np.testing.assert_array_equal(again.pixels, found.pixels)


def test_association_and_its_inverse() -> None:
    np.testing.assert_array_equal(associated(RGBA), half_alpha())
    assert unassociated(half_alpha())[:, 0].any(axis=-1).sum() == 0  # alpha 0: black, not NaN


def test_palettes_of_8_bit_colours_are_not_black() -> None:
    colours = np.array([[0, 200], [10, 100], [20, 255]], np.uint16)
    np.testing.assert_array_equal(from_palette(np.array([[1, 0]]), colours), [[(200, 100, 255), (0, 10, 20)]])
    with pytest.raises(ValueError, match="beyond"):
        from_palette(np.array([[2]]), colours)


@pytest.mark.parametrize("bits", range(1, 17))
def test_few_bits_span_the_whole_range(bits: int) -> None:
    top = 2**bits - 1
    full = 255 if bits <= 8 else 65535
    values = np.unique(np.linspace(0, top, 300).astype(np.int64)).astype(np.uint16)
    np.testing.assert_array_equal(widened(values, bits), np.floor(values * (full / top) + 0.5))


# ------------------------------------------------------------------------------------------------- JPEG


def test_ink_jpeg_is_read_as_rgb() -> None:
    data = pillow(CMYK, "JPEG", quality=100, subsampling=0)
    found = read(data)
    want = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(found.pixels.astype(int) - want).max() <= 1
    assert found.notes == ("is in CMYK: read as RGB without a profile",)


def test_of_a_camera_s_two_pictures_the_first_is_the_photo() -> None:
    image = Image.fromarray(RGB)
    data = pillow(
        image, "MPO", save_all=True, append_images=[image.resize((8, 8))], quality=100, subsampling=0
    )
    found = read(data)
    assert found.format == "jpeg"
    assert np.abs(found.pixels.astype(int) - RGB).mean() < 3
    assert found.notes == ("holds more than one picture: the first is read",)


def test_pages_that_are_copies_of_the_first_are_left_out() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(RGB, photometric="rgb", subfiletype=0)
        file.write(GREY > 9, photometric="minisblack", subfiletype=4)
    found = read(buffer.getvalue())
    np.testing.assert_array_equal(found.pixels, RGB)
    assert found.notes == ("holds 2 smaller copies or masks: left out",)


# ----------------------------------------------------------------------------------------------- refused


REFUSED: dict[str, tuple[bytes, str]] = {
    "subsampled chroma": (
        pillow(Image.fromarray(RGB).convert("YCbCr"), "TIFF", tiffinfo={530: (2, 2)}),
        "subsampled chroma",
    ),
    "lab": (tiff(RGB, photometric="cielab"), "colour space CIELAB"),
    "volume": (tiff(np.zeros((16, 16, 16), np.uint8), photometric="minisblack", volumetric=True), "volume"),
    "signed": (tiff(GREY.astype(np.int16), photometric="minisblack"), "type int16"),
    "double": (tiff(GREY.astype(np.float64), photometric="minisblack"), "type float64"),
    "negative floats": (tiff(GREY.astype(np.float32), photometric="miniswhite"), "MINISWHITE"),
    "five greys": (
        tiff(np.zeros((4, 4, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
        "5 channels",
    ),
    "inks of no fixed colour": (
        tiff(RGBA, photometric="separated", extratags=[(332, "H", 1, 2, True)]),
        "inks other than CMYK",
    ),
    "a map's floats without data": (
        tiff(
            np.where(X < 3, -9999, X / 50.0).astype(np.float32),
            photometric="minisblack",
            extratags=[(42113, "s", 0, "-9999", True)],
        ),
        "pixels without data \\(-9999\\)",
    ),
    "pages": (tiff(np.zeros((3, 4, 4), np.uint8), photometric="minisblack"), "3 pages"),
    "stack of ImageJ": (tiff(np.zeros((3, 8, 8), np.uint8), imagej=True), "3 pages"),
    "thumbnail alone": (tiff(RGB, photometric="rgb", subfiletype=1), "smaller copies alone"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_other_flavours_are_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        read(data)


def test_exr_is_shown_in_its_display_window() -> None:
    pixels = (RGB / 255).astype(np.float32)
    data = encode_file(pixels, "exr")
    at = data.index(b"displayWindow\0box2i\0") + len(b"displayWindow\0box2i\0") + 4
    window = struct.pack("<4i", -3, 2, W - 5, H + 4)  # from column -3 and row 2 on
    found = read(data[:at] + window + data[at + 16 :])
    want = np.zeros((H + 3, W - 1, 3), np.float32)
    want[: H - 2, 3:] = pixels[2:, : W - 4]
    np.testing.assert_array_equal(found.pixels, want)
    assert "another window" in found.notes[0]


def test_alpha_changes_its_meaning_between_exr_and_others() -> None:
    picture = Picture(np.dstack([RGB / 255.0 * 0.5, np.full((H, W), 0.5)]).astype(np.float32), "exr")
    straight = in_format(picture, "tiff")
    np.testing.assert_allclose(straight.pixels[..., :3], RGB / 255, atol=1e-6)
    np.testing.assert_allclose(in_format(straight, "exr").pixels, picture.pixels, atol=1e-6)


# ----------------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_the_colour_profile_is_kept(tmp_path, kind: str, depth: str) -> None:
    if (kind, depth) == ("jpeg", "uint16"):
        return
    pixels = RGB if depth == "uint8" else deep(RGB)
    write_picture(tmp_path / "a", Picture(pixels, kind, SRGB))
    found = read_picture(tmp_path / "a")
    assert found.profile == SRGB
    assert Image.open(tmp_path / "a").info["icc_profile"] == SRGB


def test_a_profile_of_other_channels_is_dropped() -> None:
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    assert read(with_profile(encode_file(RGB, "png"), grey)).profile is None
    assert read(with_profile(encode_file(GREY[..., None], "png"), grey)).profile == grey
    assert read(with_profile(pillow(LA, "PNG"), grey)).profile is None


# ----------------------------------------------------------------------------------------------- shrinking


@pytest.mark.parametrize(("shape", "small"), [((37, 53), (10, 14)), ((9, 700), (3, 31)), ((7, 7), (7, 3))])
def test_means_over_areas_are_those_of_scikit_image(shape: tuple[int, int], small: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random((*shape, 3))
    want = resize_local_mean(values, small, channel_axis=-1)
    np.testing.assert_allclose(area_means(values, *small), want, atol=1e-12)


def test_transparent_colours_do_not_show_at_edges() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (200, 100, 50, 255)
    pixels[:, 2:] = (0, 255, 0, 0)
    small = shrunk(Picture(pixels, "png"), 2).pixels
    np.testing.assert_array_equal(small[:, 0], [(200, 100, 50, 255)] * 2)
    np.testing.assert_array_equal(small[:, 1], [(0, 255, 0, 0)] * 2)
    odd = shrunk(Picture(pixels[:, 1:], "png"), 1 + 1).pixels
    np.testing.assert_array_equal(odd[0, 0, :3], (200, 100, 50))


def test_large_files_come_in_where_they_are_shrunk() -> None:
    side = int(MAX_PIXELS**0.5) + 8
    white = Image.new("L", (side, side), 200)
    for data in (pillow(white, "JPEG"), pillow(white, "PNG", compress_level=1)):
        with pytest.raises(UserError, match="--max-side"):
            decode_file(data)
        found = picture_of(data, "it", 16)
        np.testing.assert_array_equal(found.pixels, np.full((16, 16, 1), 200))
    with pytest.raises(UserError, match="tiles"):
        decode_file(pillow(white, "PNG")[:16] + struct.pack(">II", 2**15, 2**14) + bytes(20), 16)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"II*\0\x08\0\0\0", "holds no picture|damaged"),
        (b"no picture", "is no PNG, JPEG, TIFF or EXR file"),
        *(
            (pillow(Image.fromarray(RGB), name.upper()), f"is {name}, which")
            for name in ("WebP", "GIF", "BMP")
        ),
        (pillow(Image.fromarray(RGB), "JPEG2000"), "is JPEG 2000, which"),
        (bytes(imagecodecs.jpegxl_encode(RGB)), "is JPEG XL, which"),
        (struct.pack(">I8s", 24, b"ftypheic") + bytes(12), "is HEIC, which"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (png(RGB)[:8] + struct.pack(">I4sII", 4, b"CgBI", 0, 0) + png(RGB)[8:], "iPhone"),
        (png(RGB)[:8] + struct.pack(">I4s", 0, b"tEXt") + bytes(4) + png(RGB)[8:], "first chunk"),
    ],
)
def test_a_file_without_a_picture_is_one_line(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_file(data)


@pytest.mark.parametrize(("mark", "count"), [("6", H), ("-9999", 0), ("nan", 0), ("none", 0)])
def test_whole_numbers_without_data_are_told_of(mark: str, count: int) -> None:
    found = read(tiff(GREY, photometric="minisblack", extratags=[(42113, "s", 0, mark, True)]))
    np.testing.assert_array_equal(found.pixels[..., 0], GREY)
    assert [note.split()[1] for note in found.notes] == ([str(count)] if count else [])


def test_codecs_say_nothing_by_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    """libpng prints a warning of each of these, and reads them rightly."""
    os.write(2, b"before ")
    for chunk in ({"iCCP": b"x\0\0damaged"}, {"tRNS": b"too long for a colour"}, {"gAMA": b""}):
        found = read(png(RGB, **chunk))
        np.testing.assert_array_equal(found.pixels, RGB)
        assert found.notes == ()
    os.write(2, b"behind")
    assert capfd.readouterr() == ("", "before behind")


def test_a_transparent_colour_beside_alpha_means_nothing() -> None:
    png = pillow(LA, "PNG")
    content = b"tRNS\0\0"
    chunk = struct.pack(">I", 2) + content + struct.pack(">I", zlib.crc32(content))
    at = png.index(b"IDAT") - 4
    found = read(png[:at] + chunk + png[at:])
    np.testing.assert_array_equal(found.pixels, np.asarray(LA.convert("RGBA")))
    assert found.notes == ("is grey with alpha: read as RGBA",)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("missing", [0, 1])
def test_pixels_beyond_the_palette_are_refused(bits: int, missing: int) -> None:
    colours = 2**bits
    indices = np.arange(colours, dtype=np.uint8)[None].repeat(8, axis=1)  # whole bytes
    shifts = np.arange(bits - 1, -1, -1)
    row = np.packbits(indices[..., None] >> shifts & 1).tobytes()
    palette = np.random.default_rng(0).integers(1, 256, (colours - missing, 3), dtype=np.uint8)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", indices.size, 1, bits, 3, 0, 0, 0),
        b"tEXt": b"Comment\0PLTE",  # no palette
        b"PLTE": palette.tobytes(),
        b"IDAT": zlib.compress(b"\0" + row),
        b"IEND": b"",
    }
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    )
    if missing:
        with pytest.raises(UserError, match=f"beyond the {colours - 1} colours of its palette"):
            decode_file(data)
    else:
        np.testing.assert_array_equal(decode_file(data)[0].pixels, palette[indices])


LZW: dict[str, dict] = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 16)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 7},
    "predictor": {"predictor": True},
}


@pytest.mark.parametrize("name", list(LZW))
def test_lzw_that_ends_early_is_refused_and_what_is_too_long_is_cut(name: str) -> None:
    pixels = RGB
    if name == "planes":
        pixels = np.ascontiguousarray(np.moveaxis(RGB, -1, 0))
    data = tiff(pixels, photometric="rgb", compression="lzw", **LZW[name])
    np.testing.assert_array_equal(decode_file(data)[0].pixels, RGB)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        at, size = page.dataoffsets[-1], page.databytecounts[-1]
        tags = [page.tags[number] for number in ((324, 325) if name == "tiles" else (273, 279))]
    content = bytes(imagecodecs.lzw_decode(data[at : at + size]))
    for other in (content[:-1], b"", content + bytes(3), content * 2):
        changed, packed = bytearray(data), imagecodecs.lzw_encode(other)
        for tag, value in zip(tags, (len(data), len(packed)), strict=True):  # of the last strip or tile
            kind = {3: "<H", 4: "<I"}[tag.dtype]
            struct.pack_into(kind, changed, tag.valueoffset + struct.calcsize(kind) * (tag.count - 1), value)
        if len(other) < len(content):
            with pytest.raises(UserError, match=r"(strip|tile) \d+ of LZW ends early"):
                decode_file(bytes(changed) + packed)
        else:
            np.testing.assert_array_equal(decode_file(bytes(changed) + packed)[0].pixels, RGB)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("bits", [1, 4])
def test_lzw_of_few_bits_is_read(order: int, bits: int) -> None:
    """Rows fill whole bytes; a strip may end with the picture or go on to its full length."""
    values = (X + Y).astype(np.uint8)[:, :37] % 2**bits
    shifts = np.arange(bits - 1, -1, -1)
    rows = np.packbits((values[..., None] >> shifts & 1).reshape(H, -1), axis=1)
    packed = [imagecodecs.lzw_encode(rows[:16].tobytes())]
    packed.append(imagecodecs.lzw_encode(rows[16:].tobytes() + bytes(8 * rows.shape[1] * (order - 1))))
    if order == 2:
        packed = [bytes(imagecodecs.bitorder_encode(one)) for one in packed]
    offsets = struct.pack("<4I", 16 + 8, 16 + 8 + len(packed[0]), *map(len, packed))
    body = offsets + b"".join(packed)
    tags = {256: W - 3, 257: H, 258: bits, 259: 5, 262: 1, 266: order, 273: 8, 277: 1, 278: 16, 279: 16}
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 2 if tag in (273, 279) else 1, value) for tag, value in tags.items()
    )
    data = struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body
    data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    np.testing.assert_array_equal(decode_file(data)[0].pixels, widened(values[..., None], bits))
