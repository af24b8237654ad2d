"""What all tests share: settings of hypothesis, skipping of GPU tests, and the data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import settings

MOST_WORKERS = 4
"""Most processes that `-n auto` shares the tests among."""
MEMORY_OF_WORKER = 3 * 2**30
"""Bytes that a worker needs, with the commands that its tests start."""

# No deadline: the first example pays for imports and compilation. In CI the examples are the same each time.
settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`: one for each core that is ours, as far as memory goes."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 1
    fitting = psutil.virtual_memory().available // MEMORY_OF_WORKER
    return max(1, min(cores, fitting, MOST_WORKERS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Give each worker one thread; libraries read this when they are loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let workers begin with files of slow tests; skip GPU tests where there is no GPU, and say so."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        long = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in long)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device; this machine has none")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """The folder of data sets beside the checkout; tests that use it are skipped where it is absent."""
    folder = repository.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data sets of ../shared/data, which are absent")
    return folder
