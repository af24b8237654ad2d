"""The panel uses its share of training time and no more, whatever its work costs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin.viewer.budget import TimeBudget


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def do(budget: TimeBudget, clock: Clock, steps: list[float], costs: list[float]) -> list[float]:
    """Train steps of given durations; returns the clock at each look."""
    looks = []
    for index, step in enumerate(steps):
        clock.now += step
        if budget.is_due():
            looks.append(clock.now)
            with budget.spending():
                clock.now += costs[index % len(costs)]
    return looks


durations = st.floats(1e-3, 5.0)


@given(
    st.floats(0.001, 0.5),
    st.lists(durations, min_size=1, max_size=200),
    st.lists(durations, min_size=1, max_size=20),
)
def test_no_more_than_the_share_is_spent(share: float, steps: list[float], costs: list[float]) -> None:
    """A look is due once training has paid for all looks before it, and for it at the last one's price.

    So the panel never owes more than what a look costs above the last one.
    """
    clock = Clock()
    budget = TimeBudget(share, shortest=0.0, clock=clock)
    price = 0.0
    for index, step in enumerate(steps):
        clock.now += step
        if budget.is_due():
            assert budget.spent + price <= share * budget.elapsed + 1e-9
            price = costs[index % len(costs)]
            with budget.spending():
                clock.now += price
    assert budget.elapsed == pytest.approx(sum(steps))
    assert budget.spent <= share * budget.elapsed + max(costs) + 1e-9


@given(st.floats(0.01, 0.5), st.floats(0.01, 2.0), st.floats(0.001, 0.5))
def test_the_share_is_used(share: float, cost: float, step: float) -> None:
    """With constant costs there is one look for each cost / share of training time, rounded up to steps.

    Training pays for the first look afterwards and for the second one beforehand, so there is one look less.
    """
    clock = Clock()
    budget = TimeBudget(share, shortest=0.0, clock=clock)
    looks = do(budget, clock, [step] * 3000, [cost])
    total = 3000 * step
    assert budget.spent <= max(share * total, cost) + 1e-9
    assert len(looks) >= int(total / (cost / share + step))


def test_it_is_due_at_once_then_when_the_time_has_paid_for_it() -> None:
    clock = Clock()
    budget = TimeBudget(0.02, clock=clock)
    looks = do(budget, clock, [1.0] * 160, [1.0])
    assert looks == [
        101.0,
        202.0,
        253.0,
    ]  # 1 s of looking for each 50 s of training


def test_costlier_looks_come_less_often() -> None:
    counts = []
    for cost in (0.1, 0.4, 1.6):
        clock = Clock()
        counts.append(len(do(TimeBudget(0.02, clock=clock), clock, [0.1] * 5000, [cost])))
    assert counts[0] > 3 * counts[1] > 9 * counts[2] > 0


def test_a_pause_brings_no_burst() -> None:
    """The time of a pause pays for a single look, though it would be enough for hundreds."""
    clock = Clock()
    budget = TimeBudget(0.02, clock=clock)
    do(budget, clock, [1.0] * 60, [1.0])
    clock.now += 100_000
    assert len(do(budget, clock, [1.0] * 40, [1.0])) == 1


def test_looks_are_a_while_apart_even_where_they_cost_nothing() -> None:
    clock = Clock()
    looks = do(TimeBudget(0.5, shortest=0.5, clock=clock), clock, [0.01] * 500, [0.0])
    assert min(b - a for a, b in itertools.pairwise(looks)) >= 0.5
    assert len(looks) >= 9


def test_no_share_means_never() -> None:
    clock = Clock()
    assert do(TimeBudget(0.0, clock=clock), clock, [1.0] * 100, [1.0]) == []


def test_a_look_that_fails_is_paid_for_too() -> None:
    clock = Clock()
    budget = TimeBudget(0.1, clock=clock)
    assert budget.is_due()

    def fail() -> None:
        with budget.spending():
            clock.now += 3.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert budget.spent == pytest.approx(3.0)
    clock.now += 29.0
    assert not budget.is_due()
