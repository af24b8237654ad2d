"""The methods of `benchmarks.gpu`: each trained for equal time in a process of its own, then rendered.

Time is that of the training steps alone. Starting Python and loading data take longer than the few seconds of
steps here, and say nothing about a method. `python -m benchmarks.gpu_training NAME OPTIONS`. No GPU has run
this yet.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import Options
from benchmarks.nerfacto import NERFACTO_ON_BLENDER, NERFACTO_RATES
from bn_field_plugin.files import write_whole
from standalone.report import Cell
from standalone.sweep.nerfstudio_commands import is_ours, without_lpips
from standalone.sweep.scenes import fewer_views

TRAINING_SHARE = 0.4
"""Share of a method's time that goes into training steps; the rest is for start, pilot and rendering."""
TEST_VIEWS = 3
"""Number of test views that a method is judged by."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "nerfacto": (*NERFACTO_ON_BLENDER, *NERFACTO_RATES),
    "instant-ngp-bounded": ("--pipeline.model.background-color", "white"),
}
"""Options of nerfstudio's methods on Blender scenes."""
TINY: dict[str, tuple[str, ...]] = {
    "bn-ngp": (
        *("--pipeline.model.network.log2-hashmap-size", "8", "--pipeline.model.grid-resolution", "8"),
        *("--pipeline.model.samples-per-step", "512", "--pipeline.model.calibration-rays", "64"),
    )
}
"""Options that make training short, for `--tiny`."""


def scene(options: Options) -> Path:
    """The Blender-format scene that all methods train on; the part `scene` makes it, once."""
    from bn_field_plugin.data.demo_scene import DemoScene

    output_dir = Path(options.output_dir)
    if options.data is not None:
        return fewer_views(Path(options.data), output_dir / "scene", test=TEST_VIEWS)
    folder = output_dir / "demo-scene"
    if not (folder / ".whole").exists():
        demo = DemoScene(num_val=1, num_test=TEST_VIEWS)
        if options.tiny:
            demo = DemoScene(image_size=16, num_train=4, num_val=1, num_test=1, samples=1)
        demo.render(folder)
        (folder / ".whole").touch()
    return folder


def trainer_of(method: str, data: Path, options: Options, steps: int) -> Any:
    """nerfstudio's trainer of a method, set up for a number of steps."""
    import tyro
    from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

    output_dir = Path(options.output_dir) / "runs"
    more = TINY.get(method, ()) if options.tiny else ()
    words = [
        *(method, "--output-dir", str(output_dir), "--experiment-name", "gpu", "--timestamp", str(steps)),
        *("--vis", "tensorboard", "--max-num-iterations", str(steps), "--machine.seed", str(options.seed)),
        *("--machine.device-type", options.device, *SETTINGS.get(method, ()), *more),
        *("blender-data", "--data", str(data)),
    ]
    config: Any = tyro.cli(AnnotatedBaseConfigUnion, args=words)  # type: ignore[call-overload]
    torch.manual_seed(options.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup(test_mode="test")
    return trainer


def train(trainer: Any, steps: int, seconds: float, device: torch.device) -> tuple[int, float]:
    """Take steps as the trainer does, its callbacks included.

    Args:
        trainer: nerfstudio's.
        steps: how many.
        seconds: wall clock after which no further step is begun.
        device: where it trains.

    Returns:
        Steps that were taken, and their seconds.
    """
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as At

    _wait_for(device)
    start = time.perf_counter()
    for step in range(steps):
        trainer.step = step
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, location=At.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(step)
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, location=At.AFTER_TRAIN_ITERATION)
        if time.perf_counter() - start > seconds:
            break
    _wait_for(device)
    return step + 1, time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rendering(trainer: Any, device: torch.device, scale: float) -> tuple[str, float]:
    """Size of a test view, scaled, and the median of the seconds that three renderings of it take."""
    model = trainer.pipeline.model.eval()
    camera = trainer.pipeline.datamanager.eval_dataset.cameras[0:1].to(device)
    camera.rescale_output_resolution(scale)
    times = []
    with torch.no_grad():
        for _ in range(4):  # the first one warms up
            _wait_for(device)
            start = time.perf_counter()
            model.get_outputs_for_camera(camera)
            _wait_for(device)
            times.append(time.perf_counter() - start)
    return f"{int(camera.width)}x{int(camera.height)}", statistics.median(times[1:])


def compare(method: str, options: Options) -> dict[str, Any]:
    """Train a method for its time, evaluate it, and time its pictures."""
    device = torch.device(options.device)
    data = scene(options)
    if not is_ours(method):
        os.environ |= without_lpips(Path(options.output_dir) / "torch")
    seconds = TRAINING_SHARE * options.seconds
    pilot = 5 if options.tiny else 60
    # The first steps compile and allocate memory, so the pace is taken from the steps after them.
    trial = trainer_of(method, data, options, pilot)
    train(trial, pilot // 5, seconds / 8, device)
    taken, spent = train(trial, pilot, seconds / 8, device)
    del trial
    steps = 3 if options.tiny else max(int(seconds * taken / spent), 10)
    trainer = trainer_of(method, data, options, steps)
    taken, spent = train(trainer, steps, 1.25 * seconds, device)
    trainer.pipeline.eval()
    metrics = trainer.pipeline.get_average_eval_image_metrics(step=taken)
    row: dict[str, Cell] = {
        "method": method,
        "steps": taken,
        "training s": round(spent, 1),
        "PSNR dB": round(float(metrics["psnr"]), 2),
        "SSIM": round(float(metrics["ssim"]), 4),
        "eval rays/s": round(float(metrics["num_rays_per_sec"])),
    }
    if device.type == "cuda":
        row["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    found: dict[str, Any] = {"rows": [row]}
    _write(method, found, options)  # if the rendering fails, this much is kept
    for scale in (1.0,) if options.tiny else (1.0, 4.0):
        size, rendered = rendering(trainer, device, scale)
        row[f"{size} s"] = round(rendered, 4)
    if taken < steps:
        found["notes"] = [f"stopped after {taken} of {steps} steps, whose schedule was not over"]
    return found


def _write(name: str, found: dict[str, Any], options: Options) -> None:
    write_whole(Path(options.output_dir) / f"{name}.json", json.dumps(found, indent=2) + "\n")


def main(name: str, options: Options) -> None:
    """Make the scene, or train a method on it."""
    if name == "scene":
        _write(name, {"rows": [{"scene": scene(options).name}]}, options)
    else:
        _write(name, compare(name, options), options)
    sys.stdout.flush()
    os._exit(0)  # nerfacto's data managers leave processes that an ordinary end would wait for


if __name__ == "__main__":
    main(sys.argv[1], Options(**json.loads(sys.argv[2])))
