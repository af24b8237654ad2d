"""Budgets: minutes become steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.sweep import budget
from standalone.sweep.budget import MARGIN, Pace, measured_pace, pace_of
from standalone.sweep.nerfstudio_commands import Cost, TrainedRun
from standalone.sweep.runs import Method, Run
from standalone.sweep.scenes import Scene


@given(st.floats(0, 60), st.floats(1e-3, 5), st.floats(60, 3600))
def test_the_pace_of_a_steady_method_is_found(startup: float, per_step: float, seconds: float) -> None:
    pace = measured_pace(lambda steps: startup + steps * per_step, seconds)
    assert pace.per_step == pytest.approx(per_step, rel=1e-6)
    assert pace.startup == pytest.approx(startup, rel=1e-6, abs=1e-6)


@given(st.floats(0, 20), st.floats(1e-3, 1), st.floats(60, 3600))
def test_as_many_steps_as_fit(startup: float, per_step: float, seconds: float) -> None:
    steps = Pace(startup, per_step).steps(seconds)
    assert startup + steps * per_step <= MARGIN * seconds + 1e-6
    assert startup + (steps + 1) * per_step > MARGIN * seconds - 1e-6


def test_pilots_grow_until_they_outlast_the_start() -> None:
    asked = []

    def seconds_of(steps: int) -> float:
        asked.append(steps)
        return 10 + 0.01 * steps

    measured_pace(seconds_of, 100)
    assert asked == [20, 80, 320, 1280, 1280 + 2500], "the last one takes 25 s longer, not 38"
    asked.clear()
    measured_pace(seconds_of, 1)
    assert asked == [20, 80]


def test_first_steps_that_cost_more_are_part_of_the_start() -> None:
    def seconds_of(steps: int) -> float:
        return 10 + 0.05 * steps + 0.2 * min(steps, 50)

    pace = measured_pace(seconds_of, 100)
    assert (pace.startup, pace.per_step) == pytest.approx((20, 0.05))
    assert seconds_of(pace.steps(100)) == pytest.approx(MARGIN * 100, abs=0.06)


def test_too_little_time_is_told() -> None:
    with pytest.raises(UserError, match="raise --minutes"):
        Pace(30, 1).steps(20)


def test_pilots_are_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def train(method: str, data: object, output_dir: Path, *, steps: int, **_: object) -> TrainedRun:
        output_dir.mkdir(parents=True)
        asked.append(steps)
        return TrainedRun(output_dir, Cost(5 + 0.1 * steps, 2**30))

    monkeypatch.setattr(budget, "train", train)
    run = Run(Scene("demo", ("bn-demo-data",)), Method("bn", "bn-nerf-small"), 0, 0)
    first, again = (pace_of(run, 60, tmp_path) for _ in range(2))
    assert first == again
    assert first.per_step == pytest.approx(0.1)
    assert asked == [20, 80, 230]
