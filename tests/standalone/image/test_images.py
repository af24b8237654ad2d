"""Pictures on disk: formats, depths and channels survive; other files give one clear line."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bn_field_plugin import UserError
from standalone.image.images import (
    CHANNELS,
    DEPTHS,
    SUFFIXES,
    Picture,
    ValueRange,
    astronaut,
    check_holds,
    checked,
    read_picture,
    shrunk,
    write_picture,
)
from standalone.image.readers.decoded import MAX_PIXELS
from standalone.image.readers.formats import decode_file, encode_file
from tests.standalone.image.pictures import picture

KINDS = [
    pytest.param(format, depth, channels, id=f"{format}-{depth}-{channels}")
    for format in SUFFIXES
    for depth in DEPTHS[format]
    for channels in CHANNELS[format]
]


@pytest.mark.parametrize(("format", "depth", "channels"), KINDS)
def test_what_is_written_is_read(tmp_path: Path, format, depth, channels: int) -> None:
    wrote = picture(9, 13, channels, depth, format)
    path = tmp_path / f"image{SUFFIXES[format][0]}"
    write_picture(path, wrote)
    read = read_picture(path)
    assert (read.format, read.depth) == (format, depth)
    assert read.pixels.shape == (9, 13, channels)
    if format == "jpeg":
        assert np.abs(read.pixels.astype(int) - wrote.pixels).mean() < 3
    else:
        np.testing.assert_array_equal(read.pixels, wrote.pixels)
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_tells_the_format(tmp_path: Path) -> None:
    path = tmp_path / "image.dat"
    path.write_bytes(encode_file(picture().pixels, "tiff"))
    assert read_picture(path).format == "tiff"


def test_planar_and_inverted_tiff_are_read_as_they_look(tmp_path: Path) -> None:
    pixels = picture().pixels
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_picture(path).pixels, pixels)
    tifffile.imwrite(path, pixels[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(path).pixels[..., 0], 255 - pixels[..., 0])


def test_compressed_tiff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(picture().pixels).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read_picture(path).pixels, picture().pixels)


def test_a_photo_that_a_camera_turned_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(picture(24, 32).pixels).save(path, exif=exif)
    assert read_picture(path).pixels.shape == (32, 24, 3)


def png_bytes(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def tiff_bytes(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def bad_files() -> dict[str, tuple[bytes, str]]:
    rgb = Image.fromarray(picture().pixels)
    whole = png_bytes(rgb)
    absurd = whole[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + whole[24:]
    return {
        "empty": (b"", "is empty"),
        "text": (b"hello", "no PNG, JPEG, TIFF or EXR"),
        "gif": (b"GIF89a" + bytes(20), "GIF, which is not read: convert it to PNG, JPEG, TIFF or EXR"),
        "animated": (png_bytes(rgb, save_all=True, append_images=[rgb.rotate(90)]), "2 frames"),
        "cut png": (whole[: len(whole) // 2], "damaged"),
        "cut header": (whole[:20], "damaged"),
        "absurd png": (absurd, "claims"),
        "cut tiff": (tiff_bytes(picture().pixels, photometric="rgb")[:60], "damaged"),
        "exr": (b"\x76\x2f\x31\x01\x02\x00\x00\x00", "damaged header"),
    }


@pytest.mark.parametrize("name", list(bad_files()))
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str) -> None:
    data, message = bad_files()[name]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_picture(path)
    assert "bad.png" in str(caught.value)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(UserError, match="cannot be read"):
        read_picture(tmp_path)


@given(
    data=st.binary(max_size=200), format=st.sampled_from(["png", "jpeg", "tiff", "exr"]), at=st.integers(0)
)
def test_damaged_files_never_crash(data: bytes, format, at: int) -> None:
    depth = DEPTHS[format][0]
    whole = encode_file(picture(6, 5, 3, depth).pixels, format)
    at %= len(whole)
    damaged = whole[:at] + data + whole[at + len(data) :]
    try:
        pixels = decode_file(damaged)[0].pixels
    except UserError:
        return
    assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((1, 1, 3), np.uint8), "single pixel"),
        (np.zeros((4, 4, 2), np.uint8), "2 channels"),
        (np.full((4, 4, 1), np.nan, np.float32), "16 pixels that are NaN"),
        (np.full((2, 2, 3), np.inf, np.float16), "4 pixels that are NaN or infinite"),
        (np.zeros((4, 4, 1), np.int32), "type int32"),
    ],
)
def test_pixels_that_cannot_be_fitted_are_refused(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(Picture(pixels, "tiff"), "it")


def test_endings_must_hold_depth_and_channels() -> None:
    assert check_holds(Path("a.TIF"), "uint16", 4) == "tiff"
    with pytest.raises(UserError, match=r"JPEG cannot hold 4 channels of uint8; use the ending .png or .tif"):
        check_holds(Path("a.jpg"), "uint8", 4)
    with pytest.raises(UserError, match="no known format"):
        check_holds(Path("a.webp"), "uint8", 3)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_integers_survive_the_network_range(depth) -> None:
    top = np.iinfo(depth).max
    values = np.arange(0, top + 1, max(1, top // 999)).astype(depth)
    value_range = ValueRange(0, top)
    targets = value_range.normalize(values)
    assert targets.min() >= -1
    assert targets.max() <= 1
    np.testing.assert_array_equal(value_range.denormalize(targets, depth), values)
    if depth == "uint8":
        np.testing.assert_array_equal(value_range.to_8bit(values), values)


def test_floats_keep_their_range() -> None:
    assert picture(depth="float32").value_range() == ValueRange(0, 1)
    hdr = Picture(picture(depth="float32").pixels * 100 - 50, "exr")
    value_range = hdr.value_range()
    assert value_range.low < 0 < 1 < value_range.high
    back = value_range.denormalize(value_range.normalize(hdr.pixels), "float32")
    np.testing.assert_allclose(back, hdr.pixels, atol=1e-4)
    flat = Picture(np.full((3, 3, 1), 7, np.float32), "exr")
    assert flat.value_range().low < 7 < flat.value_range().high


def test_shrinking_averages_and_keeps_the_aspect_ratio() -> None:
    small = shrunk(astronaut(), 64)
    assert small.pixels.shape == (64, 64, 3)
    assert small.pixels.dtype == np.uint8
    assert abs(small.pixels.mean() - astronaut().pixels.mean()) < 0.5
    assert shrunk(picture(20, 40), 10).pixels.shape == (5, 10, 3)
    with pytest.raises(UserError, match="--max-side"):
        shrunk(picture(), 1)
