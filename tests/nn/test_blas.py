"""MKL within torch: when it may be used, and by how many threads."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from bn_field_plugin.nn import blas as module
from bn_field_plugin.nn.blas import blas, can_multiply, each_block

needs_mkl = pytest.mark.skipif(blas() is None, reason="this torch has no MKL")


@pytest.fixture
def threads():
    """Sets torch's threads, and restores them."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_torch_with_mkl_has_it():
    assert (blas() is not None) == torch.backends.mkl.is_available()


@needs_mkl
def test_it_takes_fp32_on_a_cpu_alone():
    x = torch.ones(3, 2)
    assert can_multiply([x, x.T, torch.nn.Parameter(x), x[:0]])
    assert not can_multiply([x, x.double()])
    assert not can_multiply([x.half(), x])
    assert not can_multiply([x, x.to("meta")])
    with torch.autocast("cpu"):
        assert not can_multiply([x])


@needs_mkl
def test_not_where_somebody_looks_on():
    x, asked = torch.ones(3, 2), []

    def told(t: torch.Tensor) -> torch.Tensor:
        asked.append(can_multiply([t]))
        return t * 2

    torch.func.vmap(told)(x)
    torch.func.jvp(told, (x,), (x,))
    torch.jit.trace(told, x, check_trace=False)
    make_fx(told)(x)
    with FlopCounterMode(display=False):
        told(x)
    with forward_ad.dual_level():
        told(forward_ad.make_dual(x, x))
        assert can_multiply([x])
    assert asked == [False] * 6


def test_not_without_mkl(monkeypatch):
    monkeypatch.setattr(module, "blas", lambda: None)
    assert not can_multiply([torch.ones(2, 2)])


@needs_mkl
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("blocks", [0, 1, 2, 7, 24])
def test_each_block_is_visited_once_with_what_is_given(blocks, count, threads):
    threads(count)
    seen, lock = [], threading.Lock()

    def kernel(gemm: int, a: str, b: str, size: int, first: int, last: int) -> None:
        assert (gemm, a, b, size) == (blas().sgemm, "a", "b", 5)
        with lock:
            seen.extend(range(first, last))

    each_block(kernel, ("a", "b"), blocks, 5)
    assert sorted(seen) == list(range(blocks))


@needs_mkl
def test_products_use_one_thread_within_and_as_many_as_before_after_it(threads):
    threads(1)
    library, within = blas(), []

    def kernel(*_: object) -> None:
        within.append(library.set_threads(1))
        raise KeyError

    library.set_threads(3)
    try:
        with pytest.raises(KeyError):
            each_block(kernel, (), 1, 1)
        assert library.set_threads(0) == 3
    finally:
        library.set_threads(0)
    assert within == [1]
