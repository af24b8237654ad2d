"""The BLAS within torch, for compiled loops that multiply blocks of samples."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn.products import is_traced
from bn_field_plugin.nn.workers import run_blocks

SHARES = 2
"""Pieces of a batch for each thread, so that threads that are done early can take pieces of others."""


class Blas(NamedTuple):
    """MKL within torch."""

    set_threads: Callable[[int], int]
    """Sets the number of threads for the calling thread, and gives the one before."""
    sgemm: int
    """Address of the product in fp32."""


@functools.cache
def blas() -> Blas | None:
    """MKL's functions; None without MKL."""
    folder = Path(torch.__file__).parent / "lib"
    for path in sorted(folder.glob("libtorch_cpu.*")):
        try:
            library = ctypes.CDLL(str(path))
            sgemm = ctypes.cast(library.sgemm_, ctypes.c_void_p).value
            if sgemm is not None:
                return Blas(library.MKL_Set_Num_Threads_Local, sgemm)
        except (OSError, AttributeError):
            continue
    return None


def can_multiply(tensors: list[Tensor]) -> bool:
    """Whether compiled loops can take these tensors: fp32 on a CPU, nobody looking on, and MKL at hand."""
    return (
        not is_traced()
        and not torch.is_autocast_enabled("cpu")
        and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and all(forward_ad.unpack_dual(t).tangent is None for t in tensors)
        and blas() is not None
    )


def each_block(kernel: Callable[..., None], given: tuple[object, ...], blocks: int, size: int) -> None:
    """Call a kernel that multiplies for all blocks of samples, on as many threads as torch has.

    Args:
        kernel: called with the address of the product, `given`, the size of a block, and which blocks.
        given: arrays, and tuples of them.
        blocks: number of blocks.
        size: samples of a block.
    """
    library = blas()
    assert library is not None

    def work(first: int, last: int) -> None:
        # A product uses one thread, because the other threads are busy with other blocks.
        before = library.set_threads(1)
        try:
            kernel(library.sgemm, *given, size, first, last)
        finally:
            library.set_threads(before)

    run_blocks(work, blocks, max(1, -(-blocks // (SHARES * torch.get_num_threads()))))
