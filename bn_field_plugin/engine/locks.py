"""A lock that is passed on in order, for training and the viewer, which take it again and again."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A mutual exclusion whose turn goes to who has waited longest.

    `threading.Lock` goes to whoever asks first after it is free: a loop that gives it back only to take it
    again keeps it from all others. Not reentrant.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._turns: deque[threading.Lock] = deque()

    def acquire(self) -> bool:
        """Wait for one's turn."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C while waiting
            with self._guard:
                waits = turn in self._turns
                if waits:
                    self._turns.remove(turn)
            if not waits:
                self.release()
            raise
        return True

    def release(self) -> None:
        """Hand it on.

        Raises:
            RuntimeError: nobody holds it.
        """
        with self._guard:
            if not self._held:
                raise RuntimeError("release of a lock that nobody holds")
            if self._turns:
                self._turns.popleft().release()
            else:
                self._held = False

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
