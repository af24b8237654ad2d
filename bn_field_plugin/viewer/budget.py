"""A share of training time for looking at training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeBudget:
    """Tells when something may be done again without taking more than a share of the time.

    The time beside it pays for it at the rate `share`, in advance: it is due when its price, what it cost the
    last time, has been saved. Only the first, whose price nobody knows, is on credit. No more than one price
    is saved, so a pause of training brings no burst.

    Args:
        share: of the time beside it, in [0, 1); 0 means never.
        shortest: seconds from one time to the next, at least.
        clock: seconds.
    """

    def __init__(
        self, share: float, shortest: float = 0.5, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.share, self.shortest, self._clock = share, shortest, clock
        self.spent = 0.0
        """Seconds taken so far."""
        self.elapsed = 0.0
        """Seconds beside it so far."""
        self.times = 0
        """How often it was done."""
        self._saved = self._price = 0.0
        self._last = self._done = clock()

    def is_due(self) -> bool:
        """Whether it may be done now; counts the time since the last call, or since it was done."""
        now = self._clock()
        passed, self._last = now - self._last, now
        self.elapsed += passed
        self._saved = min(self._saved + self.share * passed, self._price)
        rested = self.times == 0 or now - self._done >= self.shortest
        return self.share > 0 and rested and self._saved >= self._price

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Take what the body does off what is saved."""
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
