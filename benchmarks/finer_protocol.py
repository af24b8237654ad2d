"""Batch norm against SIREN by FINER's protocol (Liu et al. 2024): 200x200, 25 training views, the rest test.

Both sides train for the same steps. Each side's learning rates are its defaults times the best of some
factors. A trial of a factor trains on 20 of the 25 views and is judged by the other five, so test views have
no part in the choice. FINER's networks have 4 + 4 layers of 182 units and train for 37,500 steps. A CPU
cannot do that, so the networks here are small and train for fewer steps. Runs that have finished are kept: a
stopped command goes on where it was.
"""

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
from standalone.sweep.table import mean_and_sd

TRAINING_VIEWS, TRIAL_VIEWS = 25, 20
"""Views that a run trains on, and those of them that a trial of learning rates trains on."""

OURS, SIREN = "bn-nerf-small", "siren-nerf"
"""The two sides."""

RATES = {OURS: (2e-2, 5e-3), SIREN: (1e-3, 5e-4)}
"""Default learning rates of the matrices between hidden layers, and of all else."""


@dataclass(frozen=True)
class FinerProtocol:
    """Train bn-nerf-small and siren-nerf on 25 views with each seed, and evaluate on the other views."""

    data: Path
    """Blender-format scene at 200x200, for instance the lego scene."""
    steps: int = 1000
    """Steps of each run, trials included."""
    rays: int = 1024
    """Rays in a step."""
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Factors of the default learning rates that are tried on both sides with the first seed; one alone is
    taken without a trial."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each side for each seed."""
    test_views: int | None = None
    """Test views, evenly chosen; by default all that are not trained on."""
    threads: int | None = None
    """Threads of each run; None leaves them to torch."""
    output_dir: Path = Path("outputs/finer_protocol")
    """Folder of the runs."""
    write_here: bool = False
    """Leave the table in the output folder, not in the repository: for a trial."""


def main(config: FinerProtocol) -> None:
    """Run, and write benchmarks/results/finer_protocol."""
    output_dir = config.output_dir.resolve()
    whole = Scene.parse(str(config.data))
    views = config.test_views or "all"
    scene = whole.fewer_views(
        output_dir / f"scene-{views}", train=TRAINING_VIEWS, test=config.test_views, test_on="all"
    )
    trial_scene = scene.fewer_views(output_dir / "scene-trial", train=TRIAL_VIEWS, test_on="rest")

    def psnr_and_ssim(on: Scene, name: str, factor: float, seed: int) -> tuple[float, float]:
        run = Run(on, method(name, factor, config.rays), seed, config.steps, config.threads)
        metrics = run_or_recall(run, output_dir).metrics
        where = "trial" if on is trial_scene else "run"
        print(f"{where}: {run.title()}: {metrics['psnr']:.2f} dB", flush=True)
        return metrics["psnr"], metrics["ssim"]

    rows: list[dict[str, Cell]] = []
    psnr: dict[str, list[float]] = {}
    notes = []
    for name in (SIREN, OURS):
        best = config.factors[0]
        if len(config.factors) > 1:
            trials = {
                factor: psnr_and_ssim(trial_scene, name, factor, config.seeds[0])[0]
                for factor in config.factors
            }
            best = max(trials, key=lambda factor: trials[factor])
            tried = ", ".join(f"x{factor:g}: {value:.2f} dB" for factor, value in trials.items())
            notes.append(f"Trial of {name}'s learning rates on held-out training views: {tried}.")
        measured = [psnr_and_ssim(scene, name, best, seed) for seed in config.seeds]
        psnr[name] = [one[0] for one in measured]
        mean, sd = mean_and_sd(psnr[name], 2)
        hidden, rest = (best * rate for rate in RATES[name])
        rows.append(
            {
                "method": name,
                "learning rates": f"{hidden:g}, {rest:g}",
                "PSNR dB": mean,
                "PSNR sd": sd,
                "SSIM": mean_and_sd([one[1] for one in measured], 4)[0],
            }
        )
    gain, sd = mean_and_sd([a - b for a, b in zip(psnr[OURS], psnr[SIREN], strict=True)], 2)
    spread = "" if sd is None else f", standard deviation {sd:.2f} over seeds"
    notes.insert(0, f"{OURS} over {SIREN}: {gain:+.2f} dB{spread}.")
    facts: dict[str, Cell] = {
        **machine_facts(),
        "scene": config.data.name,
        "training views": TRAINING_VIEWS,
        "test views": views,
        "steps": config.steps,
        "rays in a step": config.rays,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    write_table(
        "finer_protocol",
        "Batch norm against SIREN, 25 training views",
        command_behind(
            f"python -m benchmarks.finer_protocol --data {config.data.name}", config, ("data", "write_here")
        ),
        rows,
        facts,
        notes,
        folder=output_dir if config.write_here else RESULTS,
    )


def method(name: str, factor: float, rays: int) -> Method:
    """One side with its learning rates times a factor."""
    hidden, rest = (factor * rate for rate in RATES[name])
    options = (
        *("--optimizers.hidden-matrices.optimizer.lr", f"{hidden:g}"),
        *("--optimizers.fields.optimizer.lr", f"{rest:g}"),
        *("--pipeline.datamanager.train-num-rays-per-batch", str(rays)),
    )
    return Method(f"{name} x{factor:g}", name, options)


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(FinerProtocol))
