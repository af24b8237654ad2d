"""Each piece of work is done once, whichever threads call."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bn_field_plugin.nn.workers import run_blocks, run_pieces

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _threads_come_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("pieces", [0, 1, 2, 50])
def test_every_piece_is_done_once(threads, pieces):
    torch.set_num_threads(threads)
    done = []
    run_pieces(done.append, pieces)
    assert sorted(done) == list(range(pieces))


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(0, 4, []), (3, 4, [3]), (8, 4, [4, 4]), (9, 4, [4, 4, 1])]
)
def test_blocks_follow_on_each_other_and_the_last_has_the_rest(count, size, sizes):
    done = []
    run_blocks(lambda first, last: done.append(range(first, last)), count, size)
    blocks = sorted(done, key=lambda block: block.start)
    assert [len(block) for block in blocks] == sizes
    assert [index for block in blocks for index in block] == list(range(count))


def test_as_many_threads_work_as_torch_has():
    torch.set_num_threads(3)
    together = threading.Barrier(3, timeout=60)
    names = set()

    def work(piece: int) -> None:
        names.add(threading.current_thread().name)
        together.wait()

    run_pieces(work, 3)
    assert len(names) == 3
    assert threading.current_thread().name in names


def test_one_thread_works_in_order_and_alone():
    torch.set_num_threads(1)
    done = []
    run_pieces(lambda piece: done.append((piece, threading.current_thread())), 5)
    assert done == [(piece, threading.current_thread()) for piece in range(5)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_reaches_the_caller_and_the_next_call_works(threads):
    torch.set_num_threads(threads)

    def fail(piece: int) -> None:
        if piece == 7:
            raise ZeroDivisionError(f"piece {piece}")

    for _ in range(20):  # chance decides in which thread a piece runs
        with pytest.raises(ZeroDivisionError, match="piece 7"):
            run_pieces(fail, 12)
    done = []
    run_pieces(done.append, 12)
    assert sorted(done) == list(range(12))


def test_an_exception_in_a_helper_reaches_the_caller():
    torch.set_num_threads(2)
    caller, together = threading.current_thread(), threading.Barrier(2, timeout=60)

    def work(piece: int) -> None:
        together.wait()
        if threading.current_thread() is not caller:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_pieces(work, 2)


@pytest.mark.timeout(60)
def test_a_piece_may_call_again():
    """If every thread waits for pieces inside its own, none is left to do them."""
    torch.set_num_threads(3)
    done = Counter()

    def outer(piece: int) -> None:
        run_pieces(lambda inner: done.update([(piece, inner)]), 4)

    run_pieces(outer, 9)
    assert done == Counter((piece, inner) for piece in range(9) for inner in range(4))


@pytest.mark.timeout(60)
def test_several_threads_may_call_at_once():
    torch.set_num_threads(2)

    def call(_: int) -> list[int]:
        done: list[int] = []
        run_pieces(done.append, 40)
        return sorted(done)

    with ThreadPoolExecutor(4) as pool:
        assert all(done == list(range(40)) for done in pool.map(call, range(40)))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_it_works_after_a_fork():
    """A forked process has none of its parent's threads."""
    code = """
import os, sys, torch
from bn_field_plugin.nn.workers import run_pieces

torch.set_num_threads(3)
done = []
run_pieces(done.append, 20)
child = os.fork()
done.clear()
run_pieces(done.append, 20)
assert sorted(done) == list(range(20))
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
