"""A bound on the share of training time that looking at training may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeBudget:
    """Tells when an action may be done again without taking more than a share of the time.

    Time is saved at the rate `share` while the action is not done. The action is due when the seconds that it
    took the last time have been saved; only the first time, when nobody knows its cost, it needs no savings.
    No more than the cost of one action is saved, so a pause does not lead to a burst of actions.

    Args:
        share: seconds of the action for each second without it, in [0, 1); 0 means never.
        shortest: least seconds from the end of one action to the next.
        clock: function that tells the time in seconds.
    """

    def __init__(
        self, share: float, shortest: float = 0.5, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.share, self.shortest, self._clock = share, shortest, clock
        self.spent = 0.0
        """Seconds that the action has taken so far."""
        self.elapsed = 0.0
        """Seconds without the action so far."""
        self.times = 0
        """How often the action was done."""
        self._saved = self._price = 0.0
        self._last = self._done = clock()

    def is_due(self) -> bool:
        """Whether the action may be done now; adds the time since the last call or action to the savings."""
        now = self._clock()
        passed, self._last = now - self._last, now
        self.elapsed += passed
        self._saved = min(self._saved + self.share * passed, self._price)
        rested = self.times == 0 or now - self._done >= self.shortest
        return self.share > 0 and rested and self._saved >= self._price

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Time the body as the action, and take its seconds off the savings."""
        start = self._clock()
        try:
            yield
        finally:
            now = self._clock()
            self._price = now - start
            self._saved -= self._price
            self.spent += self._price
            self.times += 1
            self._last = self._done = now
