"""Runs of nerfstudio's and our commands on tiny scenes, as a user types them, but offline."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.captures import write_blender_capture, write_nerfstudio_capture

BIN = Path(sys.executable).parent
"""Folder of the commands of this Python's environment."""
NO_NETWORK = "http://127.0.0.1:9"
"""Address of a proxy that is not there, so that every download fails at once."""
STEPS = 121
"""Steps of the shared run, whose last one (120) evaluates and is saved."""

SHORT = (
    *("--vis", "tensorboard"),
    *("--pipeline.datamanager.train-num-rays-per-batch", "256"),
    *("--pipeline.datamanager.eval-num-rays-per-batch", "256"),
    *("--pipeline.model.num-coarse-samples", "16"),
    *("--pipeline.model.num-fine-samples", "16"),
    *("--pipeline.model.calibration-rays", "512"),
)
"""Options that make a step of training cheap."""
TINY = (
    *("--pipeline.model.coarse.width", "16", "--pipeline.model.fine.width", "16"),
    *("--pipeline.model.coarse.depth", "2", "--pipeline.model.fine.depth", "2"),
    *("--pipeline.model.coarse.skips", "1", "--pipeline.model.fine.skips", "1"),
    *("--pipeline.model.coarse.num-features", "8", "--pipeline.model.fine.num-features", "8"),
    *("--pipeline.model.coarse.head-width", "16", "--pipeline.model.fine.head-width", "16"),
)
"""Options that make the networks of bn-nerf tiny."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def check(self) -> Finished:
        """Fail the test if the command failed."""
        assert self.code == 0, (
            f"{' '.join(self.words)} ended with {self.code}\n{self.out[-3000:]}\n{self.err}"
        )
        return self


def environment(work: Path) -> dict[str, str]:
    """Variables for a command: offline, caches of its own, wide lines; one thread, as two run at a time."""
    tools = work / "bin"
    return os.environ | {
        "BN_FIELD_CACHE": str(work / "cache"),
        "TORCH_HOME": str(work / "torch"),
        "http_proxy": NO_NETWORK,
        "https_proxy": NO_NETWORK,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "300",
        "PATH": os.pathsep.join(
            [str(BIN), os.environ.get("PATH", ""), *([str(tools)] if tools.is_dir() else [])]
        ),
    }


def run(work: Path, *words: object, timeout: float = 550, fresh: bool = True) -> Finished:
    """Run one command in the folder `work`.

    Args:
        work: the folder.
        words: the command and its arguments.
        timeout: seconds that it may take.
        fresh: start it as a user does. Otherwise it is forked from a process that has imported everything,
            which takes a quarter of the time.
    """
    command = tuple(str(word) for word in words)
    if not fresh:
        from tests import warm

        if warm.IS_SERVED:
            return Finished(command, *warm.run(work, command, timeout))
    done = subprocess.run(
        (str(BIN / command[0]), *command[1:]),
        cwd=work,
        env=environment(work),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    return Finished(command, done.returncode, done.stdout, done.stderr)


def run_all(
    work: Path, commands: Mapping[str, Sequence[object]], fresh: Container[str] = ()
) -> dict[str, Finished]:
    """Run commands that do not depend on each other, two at a time.

    Args:
        work: their folder.
        commands: the words of each, by name.
        fresh: names of those that start as a user starts them; the others are forked (see `run`).
    """

    def result(name: str) -> Finished:
        return run(work, *commands[name], fresh=name in fresh)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(result, commands), strict=True))


def training(method: str, name: str, *options: object) -> tuple[object, ...]:
    """Words of a training run into `outputs/NAME/METHOD/t`."""
    return (
        *("ns-train", method, *SHORT, "--output-dir", "outputs"),
        *("--experiment-name", name, "--timestamp", "t", *options),
    )


def config_of(work: Path, name: str, method: str = "bn-nerf-small") -> Path:
    """The config.yml of a run."""
    return work / "outputs" / name / method / "t" / "config.yml"


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of `trained`, one for all processes that share a run of the tests."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "commands"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def trained(work: Path) -> Path:
    """Train bn-nerf-small on Blender data once, for the tests of all later commands.

    The validation views are the test views, so that the end of training and ns-eval see the same ones.

    Returns:
        The folder `work`, which then holds blender/, capture/ and outputs/shared/.
    """
    done = work / ".trained"
    with _alone(work):
        if done.exists():
            return work
        work.mkdir(exist_ok=True)
        write_blender_capture(work / "blender")
        shutil.copy(work / "blender/transforms_test.json", work / "blender/transforms_val.json")
        write_nerfstudio_capture(work / "capture")
        words = training(
            *("bn-nerf-small", "shared", "--data", "blender", "--max-num-iterations", STEPS),
            *("--steps-per-save", 60, "--save-only-latest-checkpoint", False),
            *("--steps-per-eval-all-images", STEPS - 1),
        )
        run(work, *words).check()
        done.touch()
    return work
