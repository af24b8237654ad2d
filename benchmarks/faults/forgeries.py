"""Encoded images as no encoder writes them: noise, damage, and forgeries whose checksum is right.

Each is made from a seed and a number, so that one that does harm can be made again.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from bn_field_plugin.nn import fold_norm
from standalone.image.codec.bitstream import (
    CHECKSUM,
    HALF_PRECISION,
    HEADER,
    MAGIC,
    QUANTISED,
    VERSION,
    CodedImage,
    pack,
)
from standalone.image.codec.entropy import LARGEST, NUM_SHAPES
from standalone.image.codec.quantization import half_precision, quantised, steps_for_bits
from standalone.image.images import CHANNELS, DEPTHS, INTEGERS, DepthName, ValueRange
from standalone.image.readers.formats import FormatName
from standalone.options import NetworkOptions

TELLING = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFE, 0xFF)
"""Values of a byte at which readers often go wrong."""

NUMBERS = (0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 65, 255, 1024, 1025, 65535, 2**16, 2**26, 2**31, 2**32 - 1)
"""Whole numbers at which readers often go wrong."""

REALS = (0.0, -0.0, 1.0, -1.0, 30.0, 1e4, 1e30, -1e30, 3e38, 1e-45, math.inf, -math.inf, math.nan)
"""Fractions at which readers often go wrong."""


def sound_files() -> list[bytes]:
    """Files as the encoder writes them: each mode and activation, several formats, depths and sizes."""
    kinds: list[tuple[FormatName, DepthName, int]] = [
        *(("png", "uint8", 3), ("png", "uint16", 4), ("jpeg", "uint8", 1)),
        *(("tiff", "float32", 3), ("exr", "float16", 4)),
    ]
    files = []
    for (kind, depth, channels), name in itertools.product(kinds, ("mlp", "pemlp-3", "siren")):
        mlp = fold_norm(NetworkOptions(name, "none", width=6, depth=2).build(2, channels, seed=0))
        values = ValueRange(*_usual_range(depth))
        coarse = quantised(mlp, steps_for_bits(mlp, 6))
        image = CodedImage(9, 14, channels, kind, depth, values, coarse, QUANTISED)
        fine = dataclasses.replace(image, network=half_precision(mlp), mode=HALF_PRECISION)
        files += [pack(image), pack(fine)]
    return files


def sealed(body: bytes) -> bytes:
    """A body with the checksum that a reader expects."""
    return body + CHECKSUM.pack(zlib.crc32(body))


def forgery(seed: int, number: int, sound: Sequence[bytes]) -> tuple[str, bytes]:
    """A kind of forgery, and the file.

    Args:
        seed: of all forgeries of a campaign.
        number: of this one.
        sound: files to begin with (`sound_files`).
    """
    random = Random(f"{seed} {number}")
    kind = random.choice(list(FORGERS))
    return kind, FORGERS[kind](random, sound)


def _noise(random: Random, _: Sequence[bytes]) -> bytes:
    return random.randbytes(random.randrange(600))


def _sealed_noise(random: Random, _: Sequence[bytes]) -> bytes:
    return sealed(MAGIC + bytes([VERSION]) + random.randbytes(random.randrange(600)))


def _cut(random: Random, sound: Sequence[bytes]) -> bytes:
    data = random.choice(sound)
    return data[: random.randrange(len(data))]


def _sealed_cut(random: Random, sound: Sequence[bytes]) -> bytes:
    return sealed(_cut(random, sound))


def _flipped(random: Random, sound: Sequence[bytes]) -> bytes:
    data = bytearray(random.choice(sound))
    for _ in range(random.randint(1, 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _sealed_flipped(random: Random, sound: Sequence[bytes]) -> bytes:
    return sealed(_flipped(random, sound)[: -CHECKSUM.size])


def _overwritten(random: Random, sound: Sequence[bytes]) -> bytes:
    """A file with runs of bytes replaced, most often by those of `TELLING`."""
    body = bytearray(_body(random, sound))
    for _ in range(random.randint(1, 4)):
        at, run = random.randrange(len(body)), random.choice((1, 1, 2, 4, 8, 64))
        value = random.choice(TELLING) if random.random() < 0.7 else random.randrange(256)
        body[at : at + run] = bytes([value]) * len(body[at : at + run])
    return sealed(bytes(body))


def _rearranged(random: Random, sound: Sequence[bytes]) -> bytes:
    """A file with runs of bytes left out, doubled or inserted."""
    body = _body(random, sound)
    for _ in range(random.randint(1, 3)):
        start, stop = sorted(random.randrange(len(body) + 1) for _ in range(2))
        middle = random.choice((b"", body[start:stop] * 2, random.randbytes(random.randrange(40))))
        body = body[:start] + middle + body[stop:]
    return sealed(body)


def _spliced(random: Random, sound: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another."""
    one, other = _body(random, sound), _body(random, sound)
    return sealed(one[: random.randrange(len(one))] + other[random.randrange(len(other)) :])


def _claims(random: Random, sound: Sequence[bytes]) -> bytes:
    """A sound file whose header claims something else."""
    body = _body(random, sound)
    fields = list(HEADER.unpack_from(body))
    for _ in range(random.randint(1, 3)):
        index = random.randrange(1, len(fields))
        is_real = isinstance(fields[index], float)
        fields[index] = random.choice(REALS) if is_real else random.choice(NUMBERS)
    try:
        header = HEADER.pack(*fields)
    except (struct.error, OverflowError):  # the number does not fit into its field
        return sealed(body)
    return sealed(header + body[HEADER.size :])


def _forged_network(random: Random, sound: Sequence[bytes]) -> bytes:
    """A consistent header with any network behind it, so that only decoding finds the fault."""
    kind = random.choice(list(DEPTHS))
    depth, channels = random.choice(DEPTHS[kind]), random.choice(CHANNELS[kind])
    octaves, width, hidden = random.choice((0, 1, 5, 32)), random.randint(1, 24), random.randint(1, 4)
    sizes = [2 * (1 + 2 * octaves)] + [width] * hidden + [channels]
    counts = [number for d, c in itertools.pairwise(sizes) for number in (c * d, c)]
    mode = random.choice((HALF_PRECISION, QUANTISED))
    exponents = bytes(random.choice(TELLING + tuple(range(10, 30))) for _ in range(hidden + 1))
    models = b""
    if mode == HALF_PRECISION:
        payload = _halves(random, sum(counts))
    else:
        models = b"".join(_model(random) for _ in counts)
        payload = random.randbytes(4 * random.randint(sum(counts) // 256 + 1, sum(counts) // 2 + 2))
        payload = bytes(len(payload)) if random.random() < 0.1 else payload
    values = _usual_range(depth) if random.random() < 0.8 else random.choices(REALS, k=2)
    omega = random.choice((0.0, 0.0, 1e-3, 30.0, 1e4))
    size = (random.choice((1, 2, 9, 40, 5000)), random.choice((1, 2, 9, 40, 5000)))
    header = HEADER.pack(
        *(MAGIC, VERSION, mode, list(DEPTHS).index(kind), DEPTH_ORDER.index(depth), channels),
        *(*size, octaves, width, hidden, *values, omega, len(payload)),
    )
    return sealed(header + exponents + models + payload)


def _usual_range(depth: DepthName) -> tuple[float, float]:
    return (0.0, float(np.iinfo(depth).max)) if depth in INTEGERS else (-1.5, 4.0)


def _model(random: Random) -> bytes:
    """Step and model of a tensor's integers, most often sound ones."""
    largest = random.choice((0, 1, 3, 31, 500, LARGEST, LARGEST + 1, 65535))
    largest = largest if random.random() < 0.3 else random.randrange(64)
    shape = random.randrange(NUM_SHAPES + (random.random() < 0.05))
    return struct.pack("<BHBB", random.randrange(256), largest, shape, random.randrange(256))


def _halves(random: Random, count: int) -> bytes:
    """Compressed fp16 numbers as in the format: with any bits, extreme values, or far too many."""
    pick = random.random()
    if pick < 0.1:
        high = bytes(10**6)
    elif pick < 0.5:
        high = bytes(random.choice((0x7B, 0xFB, 0x3C, 0x00, 0x80)) for _ in range(count))
    else:
        high = random.randbytes(count)
    packed = zlib.compress(high, 1)
    if random.random() < 0.2:
        packed = packed[: random.randrange(len(packed) + 1)] + random.randbytes(random.randrange(8))
    return CHECKSUM.pack(len(packed)) + packed + random.randbytes(count)


def _body(random: Random, sound: Sequence[bytes]) -> bytes:
    """A sound file without its checksum."""
    return random.choice(sound)[: -CHECKSUM.size]


DEPTH_ORDER: tuple[DepthName, ...] = ("uint8", "uint16", "float16", "float32")
"""Depths in the order in which headers number them."""

FORGERS: dict[str, Callable[[Random, Sequence[bytes]], bytes]] = {
    "noise": _noise,
    "noise, sealed": _sealed_noise,
    "cut short": _cut,
    "cut short, sealed": _sealed_cut,
    "bits flipped": _flipped,
    "bits flipped, sealed": _sealed_flipped,
    "bytes overwritten, sealed": _overwritten,
    "bytes rearranged, sealed": _rearranged,
    "two files spliced, sealed": _spliced,
    "header forged, sealed": _claims,
    "network forged, sealed": _forged_network,
}
"""Ways of making a file, by name; sealed ones have a right checksum."""
