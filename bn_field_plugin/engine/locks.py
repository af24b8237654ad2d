"""A lock that its waiters get in order, for training and the viewer, which take it again and again."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A mutual exclusion that the thread which has waited longest gets next.

    A `threading.Lock` goes to whichever thread asks first after it is free: a loop that releases it only to
    take it again keeps it from all others. The lock is not reentrant.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._turns: deque[threading.Lock] = deque()

    def acquire(self) -> bool:
        """Wait until all threads that asked before have had the lock, and take it; always True."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        try:
            turn.acquire()
        except BaseException:  # KeyboardInterrupt, for instance, while waiting
            with self._guard:
                waits = turn in self._turns
                if waits:
                    self._turns.remove(turn)
            if not waits:
                self.release()
            raise
        return True

    def release(self) -> None:
        """Hand the lock to the thread that has waited longest, or free it.

        Raises:
            RuntimeError: the lock is not held.
        """
        with self._guard:
            if not self._held:
                raise RuntimeError("release of a lock that nobody holds")
            if self._turns:
                self._turns.popleft().release()
            else:
                self._held = False

    def locked(self) -> bool:
        """Whether a thread holds the lock."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
