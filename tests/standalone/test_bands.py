"""Errors by frequency band: energy is kept, and pure waves fall into their bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone.bands import EDGES, NAMES, band_energies, band_errors
from tests.standalone.image.pictures import picture


@given(height=st.integers(1, 20), width=st.integers(1, 20), channels=st.integers(1, 4))
def test_the_bands_hold_the_sum_of_squares(height: int, width: int, channels: int) -> None:
    image = picture(height, width, channels, "float32").pixels
    assert band_energies(image).sum() == pytest.approx(np.square(image.astype(np.float64)).sum())


@pytest.mark.parametrize("band", range(len(NAMES)))
def test_a_wave_falls_into_its_band(band: int) -> None:
    size = 256
    middle = (EDGES[band] + min(EDGES[band + 1], 0.5)) / 2
    index = round(middle * 2 * size)
    wave = np.cos(np.pi * index * (np.arange(size) + 0.5) / size)
    image = np.broadcast_to(wave[None, :, None], (size, size, 1))
    energies = band_energies(image)
    assert energies[band] == pytest.approx(energies.sum())


def test_errors_are_relative() -> None:
    truth = picture().pixels.astype(np.float64)
    assert band_errors(truth, truth) == pytest.approx(dict.fromkeys(band_errors(truth, truth), 0.0))
    errors = band_errors(truth, np.zeros_like(truth))
    assert errors == pytest.approx(dict.fromkeys(errors, 1.0))
