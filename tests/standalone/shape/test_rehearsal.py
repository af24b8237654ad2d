"""Numbers of samples for measuring within a time limit: as many as fit, but at least a minimum."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone.shape.inputs import load_shape
from standalone.shape.rehearsal import LEAST, MeasuringTimes, rehearse_picture
from standalone.shape.task import MeasureOptions, ShapeNetworkOptions

TIMES = st.builds(MeasuringTimes, *(st.floats(1e-8, 1e-5) for _ in dataclasses.fields(MeasuringTimes)))


@given(times=TIMES, seconds=st.floats(0.0, 1000.0))
def test_what_is_measured_fits_the_time_and_is_never_more_than_asked(
    times: MeasuringTimes, seconds: float
) -> None:
    asked = MeasureOptions()
    found = times.within(asked, seconds)
    assert times.seconds(found) <= max(seconds, times.seconds(asked) * 1e-12) + times.seconds(LEAST)
    for one in dataclasses.fields(asked):
        least, most = getattr(LEAST, one.name), getattr(asked, one.name)
        assert least <= getattr(found, one.name) <= most
    if times.seconds(asked) <= seconds:
        assert found == asked


@given(times=TIMES)
def test_what_is_asked_for_below_the_least_is_kept(times: MeasuringTimes) -> None:
    asked = MeasureOptions(resolution=16, iou_points=100, iou_grid=8, surface_points=50)
    assert times.within(asked, 0.0) == asked


@pytest.mark.slow
def test_a_shapes_own_times_are_found_and_leave_the_network_alone() -> None:
    shape = load_shape(None)
    network = ShapeNetworkOptions(width=8, depth=2).build(3, 1, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    times = MeasuringTimes.of(shape, network, points=256)
    assert all(value > 0 for value in dataclasses.astuple(times))
    assert rehearse_picture(shape, panels=3, size=32) > 0
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert network.training


def test_shares_of_cubes_shrink_alike() -> None:
    times = MeasuringTimes(network=1e-6, solid=1e-6, marching=1e-6, distances=1e-6, statistics=1.0)
    asked = MeasureOptions(resolution=200, iou_points=10**6, iou_grid=100, surface_points=10**6)
    found = times.within(asked, times.seconds(asked) / 8)
    assert found.resolution == pytest.approx(100, abs=1)
    assert found.iou_points == pytest.approx(10**6 / 8, abs=1)
    assert found.iou_grid == pytest.approx(50, abs=1)
