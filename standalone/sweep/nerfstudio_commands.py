"""nerfstudio's commands as a user types them, run one after the other, with their time and results."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

EXPERIMENT, TIMESTAMP = "run", "0"
"""Experiment and timestamp in nerfstudio's output paths, which are fixed so that a caller finds its run."""

NEVER = str(10**9)
"""Value for options that give the steps between two events, by which the events never happen."""

LOG_LINES = 20
"""Lines of a failed command's log that are shown."""

POLL_SECONDS = 0.2
"""Seconds between two checks of a running command. Between checks, an interrupt can reach the caller."""


class CommandFailed(SystemExit):
    """A command failed. Uncaught, this ends the program with the last lines of the command's log."""


@dataclass(frozen=True)
class Cost:
    """What a command that has ended took."""

    seconds: float
    """Wall clock seconds of the whole command, with the start of Python and the loading of data."""
    peak_bytes: int
    """The most memory that it held when it was looked at, a few times a second."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run."""

    config: Path
    """The run's config.yml."""
    cost: Cost
    """What `ns-train` took."""


def run_command(
    args: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], None] | None = None,
) -> Cost:
    """Run one of nerfstudio's commands; its output goes to a log file.

    If the caller is interrupted, the command is stopped too.

    Args:
        args: command and arguments; the command is taken from the running Python's environment.
        log: file for the command's output.
        environment: variables to set for the command.
        watch: called a few times a second while the command runs.

    Returns:
        Its time and memory.

    Raises:
        CommandFailed: the command failed; its last lines are shown.
    """
    command = [str(Path(sys.executable).with_name(str(args[0]))), *(str(a) for a in args[1:])]
    log.parent.mkdir(parents=True, exist_ok=True)
    # nerfstudio 1.1.5 leaves numpy scalars in its own methods' checkpoints, which torch >= 2.6 refuses.
    compatible = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "COLUMNS": "160"}
    variables = {**os.environ, **compatible, **(environment or {})}
    start = time.perf_counter()
    with log.open("w") as stream:
        try:
            # The command runs in a session of its own, so that Ctrl-C reaches the caller only. Otherwise
            # training would end in order at Ctrl-C, and pass for a finished one.
            process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=variables,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"{command[0]} cannot be run: {error.strerror}") from error
        try:
            peak_bytes = _wait(process, watch)
        except BaseException:
            process.kill()
            process.wait()
            raise
    seconds = time.perf_counter() - start
    status = process.returncode
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise CommandFailed(f"{' '.join(command)} failed with status {status}; the end of {log}:\n{tail}")
    return Cost(seconds, peak_bytes)


def train(
    method: str,
    data: Sequence[str | Path],
    output_dir: Path,
    *,
    steps: int,
    seed: int,
    options: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
    watch: Callable[[float], None] | None = None,
) -> TrainedRun:
    """`ns-train METHOD`, without viewer and without evaluation during training.

    Args:
        method: name of the method.
        data: dataparser and its options, e.g. `["blender-data", "--data", path]`.
        output_dir: nerfstudio's --output-dir.
        steps: training steps.
        seed: nerfstudio's --machine.seed.
        options: further options of the method.
        environment: variables to set for the command.
        watch: called a few times a second with the share of the steps that are done.

    Raises:
        CommandFailed: it failed.
    """
    log = output_dir / "train.log"
    cost = run_command(
        [
            *("ns-train", method, "--output-dir", output_dir, "--experiment-name", EXPERIMENT),
            *("--timestamp", TIMESTAMP, "--vis", "tensorboard", "--max-num-iterations", str(steps)),
            *("--machine.seed", str(seed), "--machine.device-type", _device()),
            *("--steps-per-eval-batch", NEVER, "--steps-per-eval-image", NEVER),
            *("--steps-per-eval-all-images", NEVER, "--steps-per-save", NEVER),
            *options,
            *data,
        ],
        log,
        environment,
        None if watch is None else lambda: watch(share_done(log)),
    )
    return TrainedRun(output_dir / EXPERIMENT / method / TIMESTAMP / "config.yml", cost)


def evaluate(
    run: TrainedRun, environment: Mapping[str, str] | None = None, views: Path | None = None
) -> dict[str, float]:
    """`ns-eval` on all test views.

    Args:
        run: the trained run.
        environment: variables to set for the command.
        views: folder for pictures of the test views, each true view beside the rendered one; None for none.

    Returns:
        nerfstudio's metrics: `psnr`, `ssim`, `num_rays_per_sec`, ...

    Raises:
        CommandFailed: it failed.
    """
    output = run.config.with_name("eval.json")
    log = run.config.with_name("eval.log")
    rendered = () if views is None else ("--render-output-path", views)
    run_command(
        ["ns-eval", "--load-config", run.config, "--output-path", output, *rendered], log, environment
    )
    results: dict[str, Any] = json.loads(output.read_text())["results"]
    return {name: float(value) for name, value in results.items()}


def share_done(log: Path) -> float:
    """Share of the steps that ns-train's log says are done, in [0, 1]; 0 before the first line on them."""
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - 4096, 0))
        found = re.findall(rb"\((\d+(?:\.\d+)?)%\)", stream.read())
    return float(found[-1]) / 100 if found else 0.0


def is_ours(method: str) -> bool:
    """Whether a method belongs to this package."""
    from importlib.metadata import entry_points

    entries = entry_points(group="nerfstudio.method_configs", name=method)
    return any(entry.value.startswith("bn_field_plugin.") for entry in entries)


def without_lpips(folder: Path) -> dict[str, str]:
    """Variables with which nerfstudio's own methods start offline.

    nerfstudio's methods load AlexNet for LPIPS, and stop if it can be neither found nor downloaded. With
    these variables they find one whose weights are all zero, whose LPIPS must not be reported.

    Args:
        folder: folder for that AlexNet (a few kilobytes); nothing is written if the real one is present.

    Raises:
        UserError: it cannot be written, for instance because the disk is full.
    """
    from bn_field_plugin.lpips import LPIPS_WEIGHTS, has_lpips

    if has_lpips():
        return {}
    path = folder.resolve() / "hub" / "checkpoints" / LPIPS_WEIGHTS
    if not path.exists():
        try:
            write_whole(path, _blank_alexnet())
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}): free space there or choose another "
                "--output-dir"
            ) from error
    return {"TORCH_HOME": str(folder.resolve())}


def _blank_alexnet() -> bytes:
    """A file of weights for torchvision's AlexNet, all zero; one number stands for each whole tensor."""
    import torch
    from torchvision.models import alexnet

    with torch.device("meta"):  # shapes alone, without memory for 61 million weights
        shapes = {name: weights.shape for name, weights in alexnet().state_dict().items()}
    content = io.BytesIO()
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}, content)
    return content.getvalue()


def _wait(process: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> int:
    """The most memory, in bytes, that a process held when it was looked at, until it has ended."""
    import psutil

    peak = 0
    while True:
        # A process that ends has no memory left to look at.
        with contextlib.suppress(psutil.Error):
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if watch is not None:
                watch()
        else:
            return peak


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
