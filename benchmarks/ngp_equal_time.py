"""bn-ngp and ngp against nerfacto (torch) at equal wall clock of the whole training command.

Pilot runs tell how many steps of each method fit in. The runs are `bn-sweep`'s: those that have finished are
not repeated, so the command can be stopped and given again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from benchmarks.nerfacto import NERFACTO_ON_BLENDER, NERFACTO_RATES
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table
from standalone.sweep.budget import pace_of
from standalone.sweep.runs import Method, Run, run_or_recall
from standalone.sweep.scenes import Scene

NERFACTO = "nerfacto (torch)"


@dataclass(frozen=True)
class NGPEqualTime:
    """Train the three methods for the same wall clock, and evaluate them on the same test views."""

    scene: str
    """Scene, as `bn-sweep run --scenes` takes it, for instance the lego scene at 200x200."""
    seconds: tuple[float, ...] = (60.0, 350.0)
    """Budgets."""
    nerfacto_rays: int = 1024
    """Rays in a step of nerfacto; on two cores fewer rays and more steps serve it better than its 4,096."""
    test_views: int | None = 4
    """Test views, evenly chosen: nerfacto takes a minute for each on a CPU. None for all, as of a scene that
    is not in Blender's format."""
    target: float = 6.0
    """Least gain of bn-ngp over nerfacto wanted, in dB."""
    seed: int = 0
    """Seed of all runs."""
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
    methods = (
        Method(NERFACTO, "nerfacto", (*settings, *NERFACTO_RATES, *rays)),
        Method("ngp", "ngp"),
        Method("bn-ngp", "bn-ngp"),
    )
    rows: list[dict[str, Cell]] = []
    notes: list[str] = []
    for budget in config.seconds:
        psnr: dict[str, float] = {}
        for method in methods:
            pace = pace_of(Run(scene, method, config.seed, 0), budget, output_dir)
            run = Run(scene, method, config.seed, pace.steps(budget))
            result = run_or_recall(run, output_dir)
            psnr[method.label] = result.metrics["psnr"]
            print(f"{budget:g} s: {method.label}: {psnr[method.label]:.2f} dB", flush=True)
            rows.append(
                {
                    "budget s": budget,
                    "method": method.label,
                    "steps": run.steps,
                    "wall s": round(result.seconds, 1),
                    "PSNR dB": round(result.metrics["psnr"], 2),
                    "SSIM": round(result.metrics["ssim"], 4),
                    "eval rays/s": round(result.metrics["num_rays_per_sec"]),
                }
            )
        gain, norm = psnr["bn-ngp"] - psnr[NERFACTO], psnr["bn-ngp"] - psnr["ngp"]
        notes.append(
            f"{budget:g} s: bn-ngp over nerfacto {gain:+.2f} dB; target at least {config.target:+g} dB "
            f"({'met' if gain >= config.target else 'missed'}). Over ngp {norm:+.2f} dB."
        )
    facts: dict[str, Cell] = {
        **machine_facts(),
        "scene": scene.name,
        "test views": "all" if config.test_views is None or not is_blender else config.test_views,
        "rays in a step of nerfacto": config.nerfacto_rays,
        "seed": config.seed,
    }
    write_table(
        config.name,
        f"Equal wall clock with nerfacto: {scene.name}",
        command_behind(f"python -m benchmarks.ngp_equal_time --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        [
            *notes,
            "Wall clock is that of the whole training command, start of Python and loading of data included.",
        ],
        folder=RESULTS,
    )


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPEqualTime))
