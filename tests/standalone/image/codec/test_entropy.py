"""The range coder and its models: integers survive, in about as many bits as their spread needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.image.codec.entropy import (
    EIGHTHS,
    LARGEST,
    NUM_SHAPES,
    SymbolModel,
    decode_symbols,
    encode_symbols,
    fit_model,
    geometric,
)

INTEGERS = st.lists(st.integers(-300, 300) | st.integers(-3, 3), max_size=60)


@given(tensors=st.lists(INTEGERS, min_size=1, max_size=4))
def test_integers_survive(tensors: list[list[int]]) -> None:
    arrays = [np.array(values, np.int64) for values in tensors]
    coded = [(values, fit_model(values)) for values in arrays]
    data = encode_symbols(coded)
    models = [SymbolModel.unpack(model.pack()) for _, model in coded]
    sizes = [(len(values), model) for values, model in zip(arrays, models, strict=True)]
    for found, values in zip(decode_symbols(data, sizes), arrays, strict=True):
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("kind", ["normal", "laplace", "standard_cauchy"])
@pytest.mark.parametrize("spread", [0.7, 20.0, 900.0])
def test_the_size_is_near_the_entropy(kind: str, spread: float) -> None:
    draw = np.random.default_rng(0)
    values = np.rint(spread * getattr(draw, kind)(size=20_000)).clip(-LARGEST, LARGEST).astype(np.int64)
    _, counts = np.unique(values, return_counts=True)
    entropy = -np.sum(counts * np.log2(counts / len(values)))
    bits = 8 * len(encode_symbols([(values, fit_model(values))]))
    assert bits < 1.06 * entropy + 64 + 1.5 * len(counts)


@given(largest=st.integers(1, 3000), shape=st.integers(0, NUM_SHAPES - 1), scale=st.integers(0, 255))
def test_every_model_gives_every_integer_a_chance(largest: int, shape: int, scale: int) -> None:
    probabilities = SymbolModel(largest, shape, scale).probabilities()
    assert len(probabilities) == 2 * largest + 1
    assert (probabilities > 0).all()
    assert probabilities.sum() == pytest.approx(1)
    np.testing.assert_array_equal(probabilities, probabilities[::-1])


def test_the_table_grows_by_eighths_of_an_octave() -> None:
    assert EIGHTHS == pytest.approx([2 ** (k / 8) for k in range(8)], rel=1e-15)
    assert geometric(0, -4) == 2.0**-4
    assert geometric(43, 0) == EIGHTHS[3] * 32


@given(data=st.binary(max_size=64), count=st.integers(0, 200), largest=st.integers(0, 500))
def test_decoding_noise_gives_integers_in_range_or_a_clear_error(
    data: bytes, count: int, largest: int
) -> None:
    try:
        (found,) = decode_symbols(data, [(count, SymbolModel(largest, 2, 60))])
    except UserError:
        return
    assert len(found) == count
    assert np.abs(found).max(initial=0) <= largest


def test_bad_models_are_refused() -> None:
    with pytest.raises(UserError):
        SymbolModel.unpack(SymbolModel.LAYOUT.pack(2**16 - 1, 0, 0))
    with pytest.raises(UserError):
        SymbolModel.unpack(SymbolModel.LAYOUT.pack(1, NUM_SHAPES, 0))
    with pytest.raises(UserError, match="--precision fp16"):
        fit_model(np.array([LARGEST + 1]))


@pytest.mark.filterwarnings("error")
def test_the_far_tail_of_a_narrow_peak_warns_of_nothing() -> None:
    weights = SymbolModel(LARGEST, NUM_SHAPES - 1, 0).weights()
    assert weights[0] == weights[-1] == 1
