"""What all tests share: settings of hypothesis, skipping of GPU tests, and fixtures of several folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import settings

from tests import laws, shapes

MOST_WORKERS = 4
"""Most processes that `-n auto` shares the tests among."""
MEMORY_OF_WORKER = 3 * 2**30
"""Bytes that a worker needs, with the commands that its tests start."""

FEW = 4
"""Most cases of a parametrised test that --few leaves."""

# There is no deadline, because the first example pays for imports and compilation. In CI the examples are the
# same each time.
settings.register_profile(
    "house", deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=laws.USUAL
)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=laws.USUAL // 10)
settings.load_profile("house")

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options --shapes and --few."""
    parser.addoption("--shapes", action="store_true", help="check the shapes in annotations at each call")
    parser.addoption(
        "--few",
        action="store_true",
        help="run a few cases of each parametrised test, and few random examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Apply the options, in the workers too, before test files import our modules."""
    if config.getoption("--shapes"):
        shapes.install()
    if config.getoption("--few"):
        settings.load_profile("few")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Number of workers of `-n auto`: one for each core of this process, if there is memory for them."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 1
    fitting = psutil.virtual_memory().available // MEMORY_OF_WORKER
    return max(1, min(cores, fitting, MOST_WORKERS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Give each worker one thread. Libraries read the variables when they are loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"


def leave_few(items: list[pytest.Item]) -> list[pytest.Item]:
    """Take cases out of parametrised tests, so that `FEW` of each are left, spread evenly.

    Args:
        items: tests in order; changed in place.

    Returns:
        What has been taken out.
    """
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left = {
        some[index * (len(some) - 1) // (FEW - 1)].nodeid if len(some) > FEW else some[index].nodeid
        for some in cases.values()
        for index in range(min(FEW, len(some)))
    }
    out = [item for item in items if item.nodeid not in left]
    items[:] = [item for item in items if item.nodeid in left]
    return out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers begin with files of slow tests; skip GPU tests where there is no GPU, and say so."""
    if config.getoption("--few"):
        config.hook.pytest_deselected(items=leave_few(items))
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


# Our modules are imported inside the fixtures, because pytest loads this file before `--shapes` takes effect.


@pytest.fixture(scope="session")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny capture in Blender format."""
    from tests.captures import write_blender_capture

    folder = tmp_path_factory.mktemp("capture") / "blender"
    return write_blender_capture(folder, image_size=16, num_train=4, num_val=2, num_test=2)


@pytest.fixture
def fresh_writers() -> Iterator[None]:
    """Clear nerfstudio's log writers after a test: nerfstudio keeps them in globals."""
    yield
    # A test that has run nerfstudio in another process alone has not loaded it, and left nothing.
    writer = sys.modules.get("nerfstudio.utils.writer")
    if writer is not None:
        writer.EVENT_WRITERS.clear()
        writer.EVENT_STORAGE.clear()
        writer.GLOBAL_BUFFER.clear()
