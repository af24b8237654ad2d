"""Spectra on pages: only rounding errors are left out, and shares are of the whole trace."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from standalone.ntk.spectrum_plots import ShownSpectrum, by_rank, histograms, spectrum_plots

eigenvalues = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


@given(eigenvalues, st.integers(0, 3))
def test_each_eigenvalue_but_rounding_is_shown_by_its_rank(values: list[float], zeros: int) -> None:
    spectrum = np.array([*values, *[0.0] * zeros])
    line = by_rank(ShownSpectrum("", [spectrum], "#000000"))
    assert list(line.y) == sorted(values, reverse=True)
    assert list(line.x) == list(range(1, len(values) + 1))
    assert line.more is not None
    np.testing.assert_allclose(np.asarray(line.more) * sum(values), line.y)


@given(eigenvalues, eigenvalues)
def test_histograms_count_each_eigenvalue_in_bins_that_all_share(
    one: list[float], other: list[float]
) -> None:
    shown = [ShownSpectrum("", [np.array(values)], "#000000") for values in (one, other)]
    lines = histograms(shown)
    assert [np.nansum(line.y) for line in lines] == [len(one), len(other)]
    steps = np.log10(np.concatenate([np.asarray(line.x) for line in lines])) * 4
    np.testing.assert_allclose(steps - 0.5, np.round(steps - 0.5), atol=1e-6)  # four bins to a factor of ten


def test_several_seeds_are_one_line_and_no_spectrum_is_an_empty_panel() -> None:
    spectra = [np.array([4.0, 1.0]), np.array([2.0, 3.0])]
    assert list(by_rank(ShownSpectrum("", spectra, "#000000")).y) == [3.5, 1.5]
    plots = spectrum_plots({"a": [ShownSpectrum("name", spectra, "#000000")], "nothing": []})
    assert [len(plot.figure.data) for plot in plots] == [1, 1]
    assert [annotation.text for annotation in plots[0].figure.layout.annotations] == ["a", "nothing"]
