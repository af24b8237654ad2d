"""The file of a coded image: a versioned header, the network's numbers, a checksum.

Layout, little-endian: `HEADER`; for each layer the exponent of its input (int8); in the quantised mode, for
each tensor (weight and bias of each layer) its step (uint8) and the model of its integers (4 bytes); the
payload; CRC-32 of all before it. In the half-precision mode the payload is the fp16 numbers of all tensors,
high bytes compressed by zlib, low bytes as they are. Numbers of units and layers are bounded from above, and
the length of the payload from below, so that a forged header cannot make a reader take much memory or time.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Int64

from bn_field_plugin.errors import UserError
from standalone.image.codec.entropy import SymbolModel, decode_symbols, encode_symbols, fit_model, geometric
from standalone.image.codec.exact import MAX_INPUTS, CodedLayer, CodedNetwork, CodedTensor
from standalone.image.images import CHANNELS, DEPTHS, INTEGERS, DepthName, ValueRange
from standalone.image.readers.decoded import MAX_PIXELS
from standalone.image.readers.formats import FormatName

MAGIC = b"BNIF"
"""First bytes of every file."""
VERSION = 1
"""Version of the layout."""
HEADER = struct.Struct("<4sBBBBBIIBHBfffI")
"""Magic, version, mode, format, depth and channels of the image, height, width, octaves, width and number of
the hidden layers, low and high end of the values, omega, bytes of the payload."""
CHECKSUM = struct.Struct("<I")
"""CRC-32 of all bytes before the checksum."""

HALF_PRECISION, QUANTISED = 0, 1
"""Modes: fp16 numbers, or integers with a step for each tensor."""

MAX_WIDTH, MAX_DEPTH, MAX_FREQUENCIES = MAX_INPUTS, 64, 32
"""Largest width, number of layers, and number of octaves of a network that can be stored."""
MAX_NUMBERS_PER_BYTE = 64
"""Largest ratio of the network's numbers to the bytes of the payload."""
MAX_NUMBERS = 2**24
"""Largest number of a network's numbers, which bounds the memory and time of reading a small file."""
MAX_PRODUCTS = 2**45
"""Most products that decoding all pixels may take, which is hours of work. Without --patient, far fewer are
allowed (`coding.check_work`)."""
LOWEST_STEP = -24
"""log2 of the first entry in the table of steps."""
HALF_STEP = 2.0**-24
"""The smallest fp16 number: all others are whole multiples of it."""

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
DEPTH_NAMES: tuple[DepthName, ...] = get_args(DepthName)


@dataclass(frozen=True)
class CodedImage:
    """An image as a network in whole numbers."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    channels: int
    """Values of a pixel."""
    format: FormatName
    """Format of the file from which the image came."""
    depth: DepthName
    """Type of the image's values."""
    value_range: ValueRange
    """The values for which the network's outputs -1 and 1 stand."""
    network: CodedNetwork
    """The network, which gives outputs at coordinates."""
    mode: int = QUANTISED
    """How the network's numbers are stored."""


def step_of(index: int) -> float:
    """Entry of the table of steps: 2^(-24 + index/8)."""
    return geometric(index, LOWEST_STEP)


def step_index(step: float) -> int:
    """Index of the largest step in the table that is at most `step`; 0 if `step` is below all of them."""
    index = math.floor(8 * (math.log2(max(step, 2.0**LOWEST_STEP)) - LOWEST_STEP) + 1e-9)
    return min(max(index, 0), 255)


def pack(image: CodedImage) -> bytes:
    """The file's bytes.

    Raises:
        UserError: the network is beyond the format's bounds.
    """
    network = image.network
    hidden = network.layers[:-1]
    width = hidden[0].weight.integers.shape[0]
    if width > MAX_WIDTH or len(hidden) > MAX_DEPTH or network.frequencies > MAX_FREQUENCIES:
        raise UserError(
            f"the file format takes at most {MAX_WIDTH} units, {MAX_DEPTH} hidden layers and "
            f"{MAX_FREQUENCIES} octaves: choose a smaller network"
        )
    tensors = [tensor for layer in network.layers for tensor in (layer.weight, layer.bias)]
    count = sum(tensor.integers.size for tensor in tensors)
    if count > MAX_NUMBERS or count * image.height * image.width > MAX_PRODUCTS:
        raise UserError(
            "the network is too large for an image of this size: choose a smaller one, or cut tiles"
        )
    exponents = struct.pack(f"<{len(network.layers)}b", *(layer.exponent for layer in network.layers))
    models = b""
    if image.mode == HALF_PRECISION:
        payload = _pack_halves(tensors)
    else:
        coded = [(t.integers.reshape(-1), fit_model(t.integers)) for t in tensors]
        models = b"".join(
            bytes([step_index(t.step)]) + model.pack() for t, (_, model) in zip(tensors, coded, strict=True)
        )
        payload = encode_symbols(coded)
        # Pad the payload to the length that readers require. Only a network with hardly anything but zeros is
        # so short.
        payload += bytes(max(0, 4 * -(-count // (4 * MAX_NUMBERS_PER_BYTE)) - len(payload)))
    header = HEADER.pack(
        MAGIC,
        VERSION,
        image.mode,
        FORMATS.index(image.format),
        DEPTH_NAMES.index(image.depth),
        image.channels,
        image.height,
        image.width,
        network.frequencies,
        width,
        len(hidden),
        image.value_range.low,
        image.value_range.high,
        network.omega,
        len(payload),
    )
    data = header + exponents + models + payload
    return data + CHECKSUM.pack(zlib.crc32(data))


def unpack(data: bytes) -> CodedImage:
    """Read a file's bytes.

    Raises:
        UserError: with the end of a sentence that begins with the file's name.
    """
    if not data.startswith(MAGIC):
        raise UserError("is no encoded image: give a file that `bn-image encode` wrote")
    if len(data) > len(MAGIC) and data[len(MAGIC)] > VERSION:
        raise UserError(f"is of the newer version {data[len(MAGIC)]}: update this package")
    if len(data) < HEADER.size + CHECKSUM.size:
        raise UserError("is cut short: copy it anew")
    (checksum,) = CHECKSUM.unpack(data[-CHECKSUM.size :])
    if zlib.crc32(data[: -CHECKSUM.size]) != checksum:
        raise UserError("is damaged (its checksum is wrong): copy it anew")
    try:
        return _unpack_checked(data[: -CHECKSUM.size])
    except UserError as error:
        raise UserError(f"{error}: it was not written by `bn-image encode`") from error


def _unpack_checked(data: bytes) -> CodedImage:
    _, version, mode, kind, depth, channels, height, width, octaves, units, hidden, low, high, omega, size = (
        HEADER.unpack_from(data)
    )
    sound = (
        version >= 1
        and mode in (HALF_PRECISION, QUANTISED)
        and kind < len(FORMATS)
        and depth < len(DEPTH_NAMES)
        and DEPTH_NAMES[depth] in DEPTHS[FORMATS[kind]]
        and channels in CHANNELS[FORMATS[kind]]
        and octaves <= MAX_FREQUENCIES
        and 1 <= units <= MAX_WIDTH
        and 1 <= hidden <= MAX_DEPTH
        and all(math.isfinite(x) for x in (low, high, omega))
        and low < high
        and 0 <= omega <= 1e4
    )
    if not sound or not _holds(DEPTH_NAMES[depth], low, high):
        raise UserError("has an impossible header")
    if not (height >= 1 and width >= 1 and height * width <= MAX_PIXELS):
        raise UserError(f"claims an image of {width} x {height} pixels")
    inputs = 2 * (1 + 2 * octaves)
    sizes = [inputs] + [units] * hidden + [channels]
    shapes: list[tuple[int, ...]] = [shape for d, c in itertools.pairwise(sizes) for shape in ((c, d), (c,))]
    count = sum(math.prod(shape) for shape in shapes)
    if count > min(size * MAX_NUMBERS_PER_BYTE, MAX_NUMBERS):
        raise UserError("claims more numbers than it can hold")
    if count * height * width > MAX_PRODUCTS:
        raise UserError("claims more work than any file that is written")
    at = HEADER.size + hidden + 1
    described = 5 * len(shapes) if mode == QUANTISED else 0
    if len(data) != at + described + size:
        raise UserError("has another length than it claims")
    exponents = struct.unpack_from(f"<{hidden + 1}b", data, HEADER.size)
    payload = data[at + described :]
    if mode == HALF_PRECISION:
        tensors = _unpack_halves(payload, shapes)
    else:
        tensors = _unpack_quantised(data[at : at + described], payload, shapes)
    layers = tuple(
        CodedLayer(tensors[2 * index], tensors[2 * index + 1], exponent)
        for index, exponent in enumerate(exponents)
    )
    network = CodedNetwork(octaves, omega, layers)
    values = ValueRange(low, high)
    return CodedImage(height, width, channels, FORMATS[kind], DEPTH_NAMES[depth], values, network, mode)


def _holds(depth: DepthName, low: float, high: float) -> bool:
    """Whether values of a type reach from low to high."""
    limits = np.iinfo(depth) if depth in INTEGERS else np.finfo(depth)
    return bool(limits.min <= low and high <= limits.max)


def _unpack_quantised(described: bytes, payload: bytes, shapes: list[tuple[int, ...]]) -> list[CodedTensor]:
    steps = [step_of(described[5 * k]) for k in range(len(shapes))]
    models = [SymbolModel.unpack(described[5 * k + 1 : 5 * k + 5]) for k in range(len(shapes))]
    wanted = [(math.prod(shape), model) for shape, model in zip(shapes, models, strict=True)]
    found = decode_symbols(payload, wanted)
    return [
        CodedTensor(integers.reshape(shape), step)
        for integers, shape, step in zip(found, shapes, steps, strict=True)
    ]


def _pack_halves(tensors: list[CodedTensor]) -> bytes:
    halves: np.ndarray = np.concatenate([t.values.reshape(-1) for t in tensors]).astype("<f2")
    planes = halves.view(np.uint8).reshape(-1, 2)
    high = zlib.compress(planes[:, 1].tobytes(), 9)
    return CHECKSUM.pack(len(high)) + high + planes[:, 0].tobytes()


def _unpack_halves(payload: bytes, shapes: list[tuple[int, ...]]) -> list[CodedTensor]:
    count = sum(math.prod(shape) for shape in shapes)
    if len(payload) < CHECKSUM.size + count:
        raise UserError("is cut short")
    (size,) = CHECKSUM.unpack_from(payload)
    if len(payload) != CHECKSUM.size + size + count:
        raise UserError("has another length than it claims")
    inflater = zlib.decompressobj()
    try:
        high = inflater.decompress(payload[CHECKSUM.size : CHECKSUM.size + size], count + 1)
    except zlib.error as error:
        raise UserError("holds numbers that cannot be decoded") from error
    if len(high) != count:
        raise UserError("holds another count of numbers than it claims")
    planes = np.empty((count, 2), np.uint8)
    planes[:, 0] = np.frombuffer(payload[-count:], np.uint8)
    planes[:, 1] = np.frombuffer(high, np.uint8)
    halves = planes.reshape(-1).view("<f2")
    if not np.isfinite(halves).all():
        raise UserError("holds numbers that are not finite")
    integers = half_integers(halves)
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [
        CodedTensor(integers[end - math.prod(shape) : end].reshape(shape), HALF_STEP)
        for shape, end in zip(shapes, ends, strict=True)
    ]


def half_integers(halves: np.ndarray) -> Int64[np.ndarray, "..."]:
    """fp16 numbers as whole multiples of `HALF_STEP`, exactly."""
    return (halves.astype(np.float64) / HALF_STEP).astype(np.int64)
