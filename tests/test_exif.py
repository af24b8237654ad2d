"""Orientation tags: EXIF's counts before XMP's, and damaged ones are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bn_field_plugin.exif import TAG, orientation_of


def exif(value: int) -> bytes:
    tags = Image.Exif()
    tags[TAG] = value
    return tags.tobytes()


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_read_with_and_without_the_opening(value: int) -> None:
    assert orientation_of(exif(value)) == value
    assert orientation_of(exif(value).removeprefix(b"Exif\0\0")) == value
    assert orientation_of(None, b'<x tiff:Orientation="%d"/>' % value) == value
    assert orientation_of(None, b"<tiff:Orientation>%d</tiff:Orientation>" % value) == value
    assert orientation_of(exif(value), b'tiff:Orientation="2"') == value


def test_what_says_nothing_is_upright() -> None:
    assert (
        orientation_of(None) == orientation_of(b"") == orientation_of(exif(0)) == orientation_of(exif(9)) == 1
    )
    assert orientation_of(None, b'tiff:Orientation="9"') == 1


@given(st.binary(max_size=80))
def test_damage_never_raises(data: bytes) -> None:
    assert 1 <= orientation_of(data, data) <= 8
    assert 1 <= orientation_of(b"Exif\0\0II*\0" + data) <= 8
