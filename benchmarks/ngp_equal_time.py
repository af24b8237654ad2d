"""bn-ngp and ngp against nerfacto (torch) at equal wall clock of the whole training command.

Pilot runs tell how many steps of each method fit in. The runs are those of `bn-sweep`, which keeps what has
finished: a stopped command goes on where it was.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from benchmarks.nerfacto import NERFACTO_ON_BLENDER, NERFACTO_RATES
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, write_table
from standalone.sweep.budget import pace_of
from standalone.sweep.runs import Method, Result, Run, run_or_recall
from standalone.sweep.scenes import Scene
from standalone.sweep.table import mean_and_sd

NERFACTO = "nerfacto (torch)"

PILOT_SEED = 0
"""Seed of the runs that tell what a step costs."""


@dataclass(frozen=True)
class NGPEqualTime:
    """Train the three methods for the same wall clock, and evaluate them on the same test views."""

    scene: str
    """Scene, as `bn-sweep run --scenes` takes it, for instance the lego scene at 200x200."""
    seconds: tuple[float, ...] = (60.0, 350.0)
    """Budgets in seconds of the whole training command."""
    nerfacto_rays: int = 512
    """Rays in a step of nerfacto; on two cores fewer rays and more steps serve it better than its 4,096."""
    ngp_rate: float | None = None
    """Adam's learning rate of ngp; None for its own."""
    bn_ngp_rate: float | None = None
    """Adam's learning rate of bn-ngp; None for its own."""
    methods: tuple[str, ...] = (NERFACTO, "ngp", "bn-ngp")
    """Methods to run, with bn-ngp among them."""
    test_views: int | None = 4
    """Test views, evenly chosen: nerfacto takes a minute for each on a CPU. None for all, which other scenes
    than those in Blender's format always have."""
    target: float = 6.0
    """Least gain of bn-ngp over nerfacto wanted, in dB."""
    seeds: tuple[int, ...] = (0,)
    """One run of each method for each seed and budget."""
    name: str = "ngp_equal_time"
    """Name of the table in benchmarks/results."""
    output_dir: Path = Path("outputs/ngp_equal_time")
    """Folder of the runs."""


def main(config: NGPEqualTime) -> None:
    """Run, and write the table."""
    output_dir = config.output_dir.resolve()
    scene = Scene.parse(config.scene)
    is_blender = scene.words[0] == "blender-data"
    if config.test_views is not None and is_blender:
        scene = scene.fewer_views(output_dir / f"scene-{config.test_views}", test=config.test_views)
    rays = ("--pipeline.datamanager.train-num-rays-per-batch", str(config.nerfacto_rays))
    settings = NERFACTO_ON_BLENDER if is_blender else ("--pipeline.model.implementation", "torch")
    known = (
        Method(NERFACTO, "nerfacto", (*settings, *NERFACTO_RATES, *rays)),
        Method("ngp", "ngp", rate_options(config.ngp_rate)),
        Method("bn-ngp", "bn-ngp", rate_options(config.bn_ngp_rate)),
    )
    unknown = set(config.methods) - {method.label for method in known}
    if unknown or "bn-ngp" not in config.methods:
        raise UserError(f"--methods takes bn-ngp, and of {NERFACTO!r} and ngp those to compare it with")
    methods = [method for method in known if method.label in config.methods]
    rows: list[dict[str, Cell]] = []
    notes: list[str] = []
    for budget in config.seconds:
        results: dict[str, list[Result]] = {}
        steps = {
            method.label: pace_of(Run(scene, method, PILOT_SEED, 0), budget, output_dir).steps(budget)
            for method in methods
        }
        for seed in config.seeds:
            for method in methods:
                run = Run(scene, method, seed, steps[method.label])
                result = run_or_recall(run, output_dir)
                results.setdefault(method.label, []).append(result)
                print(f"{budget:g} s: {run.title()}: {result.metrics['psnr']:.2f} dB", flush=True)
        rows += [row(budget, label, steps[label], by_seed) for label, by_seed in results.items()]
        ours = results.pop("bn-ngp")
        for label, others in results.items():
            notes.append(gain(budget, label, ours, others, config.target if label == NERFACTO else 0.0))
    facts: dict[str, Cell] = {
        **ours[-1].machine,
        "scene": scene.name,
        "test views": "all" if config.test_views is None or not is_blender else config.test_views,
        "rays in a step of nerfacto": config.nerfacto_rays,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    write_table(
        config.name,
        f"Equal wall clock: {scene.name}",
        command_behind(f"python -m benchmarks.ngp_equal_time --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        [
            *notes,
            "Wall clock is that of the whole training command, start of Python and loading of data included.",
        ],
        folder=RESULTS,
    )


def rate_options(rate: float | None) -> tuple[str, ...]:
    """What sets the learning rate of a method on a hash grid; nothing for its own."""
    return () if rate is None else ("--optimizers.fields.optimizer.lr", f"{rate:g}")


def row(budget: float, label: str, steps: int, results: Sequence[Result]) -> dict[str, Cell]:
    """A row of the table: means over seeds, medians of times, which other work on the machine moves less."""
    psnr, sd = mean_and_sd([result.metrics["psnr"] for result in results], 2)
    ssim, _ = mean_and_sd([result.metrics["ssim"] for result in results], 4)
    return {
        "budget s": budget,
        "method": label,
        "steps": steps,
        "wall s": round(statistics.median(result.seconds for result in results), 1),
        "PSNR dB": psnr,
        "PSNR sd": sd,
        "SSIM": ssim,
        "peak GB": round(max(result.peak_bytes or 0 for result in results) / 1e9, 2),
        "eval rays/s": round(statistics.median(result.metrics["num_rays_per_sec"] for result in results)),
    }


def gain(budget: float, label: str, ours: Sequence[Result], others: Sequence[Result], target: float) -> str:
    """What bn-ngp gains over another method at a budget, seed by seed, beside the least that is wanted."""
    differences = [a.metrics["psnr"] - b.metrics["psnr"] for a, b in zip(ours, others, strict=True)]
    mean, sd = mean_and_sd(differences, 2)
    spread = "" if sd is None else f", standard deviation {sd:.2f} over seeds"
    # Without a number as the target, being even is not enough.
    is_met = mean >= target if target > 0 else mean > 0
    wanted = f"at least {target:+g} dB" if target > 0 else "above 0"
    gain_is = f"{budget:g} s: bn-ngp over {label} {mean:+.2f} dB{spread}"
    return f"{gain_is}; target {wanted} ({'met' if is_met else 'missed'})."


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPEqualTime))
