"""nerfstudio's commands as a user types them, run one after the other, with their time and results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EXPERIMENT, TIMESTAMP = "run", "0"
"""Names in nerfstudio's output paths, fixed so that a benchmark finds its run."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run."""

    config: Path
    """Its config.yml."""
    seconds: float
    """Wall clock of the whole command, start of Python and loading of data included."""


def run_command(args: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> float:
    """Run one of nerfstudio's commands; its output goes to a log file.

    Args:
        args: command and arguments; the command is taken from the running Python's environment.
        log: file for the command's output.
        environment: variables to set for the command.

    Returns:
        Wall clock seconds.

    Raises:
        SystemExit: the command failed; its last lines are shown.
    """
    command = [str(Path(sys.executable).with_name(str(args[0]))), *(str(a) for a in args[1:])]
    log.parent.mkdir(parents=True, exist_ok=True)
    # nerfstudio 1.1.5 leaves numpy scalars in its own methods' checkpoints, which torch >= 2.6 refuses.
    compatible = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "COLUMNS": "160"}
    variables = {**os.environ, **compatible, **(environment or {})}
    start = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=variables, stdin=subprocess.DEVNULL
        )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(
            f"{' '.join(command)} failed with status {done.returncode}; the end of {log}:\n{tail}"
        )
    return seconds


def train(
    method: str,
    data: Sequence[str | Path],
    output_dir: Path,
    *,
    steps: int,
    seed: int,
    options: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
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
    """
    seconds = run_command(
        [
            *("ns-train", method, "--output-dir", output_dir, "--experiment-name", EXPERIMENT),
            *("--timestamp", TIMESTAMP, "--vis", "tensorboard", "--max-num-iterations", str(steps)),
            *("--machine.seed", str(seed), "--machine.device-type", _device()),
            *("--steps-per-eval-batch", "1000000", "--steps-per-eval-image", "1000000"),
            *("--steps-per-eval-all-images", "1000000", "--steps-per-save", "1000000"),
            *options,
            *data,
        ],
        output_dir / "train.log",
        environment,
    )
    return TrainedRun(output_dir / EXPERIMENT / method / TIMESTAMP / "config.yml", seconds)


def evaluate(run: TrainedRun, environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """`ns-eval` on all test views.

    Args:
        run: the trained run.
        environment: variables to set for the command.

    Returns:
        nerfstudio's metrics: `psnr`, `ssim`, `num_rays_per_sec`, ...
    """
    output = run.config.with_name("eval.json")
    log = run.config.with_name("eval.log")
    run_command(["ns-eval", "--load-config", run.config, "--output-path", output], log, environment)
    return json.loads(output.read_text())["results"]


def without_lpips(folder: Path) -> dict[str, str]:
    """Variables with which nerfstudio's own methods start offline.

    They load AlexNet for LPIPS and stop where it can be neither found nor fetched. Here they find one with
    random weights, so that LPIPS of theirs means nothing and must not be reported.

    Args:
        folder: where to keep it (233 MB); nothing is written where the real one is at hand.
    """
    from bn_field_plugin.models.image_metrics import LPIPS_WEIGHTS, ImageMetrics

    if ImageMetrics().has_lpips:
        return {}
    path = folder.resolve() / "hub" / "checkpoints" / LPIPS_WEIGHTS
    if not path.exists():
        import torch
        from torchvision.models import alexnet

        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(alexnet().state_dict(), path)
    return {"TORCH_HOME": str(folder.resolve())}


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
