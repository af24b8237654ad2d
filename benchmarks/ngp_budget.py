"""The quality of bn-ngp after budgets of several lengths, and its speed of rendering."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, write_table
from standalone.sweep.runs import Method, Run, run_or_recall
from standalone.sweep.scenes import Scene
from standalone.sweep.table import mean_and_sd

VIEW = 200 * 200
"""Pixels of a view."""

LARGE = 800
"""Width and height of the larger view that is rendered too."""


@dataclass(frozen=True)
class NGPBudget:
    """Train a method with budgets of several lengths, each with a schedule of its own; test on all views."""

    scene: str
    """Scene, as `bn-sweep run --scenes` takes it, for instance the lego scene at 200x200."""
    steps: tuple[int, ...] = (1, 250, 500, 1000, 2000, 4000)
    """Steps of the runs; a run of one step tells the time of starting."""
    method: str = "bn-ngp"
    """nerfstudio's name of the method."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run for each seed and number of steps."""
    name: str = "ngp_budget"
    """Name of the table in benchmarks/results."""
    output_dir: Path = Path("outputs/ngp_budget")
    """Folder of the runs."""


def seconds_of_view(config: Path, side: int) -> float:
    """Median wall clock of rendering the first evaluation view, `side` pixels wide; the first is left out."""
    from nerfstudio.utils.eval_utils import eval_setup

    _, pipeline, _, _ = eval_setup(config, test_mode="val")
    camera = pipeline.datamanager.eval_dataset.cameras[:1].to(pipeline.device)
    camera.rescale_output_resolution(side / float(camera.width[0]))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        with torch.no_grad():
            pipeline.model.get_outputs_for_camera(camera)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main(config: NGPBudget) -> None:
    """Run, and write the table."""
    output_dir = config.output_dir.resolve()
    scene = Scene.parse(config.scene)
    rows: list[dict[str, Cell]] = []
    first, *budgets = sorted(config.steps)
    method = Method(config.method, config.method)
    start = run_or_recall(Run(scene, method, config.seeds[0], first), output_dir).seconds
    for steps in budgets:
        results = [run_or_recall(Run(scene, method, seed, steps), output_dir) for seed in config.seeds]
        psnr, sd = mean_and_sd([result.metrics["psnr"] for result in results], 2)
        ssim, _ = mean_and_sd([result.metrics["ssim"] for result in results], 4)
        seconds = statistics.median(result.seconds for result in results)
        speed = statistics.median(result.metrics["num_rays_per_sec"] for result in results)
        print(f"{steps} steps: {psnr:.2f} dB", flush=True)
        rows.append(
            {
                "steps": steps,
                "training s": round(seconds - start, 1),
                "whole command s": round(seconds, 1),
                "PSNR dB": psnr,
                "PSNR sd": sd,
                "SSIM": ssim,
                "peak GB": round(max(result.peak_bytes or 0 for result in results) / 1e9, 2),
                "a view of 200x200, s": round(VIEW / speed, 3),
            }
        )
    large = seconds_of_view(output_dir / results[-1].config, LARGE)
    facts: dict[str, Cell] = {
        **results[-1].machine,
        "scene": scene.name,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    write_table(
        config.name,
        f"What {config.method} reaches: {scene.name}",
        command_behind(f"python -m benchmarks.ngp_budget --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        [
            f"Seconds are medians over seeds. Training seconds are those of the command less those of a "
            f"command of {first} step ({start:.1f} s).",
            f"A view of {LARGE}x{LARGE} by the last run takes {large:.2f} s, the median of five.",
        ],
        folder=RESULTS,
    )


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPBudget))
