"""Handling of Ctrl-C: a fit ends between two steps, in a consistent state; a command without traceback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C stopped."""


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a fit between two steps; its last state is in the checkpoint, if the fit keeps one."""


class Interrupts:
    """Tells whether Ctrl-C has been pressed."""

    requested = False


@contextmanager
def deferred_interrupts() -> Iterator[Interrupts]:
    """Note the first Ctrl-C instead of raising; a second one stops at once.

    Only the main thread receives signals; in other threads, nothing is changed.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.requested = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def exit_on_interrupt(hint: str = "") -> Iterator[None]:
    """Turn Ctrl-C into one line on standard error and exit status 130, without a traceback.

    Args:
        hint: words on how to go on later, for the end of the line.

    Raises:
        SystemExit: with status `INTERRUPTED`, if Ctrl-C interrupted the body.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        line = str(error) if isinstance(error, FitInterrupted) else "stopped"
        print(f"{line}{': ' if hint else ''}{hint}", file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None
