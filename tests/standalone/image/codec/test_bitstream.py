"""Files of encoded images: contents survive packing, errors are explained, and forged files cost no time."""

from __future__ import annotations

import dataclasses
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.image.codec.bitstream import (
    CHECKSUM,
    HALF_PRECISION,
    HEADER,
    QUANTISED,
    VERSION,
    CodedImage,
    pack,
    step_index,
    step_of,
    unpack,
)
from standalone.image.codec.quantization import half_precision, quantised, steps_for_bits
from standalone.image.images import ValueRange
from tests.laws import cases
from tests.standalone.image.pictures import folded


def coded(mode: int = QUANTISED, name: str = "pemlp-2") -> CodedImage:
    mlp = folded(name)
    network = half_precision(mlp) if mode == HALF_PRECISION else quantised(mlp, steps_for_bits(mlp, 6))
    return CodedImage(20, 30, 3, "png", "uint8", ValueRange(0, 255), network, mode)


def sealed(body: bytes) -> bytes:
    """A file's body with the right checksum."""
    return body + CHECKSUM.pack(zlib.crc32(body))


@pytest.mark.parametrize("mode", [HALF_PRECISION, QUANTISED])
@pytest.mark.parametrize("name", ["mlp", "pemlp-2", "siren"])
def test_a_file_survives(mode: int, name: str) -> None:
    image = coded(mode, name)
    found = unpack(pack(image))
    for ours, theirs in zip(image.network.layers, found.network.layers, strict=True):
        assert ours.exponent == theirs.exponent
        for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            np.testing.assert_array_equal(a.integers, b.integers)
            assert a.step == b.step
    bare = dataclasses.replace(image.network, layers=())
    assert dataclasses.replace(found, network=bare) == dataclasses.replace(image, network=bare)
    assert pack(found) == pack(image)


@given(cut=st.integers(0, 10_000))
def test_a_file_cut_short_is_one_clear_line(cut: int) -> None:
    data = pack(coded())
    with pytest.raises(UserError, match=r"cut short|damaged|no encoded image"):
        unpack(data[: cut % len(data)])


@given(bit=st.integers(0, 10**6), mode=st.sampled_from([HALF_PRECISION, QUANTISED]))
def test_a_flipped_bit_is_one_clear_line(bit: int, mode: int) -> None:
    data = bytearray(pack(coded(mode)))
    bit %= 8 * len(data)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UserError, match=r"damaged|no encoded image|newer version"):
        unpack(bytes(data))


def test_a_newer_version_is_named() -> None:
    data = bytearray(pack(coded()))
    data[4] = VERSION + 1
    with pytest.raises(UserError, match="newer version 2: update"):
        unpack(bytes(data))


@given(data=st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(UserError):
        unpack(data)
    with pytest.raises(UserError):
        unpack(sealed(pack(coded())[:5] + data))


FIELDS = HEADER.unpack(pack(coded())[: HEADER.size])


@cases(200)
@given(
    field=st.integers(1, len(FIELDS) - 1),
    value=st.integers(0, 2**32 - 1) | st.integers(0, 300),
    real=st.floats(width=32),
    rest=st.binary(max_size=400) | st.none(),
)
def test_a_forged_header_neither_crashes_nor_takes_long(
    field: int, value: int, real: float, rest: bytes | None
) -> None:
    fields = list(FIELDS)
    fields[field] = real if isinstance(fields[field], float) else value
    whole = pack(coded())[HEADER.size : -CHECKSUM.size]
    try:
        header = HEADER.pack(*fields)
    except struct.error:
        return
    start = time.perf_counter()
    try:
        found = unpack(sealed(header + (whole if rest is None else rest)))
    except UserError:
        return
    finally:
        assert time.perf_counter() - start < 5
    numbers = sum(layer.weight.integers.size for layer in found.network.layers)
    assert numbers < 100_000


def forged(**changes: float) -> bytes:
    names = [
        "magic",
        "version",
        "mode",
        "kind",
        "depth",
        "channels",
        "height",
        "width",
        "octaves",
        "units",
        "hidden",
        "low",
        "high",
        "omega",
        "size",
    ]
    fields = dict(zip(names, FIELDS, strict=True)) | changes
    return sealed(HEADER.pack(*fields.values()) + pack(coded())[HEADER.size : -CHECKSUM.size])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 2**31, "width": 2**31}, "claims an image"),
        ({"height": 0}, "claims an image"),
        ({"units": 1000, "hidden": 60}, "more numbers than it can hold"),
        ({"units": 1024, "hidden": 20, "size": 2**20}, "more numbers than it can hold"),
        ({"units": 60_000}, "impossible header"),
        ({"channels": 7}, "impossible header"),
        ({"depth": 3}, "impossible header"),
        ({"version": 0}, "impossible header"),
        ({"size": 10**9}, "another length|more work"),
        ({"low": 5.0, "high": 4.0}, "impossible header"),
        ({"high": 256.0}, "impossible header"),
        ({"low": -1.0}, "impossible header"),
        ({"kind": 3, "depth": 2, "high": 1e6}, "impossible header"),
    ],
)
def test_absurd_claims_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        unpack(forged(**changes))


def test_a_bomb_of_compressed_halves_is_refused() -> None:
    image = pack(coded(HALF_PRECISION))
    fields = list(HEADER.unpack_from(image))
    layers = fields[10] + 1
    at = HEADER.size + layers
    payload = image[at : -CHECKSUM.size]
    (size,) = CHECKSUM.unpack_from(payload)
    bomb = zlib.compress(bytes(10**7), 9)
    payload = CHECKSUM.pack(len(bomb)) + bomb + payload[4 + size :]
    fields[-1] = len(payload)
    with pytest.raises(UserError, match="another count"):
        unpack(sealed(HEADER.pack(*fields) + image[HEADER.size : at] + payload))


def test_networks_beyond_the_bounds_are_refused() -> None:
    image = coded()
    layers = image.network.layers[:1] + image.network.layers[1:2] * 70 + image.network.layers[-1:]
    network = dataclasses.replace(image.network, layers=layers)
    with pytest.raises(UserError, match="hidden layers"):
        pack(dataclasses.replace(image, network=network))
    with pytest.raises(UserError, match="too large for an image of this size"):
        pack(dataclasses.replace(image, height=2**20, width=2**20))


@given(index=st.integers(0, 255))
def test_steps_survive_their_index(index: int) -> None:
    assert step_index(step_of(index)) == index
    assert step_of(step_index(step_of(index) * 1.05)) == step_of(index)


def test_steps_outside_the_table_take_its_ends() -> None:
    assert step_index(1e-30) == 0
    assert step_index(1e30) == 255
