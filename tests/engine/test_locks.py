"""A lock that goes to the thread that has waited longest."""

from __future__ import annotations

import threading
import time

import pytest

from bn_field_plugin.engine.locks import FairLock


def test_one_holder_at_a_time_and_everybody_in_turn() -> None:
    """Loops that take the lock again and again alternate, where a common lock would starve some."""
    lock, turns, inside = FairLock(), [], []
    barrier = threading.Barrier(3)

    def loop(name: int) -> None:
        barrier.wait()
        for _ in range(40):
            with lock:
                inside.append(name)
                assert inside == [name]
                time.sleep(0.001)
                turns.append(name)
                inside.clear()

    threads = [threading.Thread(target=loop, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(turns) == 120
    longest_wait = max(len(set(turns[start : start + 6])) for start in range(10, 60))
    assert longest_wait == 3  # every thread has a turn among any six
    assert not lock.locked()


def test_turns_are_in_the_order_of_asking() -> None:
    lock, order = FairLock(), []
    lock.acquire()

    def take(name: int) -> None:
        with lock:
            order.append(name)

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=take, args=(name,)))
        threads[-1].start()
        while len(lock._turns) <= name:
            time.sleep(0.001)
    lock.release()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_who_gives_up_waiting_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends waiting in this way."""
    lock = FairLock()
    lock.acquire()

    class Interrupted:
        def acquire(self) -> None:
            if self in lock._turns:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    monkeypatch.undo()
    lock.release()
    assert not lock.locked()
    with lock:
        assert lock.locked()


def test_only_a_held_lock_is_released() -> None:
    with pytest.raises(RuntimeError, match="nobody holds"):
        FairLock().release()
