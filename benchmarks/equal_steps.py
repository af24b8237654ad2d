"""Quality at equal steps: bn-nerf-small against nerf-small, which differ in the norm alone.

Each method has the learning rate that was best for it (see `bn_field_plugin.method_configs`).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from benchmarks.commands import evaluate, train
from standalone.report import machine_facts, write_table


@dataclass(frozen=True)
class EqualSteps:
    """Train both methods for the same steps with each seed, and evaluate on all test views."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    steps: int = 1000
    """Training steps of each run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each method for each seed."""
    output_dir: Path = Path("outputs/equal_steps")
    """Folder of the runs."""


def main(config: EqualSteps) -> None:
    """Run, and write benchmarks/results/equal_steps."""
    command = f"python -m benchmarks.equal_steps --data {config.data.name}"
    rows, gains, minutes = [], [], 0.0
    for seed in config.seeds:
        psnr = {}
        for method in ("nerf-small", "bn-nerf-small"):
            run = train(
                method,
                ["blender-data", "--data", config.data],
                config.output_dir / f"{method}-{seed}",
                steps=config.steps,
                seed=seed,
            )
            metrics = evaluate(run)
            psnr[method] = metrics["psnr"]
            minutes += run.seconds / 60
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "PSNR dB": round(metrics["psnr"], 2),
                    "SSIM": round(metrics["ssim"], 4),
                }
            )
        gains.append(psnr["bn-nerf-small"] - psnr["nerf-small"])
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    notes = [
        f"Gain of batch norm: {statistics.mean(gains):+.2f} dB, standard deviation {spread:.2f} over "
        f"{len(gains)} seeds; target at least +1.5 dB.",
        "Both train their hidden matrices with Muon; each learning rate is the best of those tried (5e-3 to "
        "5e-2).",
    ]
    facts = {
        **machine_facts(),
        "scene": config.data.name,
        "steps": config.steps,
        "minutes": round(minutes, 1),
    }
    write_table("equal_steps", "Quality at equal steps", command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    main(tyro.cli(EqualSteps))
