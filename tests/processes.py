"""Other processes for tests: a Python of its own, and two that share a batch."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)
ROOT = Path(__file__).parents[1]
PATIENCE = datetime.timedelta(seconds=240)
"""Most time that one process waits for the other: imports take long on a busy machine."""


def start_python(code: str) -> subprocess.Popen[str]:
    """Start another Python that runs code and finds the modules of this checkout."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results_of_two(work: Callable[..., Any], folder: Path, *arguments: object) -> list[Any]:
    """What `work(rank, *arguments)` returns in each of two processes that talk by gloo.

    Args:
        work: a function of a module; it has one thread.
        folder: an empty one, for the results.
        arguments: what the function is called with after the rank.
    """
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
        mp.spawn(_member, args=(work, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _member(rank: int, work: Callable[..., Any], folder: str, arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=PATIENCE)
    torch.save(work(rank, *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
