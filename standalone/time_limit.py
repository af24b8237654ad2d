"""Time limits of whole commands, from the start of the process to its last file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ENDING_SECONDS = 0.2
"""Seconds that a process takes to end."""

_began: float | None = None
"""Time at which the running command began, by `time.perf_counter`; None if no command was announced."""


def command_begins(with_process: bool) -> None:
    """Note that a command begins.

    Args:
        with_process: whether the process was started for this command, so that the start of Python counts
            too.
    """
    global _began
    _began = time.perf_counter() - (seconds_of_process() if with_process else 0.0)


def seconds_of_command() -> float:
    """Seconds since the running command began, or since the first call if no command was announced."""
    if _began is None:
        command_begins(with_process=False)
    return time.perf_counter() - (_began or 0.0)


def seconds_of_process() -> float:
    """Seconds since this process was started; 0 on systems other than Linux, which are not asked."""
    if not sys.platform.startswith("linux"):
        return 0.0
    try:
        # The time of the start is field 22. The process's name, field 2, may hold blanks and parentheses, so
        # the fields are counted from its end.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError):
        return 0.0


@dataclass(frozen=True)
class TimeLimit:
    """A time by which something must have ended, by a clock that starts with the command."""

    end: float
    """Seconds of the clock by which all must be done."""
    clock: Callable[[], float] = seconds_of_command
    """Function that tells how many seconds have passed."""

    @property
    def left(self) -> float:
        """Seconds that are left; negative after the limit."""
        return self.end - self.clock()

    def reserving(self, seconds: float) -> TimeLimit:
        """An earlier limit, which leaves `seconds` for something that follows."""
        return replace(self, end=self.end - seconds)

    def share(self, part: float) -> TimeLimit:
        """A limit for something that begins now and may take the given part of the time left."""
        now = self.clock()
        return replace(self, end=now + part * max(0.0, self.end - now))


class Timed:
    """A context manager that measures how long its block takes.

    Args:
        clock: function that tells the time in seconds.

    Attributes:
        seconds: duration of the block, once it has ended.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds = 0.0

    def __enter__(self) -> Timed:
        self._start = self._clock()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = self._clock() - self._start
