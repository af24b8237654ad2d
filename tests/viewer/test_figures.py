"""The plots show the numbers that they are given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.viewer import figures
from bn_field_plugin.viewer.history import History


@pytest.mark.parametrize("zeros", [0, 5])
def test_the_histogram_counts_every_eigenvalue_once(zeros: int) -> None:
    values = np.concatenate([10.0 ** np.linspace(3, -4, 40), np.zeros(zeros)])
    figure = figures.histogram({"": values}, "title")
    assert sum(sum(bar.y) for bar in figure.data) == len(values)
    assert sum(figure.data[0].y) == 40
    centers = figure.data[0].x
    assert -4.5 < min(centers) < -3.5 < 2.5 < max(centers) < 3.5
    assert json.loads(figure.to_json())["layout"]["title"]["text"] == "title"


@pytest.mark.parametrize("values", [None, np.zeros(4), np.zeros(0)])
def test_no_eigenvalues_make_an_empty_plot(values: np.ndarray | None) -> None:
    assert len(figures.histogram({"": values}, "title").data) == 0


def test_curves_and_bars() -> None:
    history = History()
    history.add(0, {"a": 1.0})
    assert figures.curves(history, {"a": "A"}, "title", "dB").data[0].mode == "markers"
    history.add(10, {"a": 2.0, "b": 3.0})
    figure = figures.curves(history, {"a": "A", "b": "B"}, "title", "dB", log=True)
    assert [(curve.name, curve.x, curve.y) for curve in figure.data] == [
        ("A", (0, 10), (1.0, 2.0)),
        ("B", (10,), (3.0,)),
    ]
    assert figure.layout.yaxis.type == "log"
    (bar,) = figures.bars({"first": 1.0, "second": 2.0}, "title", "sd").data
    assert (bar.y, bar.x) == (("second", "first"), (2.0, 1.0))  # plotly counts bars from the bottom


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_ticks_hold_all_values_and_are_written_in_full(values: list[float]) -> None:
    ticks = figures.log_ticks(values)
    assert 2 <= len(ticks) <= figures.MOST_TICKS
    assert ticks == sorted(set(ticks))
    assert ticks[0] < min(values) and max(values) < ticks[-1]
    assert all(float(f"{tick:g}") == tick for tick in ticks)


def test_the_logarithmic_axis_says_what_its_ticks_are() -> None:
    """An earlier version wrote 5 and 2 for 0.05 and 0.02."""
    history = History()
    history.add(0, {"a": 0.021})
    history.add(1, {"a": 0.06})
    axis = figures.curves(history, {"a": "A"}, "title", "sd", log=True).layout.yaxis
    assert axis.ticktext == ("0.02", "0.05", "0.1")
    assert axis.tickvals == (0.02, 0.05, 0.1)
    assert 10 ** axis.range[0] < 0.02 < 0.1 < 10 ** axis.range[1]
    assert figures.log_ticks([]) == []
