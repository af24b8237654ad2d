"""STL as programs write it, in the flavours that viewers take."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import trimesh
from hypothesis import example, given
from hypothesis import strategies as st

from standalone.shape.formats.stl import read_stl

BOX = trimesh.creation.box((1, 2, 3))
BINARY = bytes(BOX.export(file_type="stl"))
TEXT = trimesh.exchange.stl.export_stl_ascii(BOX)

FLAVOURS = {
    "binary": BINARY,
    "binary, named as text would be": b"solid facet of a box".ljust(80) + BINARY[80:],
    "binary, named as text, more behind its faces": b"solid facet of a box".ljust(80) + BINARY[80:] + b"more",
    "binary, more behind its faces": BINARY + b"\0\0more",
    "binary, its number of faces never filled in": BINARY[:80] + bytes(4) + BINARY[84:],
    "ASCII": TEXT.encode(),
    "ASCII in capitals": TEXT.upper().encode(),
    "ASCII without a name": TEXT.replace(TEXT.splitlines()[0], "solid").encode(),
    "ASCII, indented, of Windows, with a mark": b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n\t ").encode(),
}


@pytest.mark.parametrize("name", list(FLAVOURS))
def test_flavours_are_read(name: str) -> None:
    found = read_stl(FLAVOURS[name])
    assert len(found.faces) == 12
    corners = found.vertices[found.faces]
    np.testing.assert_allclose(corners, BOX.triangles, atol=1e-6)


def test_all_solids_of_a_text_are_read_in_64_bits() -> None:
    loop = "outer loop vertex 0 0 0 vertex 4000000.123456789 0 0 vertex 0 1e-9 0 endloop"
    found = read_stl(f"solid a facet normal 0 0 1 {loop} endfacet endsolid a\n".encode() * 2)
    assert len(found.faces) == 2
    assert found.vertices[4].tolist() == [4000000.123456789, 0, 0]


@given(cut=st.integers(0, len(BINARY) - 1), text=st.booleans())
@example(cut=204, text=True)  # cut behind the sign of a number
def test_what_is_cut_short_is_refused(cut: int, text: bool) -> None:
    end = TEXT.index("endsolid")  # the name behind it does not matter
    with pytest.raises(ValueError, match=r"ends early|whole faces"):
        read_stl(TEXT.encode()[: cut * end // len(BINARY)] if text else BINARY[:cut])


def test_a_coordinate_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        read_stl(TEXT.replace("vertex ", "vertex x", 1).encode())


def test_a_text_cut_behind_a_whole_face_is_refused() -> None:
    with pytest.raises(ValueError, match="ends early"):
        read_stl(TEXT[: TEXT.index("endfacet") + 9].encode())


def test_a_number_beyond_the_file_takes_no_memory() -> None:
    with pytest.raises(ValueError, match="ends early"):
        read_stl(BINARY[:80] + struct.pack("<I", 2**32 - 1) + BINARY[84:])
