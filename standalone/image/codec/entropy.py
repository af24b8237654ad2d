"""Entropy coding of a network's integers: a range coder with a heavy-tailed model for each tensor.

Encoder and decoder must agree on every probability to the last bit. The models are therefore made of
operations that every machine rounds alike (no exponential, no error function), and become whole numbers
before they reach the coder.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from bn_field_plugin.errors import UserError

EIGHTHS = (
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)
"""2^(k/8)."""

LARGEST = 2**15 - 1
"""Largest absolute value of an integer that can be coded."""

NUM_SHAPES = 6
"""Number of shapes of a model's tails: shape k is Student's t with 2^(k+1) - 1 degrees of freedom, from
Cauchy's distribution to nearly Gauss's."""

TOTAL = 2.0**24
"""Weight of the likeliest integer, where the least likely ones have weight 1."""


def geometric(index: int, lowest: int) -> float:
    """Entry of a table of numbers that grow by 2^(1/8), exactly the same everywhere: 2^(lowest + index/8)."""
    return EIGHTHS[index % 8] * 2.0 ** (index // 8 + lowest)


@dataclass(frozen=True)
class SymbolModel:
    """Probabilities of the integers from -largest to largest."""

    largest: int
    """Largest absolute value; 0 means that all integers are zero and nothing is coded."""
    shape: int = 0
    """Number of the shape of the tails, below `NUM_SHAPES`."""
    scale: int = 0
    """Width of the peak, as an index into `geometric`."""

    LAYOUT = struct.Struct("<HBB")
    """Layout of a stored model: `largest`, `shape`, `scale`."""

    def pack(self) -> bytes:
        """The model in 4 bytes."""
        return self.LAYOUT.pack(self.largest, self.shape, self.scale)

    @classmethod
    def unpack(cls, data: bytes) -> SymbolModel:
        """Read `pack`'s bytes.

        Raises:
            UserError: a number is out of its range.
        """
        model = cls(*cls.LAYOUT.unpack(data))
        if model.largest > LARGEST or model.shape >= NUM_SHAPES:
            raise UserError("holds an unknown model of its numbers")
        return model

    def weights(self) -> Int64[np.ndarray, " symbols"]:
        """Weights of the integers, at least 1."""
        values = np.arange(-self.largest, self.largest + 1, dtype=np.float64)
        ratio = values / geometric(self.scale, -4)
        density = 1.0 + ratio * ratio / float(2 ** (self.shape + 1) - 1)
        with np.errstate(over="ignore"):  # overflows far in the tail of a narrow peak, where the weight is 1
            for _ in range(self.shape):
                density = density * density
        weights: np.ndarray = np.rint(TOTAL / density).astype(np.int64) + 1
        return weights

    def probabilities(self) -> Float64[np.ndarray, " symbols"]:
        """Probabilities of the integers."""
        weights = self.weights()
        return weights.astype(np.float64) / float(weights.sum())

    def bits(self, integers: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, " n"]) -> float:
        """Bits that integers take, each of them occurring `counts` times."""
        if self.largest == 0:
            return 0.0
        probabilities = self.probabilities()
        return float(-(counts * np.log2(probabilities[integers + self.largest])).sum())


def fit_model(integers: Int64[np.ndarray, "..."]) -> SymbolModel:
    """The model under which the integers take the fewest bits.

    Raises:
        UserError: an integer above `LARGEST`.
    """
    flat = integers.reshape(-1)
    largest = int(np.abs(flat).max(initial=0))
    if largest > LARGEST:
        raise UserError("the weights span too wide a range for these few bits: use --precision fp16")
    if largest == 0:
        return SymbolModel(0)
    sizes = np.abs(flat).astype(np.float64)
    low, high = float(np.median(sizes)), float(np.sqrt(np.square(sizes).mean()))
    first, last = (round(8 * (np.log2(max(spread, 0.125)) + 4)) for spread in (low, high))
    values, counts = np.unique(flat, return_counts=True)

    def best(shapes: Iterable[int], scales: Iterable[int]) -> SymbolModel:
        models = [SymbolModel(largest, k, i) for k in shapes for i in scales if 0 <= i < 256]
        return min(models, key=lambda model: model.bits(values, counts))

    rough = best(range(NUM_SHAPES), range(first - 16, last + 10, 5))
    return best([rough.shape], range(rough.scale - 4, rough.scale + 5))


def encode_symbols(tensors: list[tuple[Int64[np.ndarray, " n"], SymbolModel]]) -> bytes:
    """Code integers, tensor by tensor, each with its model."""
    import constriction

    encoder = constriction.stream.queue.RangeEncoder()
    for integers, model in tensors:
        if model.largest > 0 and integers.size > 0:
            encoder.encode((integers + model.largest).astype(np.int32), _categorical(model))
    words: np.ndarray = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def decode_symbols(data: bytes, tensors: list[tuple[int, SymbolModel]]) -> list[Int64[np.ndarray, " n"]]:
    """Decode the integers of tensors of given sizes and models.

    Raises:
        UserError: no encoder can have made the data.
    """
    import constriction

    if len(data) % 4:
        raise UserError("is cut short")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    found = []
    try:
        for count, model in tensors:
            if model.largest == 0 or count == 0:
                found.append(np.zeros(count, np.int64))
            else:
                symbols = decoder.decode(_categorical(model), count)
                found.append(np.asarray(symbols, np.int64) - model.largest)
    except (AssertionError, ValueError) as error:
        raise UserError("holds numbers that cannot be decoded") from error
    return found


def _categorical(model: SymbolModel) -> object:
    import constriction

    return constriction.stream.model.Categorical(model.probabilities(), perfect=False)
