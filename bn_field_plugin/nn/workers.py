"""Pieces of work on as many threads as torch has: for compiled kernels that let other threads run."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

_pool: tuple[int, int, ThreadPoolExecutor] | None = None
_lock = threading.Lock()


def run_blocks(work: Callable[[int, int], object], count: int, size: int) -> None:
    """Call `work(first, last)` for all blocks of at most `size` of `count` items, by `run_pieces`."""

    def piece(block: int) -> None:
        work(block * size, min((block + 1) * size, count))

    run_pieces(piece, -(-count // size))


def run_pieces(work: Callable[[int], object], pieces: int) -> None:
    """Call `work(0)` ... `work(pieces - 1)`, at most `torch.get_num_threads()` at a time; wait for all.

    The calling thread takes part. Whoever is free takes the next piece, so the first ones should be the
    largest. What a piece computes must not depend on the others: then results are the same for any number
    of threads. Several threads may call at once, and `work` itself may.

    Numba's own threads are not used: its portable layer ends the process when two threads call it at once
    (a viewer does), and OpenMP's does when a process forks.

    Args:
        work: called with the number of a piece; compiled, and without the interpreter's lock.
        pieces: how many there are.
    """
    threads = min(torch.get_num_threads(), pieces)
    if threads <= 1:
        for piece in range(pieces):
            work(piece)
        return
    numbers = itertools.count()

    def take() -> None:
        while (piece := next(numbers)) < pieces:
            work(piece)

    pool = _threads(threads - 1)
    helpers = [pool.submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        # All pieces are taken now, so helpers that have not begun are not needed. They may never begin, if
        # `work` itself has called this function and keeps the pool's threads busy.
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


def _threads(count: int) -> ThreadPoolExecutor:
    """A pool of at least `count` threads that belongs to this process: those of a parent end with a fork."""
    global _pool
    with _lock:
        if _pool is None or _pool[0] != os.getpid() or _pool[1] < count:
            _pool = (
                os.getpid(),
                count,
                ThreadPoolExecutor(count, "bn-field-kernels", initializer=_stop_spinning),
            )
        return _pool[2]


def _stop_spinning() -> None:
    """Keep torch's idle threads from burning the cores that ours need.

    GNU's OpenMP lets a thread that waits for work spin for milliseconds, unless it counts more threads than
    cores: a parallel operation of torch in this thread makes it count this thread's too.
    """
    torch.zeros(2**18).add_(1.0)
