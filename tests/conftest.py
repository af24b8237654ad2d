"""What all tests share: checked shapes, settings of hypothesis, skipping, and fixtures of several folders."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests import laws, nerfstudio_start

# Now, before anything loads our modules. Waiting for pytest's options would be too late: conftest.py files in
# folders come before those, and nerfstudio, which some of them import, loads all of its plugins.
if os.environ.get("SHAPES") != "off" and importlib.util.find_spec("beartype"):
    from tests import shapes

    shapes.install()
nerfstudio_start.shorten()

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
    """The option --few."""
    parser.addoption(
        "--few",
        action="store_true",
        help="run a few cases of each parametrised test, and few random examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Apply the option, in the workers too."""
    if config.getoption("--few"):
        settings.load_profile("few")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Number of workers of `-n auto`: one for each core of this process, if there is memory for them."""
    import psutil  # not above: the core's tests run without it

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


def absent_package(error: BaseException | None) -> str | None:
    """The package whose absence is an error, or one of its causes; None where that is no reason for it."""
    while error is not None:
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package and importlib.util.find_spec(package) is None:
            return package
        error = error.__cause__
    return None


def _skip_where_a_package_is_absent(
    report: pytest.CollectReport | pytest.TestReport, error: BaseException | None
) -> None:
    """Turn a failure into a skipped test, where only some of the extras are installed."""
    package = absent_package(error)
    if package is not None:
        report.outcome = "skipped"
        # One place for all of them, so that the summary has one line for each package.
        report.longrepr = (__file__, 0, f"Skipped: needs {package}, which is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip the files of tests that import what is not installed."""
    report = yield
    call: pytest.CallInfo[object] | None = vars(report).get("call")
    if call is not None and call.excinfo is not None:
        _skip_where_a_package_is_absent(report, call.excinfo.value)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip the tests that import, as they run, what is not installed."""
    report = yield
    if call.excinfo is not None:
        _skip_where_a_package_is_absent(report, call.excinfo.value)
    return report


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


# Fixtures import our modules themselves: the core's tests run without what some of those need.


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
