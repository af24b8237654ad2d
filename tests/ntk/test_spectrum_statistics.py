from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bn_field_plugin.ntk.spectrum_statistics import log_histogram, statistics_of
from standalone.ntk.studies.common import geometric_interval, interval

SPECTRA = arrays(np.float64, st.integers(2, 40), elements=st.floats(1e-3, 1e3))


def test_equal_eigenvalues() -> None:
    found = statistics_of(np.full(20, 3.0))
    assert (found.mean, found.variance, found.maximum) == (3, 0, 3)
    assert found.top_share == pytest.approx(1 / 20)
    assert found.effective_rank == pytest.approx(20)
    assert (found.condition, found.median_to_mean, found.resolved) == (1, 1, 1)
    assert found.tail_share == pytest.approx(0.9)


def test_one_eigenvalue_alone() -> None:
    found = statistics_of(np.array([0.0] * 9 + [5.0]))
    assert found.effective_rank == pytest.approx(1)
    assert (found.top_share, found.median_to_mean, found.tail_share) == (1, 0, 0)
    assert found.condition == float("inf") and found.resolved == pytest.approx(0.1)


def test_nothing_at_all() -> None:
    found = statistics_of(np.zeros(4))
    assert found.mean == found.maximum == found.resolved == 0


@given(SPECTRA, st.floats(1e-3, 1e3))
def test_ratios_do_not_depend_on_scale_or_order(values: np.ndarray, scale: float) -> None:
    ours, theirs = statistics_of(values), statistics_of(values[::-1] * scale)
    for name in ("top_share", "effective_rank", "condition", "median_to_mean", "tail_share", "resolved"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name))
    assert theirs.mean == pytest.approx(scale * ours.mean)
    assert 1 - 1e-9 <= ours.effective_rank <= len(values) + 1e-9
    assert 1 / len(values) - 1e-9 <= ours.top_share <= 1


@given(SPECTRA)
def test_a_histogram_counts_every_eigenvalue(values: np.ndarray) -> None:
    found = log_histogram(values)
    assert found.counts.sum() + found.below == len(values)
    narrow = log_histogram(values, low=float(np.median(values)), high=float(values.max()))
    assert narrow.counts.sum() + narrow.below == len(values)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    found = [interval(generator.normal(2, 3, 5).tolist()) for _ in range(2000)]
    assert np.mean([one.low <= 2 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)
    assert interval([4.0]) == interval([4.0, 4.0])
    assert geometric_interval([1.0, 4.0]).mean == pytest.approx(2)
