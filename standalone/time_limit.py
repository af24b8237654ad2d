"""Time limits of whole commands: from the start of the process to its last file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ENDING_SECONDS = 0.2
"""Time that a process takes to end."""

_began: float | None = None
"""When the running command began, by `time.perf_counter`."""


def command_begins(with_process: bool) -> None:
    """Note that a command begins.

    Args:
        with_process: it is what this process was started for, so that the start of Python counts too.
    """
    global _began
    _began = time.perf_counter() - (seconds_of_process() if with_process else 0.0)


def seconds_of_command() -> float:
    """Seconds since the running command began; since the first call where none was announced."""
    if _began is None:
        command_begins(with_process=False)
    return time.perf_counter() - (_began or 0.0)


def seconds_of_process() -> float:
    """Seconds since this process was started; 0 where the system does not tell (only Linux is asked)."""
    if not sys.platform.startswith("linux"):
        return 0.0
    try:
        # The fields after the name, which may itself hold blanks and parentheses; the 22nd of all is wanted.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError):
        return 0.0


@dataclass(frozen=True)
class TimeLimit:
    """When something must have ended, by a clock that begins with the command."""

    end: float
    """Seconds after which all is done."""
    clock: Callable[[], float] = seconds_of_command
    """Seconds that have passed."""

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 where the limit has been passed."""
        return self.end - self.clock()

    def reserving(self, seconds: float) -> TimeLimit:
        """The limit of what comes before something that takes so long."""
        return replace(self, end=self.end - seconds)

    def share(self, part: float) -> TimeLimit:
        """The limit of a part of what is left, beginning now."""
        now = self.clock()
        return replace(self, end=now + part * max(0.0, self.end - now))


class Timed:
    """Measures how long a block takes; a context manager.

    Args:
        clock: what to measure by.

    Attributes:
        seconds: what the block took, once it has ended.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds = 0.0

    def __enter__(self) -> Timed:
        self._start = self._clock()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = self._clock() - self._start
