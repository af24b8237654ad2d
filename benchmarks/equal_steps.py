"""Quality at equal steps: bn-nerf-small against nerf-small, which differ in the norm alone.

There are two tables: one with Muon for the hidden matrices, one with Adam for everything, as Cai et al.
train. Each side has the learning rates that were best for it among those tried (`RATES`).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import RESULTS
from standalone.report import Cell, machine_facts, write_table
from standalone.sweep.nerfstudio_commands import evaluate, train

METHODS = ("nerf-small", "bn-nerf-small")
"""The plain side, and the one with batch norm."""


@dataclass(frozen=True)
class Rates:
    """Learning rates of one side."""

    hidden: float
    """Learning rate of the matrices between hidden layers."""
    rest: float
    """Learning rate of all other parameters."""


RATES = {
    "muon": {"nerf-small": Rates(2e-2, 5e-3), "bn-nerf-small": Rates(2e-2, 5e-3)},
    "adam": {"nerf-small": Rates(1e-2, 1e-2), "bn-nerf-small": Rates(5e-3, 5e-3)},
}
"""The best of those tried: with Muon 5e-3 to 5e-2, with Adam 2e-3 to 1e-2 (`--rates` tries others)."""


@dataclass(frozen=True)
class EqualSteps:
    """Train both methods for the same steps with each seed, and evaluate on all test views."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    steps: int = 1000
    """Training steps of each run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each method for each seed."""
    optimizer: Literal["muon", "adam"] = "muon"
    """Optimizer of the hidden matrices, on both sides; all else trains with Adam."""
    rates: tuple[float, ...] = ()
    """Learning rates to try on both sides instead of the best known, one run of each for each seed; the
    table then lands in the output folder."""
    output_dir: Path = Path("outputs/equal_steps")
    """Folder of the runs."""


def main(config: EqualSteps) -> None:
    """Run, and write the table into benchmarks/results."""
    trials = [{method: Rates(rate, rate) for method in METHODS} for rate in config.rates]
    rows: list[dict[str, Cell]] = []
    gains, minutes = [], 0.0
    for seed in config.seeds:
        for rates in trials or [RATES[config.optimizer]]:
            psnr = {}
            for method in METHODS:
                hidden, rest = rates[method].hidden, rates[method].rest
                run = train(
                    method,
                    ["blender-data", "--data", config.data],
                    config.output_dir / f"{config.optimizer}-{method}-{hidden:g}-{seed}",
                    steps=config.steps,
                    seed=seed,
                    options=(
                        *("--optimizers.hidden-matrices.optimizer.algorithm", config.optimizer),
                        *("--optimizers.hidden-matrices.optimizer.lr", str(hidden)),
                        *("--optimizers.fields.optimizer.lr", str(rest)),
                    ),
                )
                metrics = evaluate(run)
                psnr[method] = metrics["psnr"]
                minutes += run.cost.seconds / 60
                rows.append(
                    {
                        "method": method,
                        "seed": seed,
                        "learning rates": f"{hidden:g}, {rest:g}",
                        "PSNR dB": round(metrics["psnr"], 2),
                        "SSIM": round(metrics["ssim"], 4),
                    }
                )
                print(rows[-1], flush=True)
            gains.append(psnr["bn-nerf-small"] - psnr["nerf-small"])
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    notes = [
        f"Gain of batch norm: {statistics.mean(gains):+.2f} dB, standard deviation {spread:.2f} over "
        f"{len(gains)} seeds; target at least +1.5 dB.",
        "Learning rates are those of the hidden matrices and of all else, each the best of those tried.",
    ]
    facts = {
        **machine_facts(),
        "scene": config.data.name,
        "steps": config.steps,
        "optimizer": config.optimizer,
        "minutes": round(minutes, 1),
    }
    name = "equal_steps" if config.optimizer == "muon" else f"equal_steps_{config.optimizer}"
    options = "" if config.optimizer == "muon" else f" --optimizer {config.optimizer}"
    write_table(
        name,
        f"Quality at equal steps, {config.optimizer.capitalize()}",
        f"python -m benchmarks.equal_steps --data {config.data.name}{options}",
        rows,
        facts,
        [] if trials else notes,
        folder=config.output_dir if trials else RESULTS,
    )


if __name__ == "__main__":
    main(tyro.cli(EqualSteps))
