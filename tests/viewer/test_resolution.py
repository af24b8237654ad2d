"""Sizes of pictures: fast enough, readable, never above the limit, and the largest at the end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.viewer.resolution import (
    LEAST,
    MOVING_SECONDS,
    NOTHING,
    READABLE,
    READABLE_SECONDS,
    RESTING_SECONDS,
    TILE_SECONDS,
    Speed,
    after,
    holding,
    is_at_once,
    largest,
    moving,
    resting,
)
from bn_field_plugin.viewer.tiles import Size

ASPECTS, MAX_RES = st.floats(0.2, 5), st.integers(1, 2048)
SECONDS_A_RAY = st.floats(1e-8, 1e-2)


def speed_of(clock: float, threads: float = 1.0) -> Speed:
    speed = Speed()
    for first in (100, 1):  # the first tile takes longer, and does not count
        assert speed.is_unknown
        speed.note(1000, first * 1000 * clock, first * 1000 * clock * threads)
    assert not speed.is_unknown
    assert speed.clock == pytest.approx(clock)
    return speed


@given(ASPECTS, MAX_RES)
def test_the_largest_has_the_aspect_and_the_longer_side(aspect: float, max_res: int) -> None:
    size = largest(aspect, max_res)
    assert max(size.height, size.width) == max_res
    assert abs(size.width - size.height * aspect) < max(1, aspect) + 1e-6 or min(size.height, size.width) == 1


@given(ASPECTS, MAX_RES, st.floats(0, 1e7))
def test_sizes_hold_the_rays_asked_for_unless_unreadable_or_too_large(
    aspect: float, max_res: int, rays: float
) -> None:
    most = largest(aspect, max_res)
    size = holding(rays, most)
    assert 1 <= size.width <= most.width and 1 <= size.height <= most.height
    assert size.width >= min(READABLE, most.width) - 1
    if size.width > READABLE:
        assert size.rays <= 1.05 * rays + size.height  # the width is rounded up


@given(SECONDS_A_RAY, ASPECTS, st.integers(64, 2048))
def test_moving_is_readable_and_fast_or_at_least_fast(clock: float, aspect: float, max_res: int) -> None:
    most = largest(aspect, max_res)
    size = moving(speed_of(clock), most)
    seconds = size.rays * clock
    if min(READABLE, most.width) < size.width:
        assert seconds <= 1.3 * MOVING_SECONDS
    elif size.width > LEAST:
        assert seconds <= 1.3 * READABLE_SECONDS


@given(SECONDS_A_RAY, st.floats(0.5, 16), ASPECTS, st.integers(64, 2048))
def test_a_view_gets_sharper_picture_by_picture_up_to_the_largest(
    clock: float, threads: float, aspect: float, max_res: int
) -> None:
    speed, most = speed_of(clock, threads), largest(aspect, max_res)
    shown, sizes = NOTHING, []
    while (size := after(shown, speed, most)) is not None:
        sizes.append(size)
        shown = size
        assert len(sizes) <= 2
    assert sizes[-1] == most
    assert all(before.rays < later.rays for before, later in pairwise(sizes))
    for size in sizes[:-1]:  # these come within the promised seconds
        if size.width > READABLE:
            assert size.rays * max(clock, clock * threads) <= 1.3 * RESTING_SECONDS


def test_while_training_pays_a_view_goes_no_further_than_that() -> None:
    speed, most = speed_of(1e-4), Size(400, 512)
    first = after(NOTHING, speed, most, clock=1.5)
    assert first is not None and not is_at_once(first, speed)
    assert first.rays * 1e-4 == pytest.approx(1.5, rel=0.1)
    assert after(first, speed, most, clock=1.5) is None
    assert resting(speed, most, clock=1.5) == first
    assert after(first, speed, most, clock=math.inf) == most


def test_fast_methods_need_no_smaller_picture_of_a_move() -> None:
    most = Size(400, 512)
    assert is_at_once(resting(speed_of(1e-6), most), speed_of(1e-6))
    assert not is_at_once(resting(speed_of(1e-5), most), speed_of(1e-5))


def test_a_tile_takes_its_time_once_speed_is_known() -> None:
    speed = speed_of(1e-3)
    for _ in range(50):
        speed.note(speed.tile_rays(), speed.tile_rays() * 3e-6, 0.0)
    assert speed.tile_rays() * 3e-6 == pytest.approx(TILE_SECONDS, rel=0.01)
    assert speed.tile_rays(together=100) == 100
    assert speed.work == speed.clock  # a GPU's work shows on no CPU clock
    speed.note(10, 1e9, 0.0)
    assert speed.tile_rays() == 1
    assert speed.tile_rays(together=100) == 1  # small, because training waits
