"""Time limits: shares and reserves of one clock, which starts with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standalone import time_limit
from standalone.options import RunOptions
from standalone.time_limit import TimeLimit, command_begins, seconds_of_command


def at(now: float, end: float) -> TimeLimit:
    return TimeLimit(end, lambda: now)


@given(now=st.floats(0, 50), end=st.floats(50, 100), parts=st.integers(1, 8))
def test_equal_shares_of_what_is_left_fill_it(now: float, end: float, parts: int) -> None:
    clock = [now]
    limit = TimeLimit(end, lambda: clock[0])
    ends = []
    for index in range(parts):
        ends.append(limit.share(1 / (parts - index)).end)
        clock[0] = ends[-1]
    assert ends == pytest.approx([now + (end - now) * (k + 1) / parts for k in range(parts)])


def test_a_reserve_is_taken_from_the_end() -> None:
    limit = at(10, 60).reserving(5).reserving(7)
    assert limit.left == 38
    assert at(70, 60).share(0.5).end == 70, "nothing is left to share"


def test_a_command_line_has_its_limit_from_the_start_of_the_command() -> None:
    command_begins(with_process=False)
    limit = RunOptions(time_limit=30.0).limit()
    assert limit is not None
    assert limit.end == 30.0 - time_limit.ENDING_SECONDS
    assert limit.clock is seconds_of_command
    assert RunOptions(steps=3).limit() is None


@pytest.mark.slow
def test_the_start_of_the_process_counts_where_the_system_tells_it() -> None:
    code = (
        "import time; time.sleep(0.3); from standalone.time_limit import *; command_begins(True); "
        "print(seconds_of_command())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) >= (0.3 if sys.platform.startswith("linux") else 0.0)
