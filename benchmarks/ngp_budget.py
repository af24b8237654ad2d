"""What bn-ngp reaches in how many steps and seconds, and how fast it renders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table
from standalone.sweep.runs import Method, Run, run_or_recall
from standalone.sweep.scenes import Scene

VIEW = 200 * 200
"""Pixels of a view."""


@dataclass(frozen=True)
class NGPBudget:
    """Train a method with budgets of several lengths, each with a schedule of its own; test on all views."""

    scene: str
    """Scene, as `bn-sweep run --scenes` takes it, for instance the lego scene at 200x200."""
    steps: tuple[int, ...] = (1, 250, 500, 1000, 2000, 4000)
    """Steps of the runs; the first, of one step, tells the price of starting."""
    method: str = "bn-ngp"
    """nerfstudio's name of the method."""
    seed: int = 0
    """Seed of all runs."""
    output_dir: Path = Path("outputs/ngp_budget")
    """Folder of the runs."""


def main(config: NGPBudget) -> None:
    """Run, and write benchmarks/results/ngp_budget."""
    output_dir = config.output_dir.resolve()
    scene = Scene.parse(config.scene)
    rows: list[dict[str, Cell]] = []
    start = 0.0
    for steps in sorted(config.steps):
        run = Run(scene, Method(config.method, config.method), config.seed, steps)
        result = run_or_recall(run, output_dir)
        if steps == 1:
            start = result.seconds
            continue
        speed = result.metrics["num_rays_per_sec"]
        print(f"{steps} steps: {result.metrics['psnr']:.2f} dB", flush=True)
        rows.append(
            {
                "steps": steps,
                "training s": round(result.seconds - start, 1),
                "whole command s": round(result.seconds, 1),
                "PSNR dB": round(result.metrics["psnr"], 2),
                "SSIM": round(result.metrics["ssim"], 4),
                "a view of 200x200, s": round(VIEW / speed, 3),
            }
        )
    facts: dict[str, Cell] = {**machine_facts(), "scene": scene.name, "seed": config.seed}
    write_table(
        "ngp_budget",
        f"What {config.method} reaches: {scene.name}",
        command_behind(f"python -m benchmarks.ngp_budget --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        [f"Training seconds are those of the command less those of a command of one step ({start:.1f} s)."],
        folder=RESULTS,
    )


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPBudget))
