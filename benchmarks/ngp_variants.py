"""Variants of bn-ngp by which its defaults were chosen: where the norm stands, and other settings.

The runs are those of `bn-sweep`, which keeps what has finished.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, write_table
from standalone.sweep.runs import Method, Run, run_or_recall
from standalone.sweep.scenes import Scene
from standalone.sweep.table import mean_and_sd

NETWORK = "--pipeline.model.network."
"""Beginning of the names of options of the hash grid and the networks."""

PLACES = {
    "both": (),
    "density": (f"{NETWORK}color-norm", "none"),
    "colour": (f"{NETWORK}density-norm", "none"),
}
"""Networks that have the norm."""

PLACEMENTS = ("before", "after")
"""Places of the norm in a layer, before or after the activation."""

SCALES = ("1e-4", "1e-2", "1e-1")
"""Sizes of the features in the initial tables."""

GRID = tuple(
    Method(
        f"norm in {place}, {placement} the activation, tables in +-{scale}",
        "bn-ngp",
        (*options, f"{NETWORK}placement", placement, f"{NETWORK}init-scale", scale),
    )
    for (place, options), placement, scale in itertools.product(PLACES.items(), PLACEMENTS, SCALES)
)
"""Variants in the norm's place and in the size of the features that it sees at the start."""

VARIANTS = (
    Method("default", "bn-ngp"),
    Method("without norm", "ngp"),
    Method("layer norm", "bn-ngp", ("--pipeline.model.norm", "layer")),
    Method("eps 1e-3", "bn-ngp", (f"{NETWORK}norm-eps", "1e-3")),
    Method("16 levels x 2", "bn-ngp", (f"{NETWORK}num-levels", "16", f"{NETWORK}features-per-level", "2")),
    Method("finest level 1,024", "bn-ngp", (f"{NETWORK}max-res", "1024")),
    Method("half the samples", "bn-ngp", ("--pipeline.model.samples-per-step", "8192")),
    Method("Adam's second beta 0.99", "bn-ngp", ("--optimizers.fields.optimizer.betas", "0.9", "0.99")),
    Method("learning rate 1e-2", "bn-ngp", ("--optimizers.fields.optimizer.lr", "1e-2")),
)
"""Variants in which one setting is changed."""


@dataclass(frozen=True)
class NGPVariants:
    """Train each variant for the same steps, and evaluate all test views."""

    scene: str
    """Scene, as `bn-sweep run --scenes` takes it, for instance the lego scene at 200x200."""
    steps: int = 500
    """Steps of each run."""
    seeds: tuple[int, ...] = (0,)
    """One run of each variant for each seed."""
    threads: int | None = None
    """Threads of each run; None leaves them to torch."""
    output_dir: Path = Path("outputs/ngp_variants")
    """Folder of the runs."""


def main(config: NGPVariants) -> None:
    """Run, and write benchmarks/results/ngp_variants."""
    output_dir = config.output_dir.resolve()
    scene = Scene.parse(config.scene)
    rows: list[dict[str, Cell]] = []
    for method in (*VARIANTS, *GRID):
        results = [
            run_or_recall(Run(scene, method, seed, config.steps, config.threads), output_dir)
            for seed in config.seeds
        ]
        psnr, sd = mean_and_sd([result.metrics["psnr"] for result in results], 2)
        print(f"{method.label}: {psnr:.2f} dB", flush=True)
        rows.append(
            {
                "variant": method.label,
                "PSNR dB": psnr,
                "PSNR sd": sd,
            }
        )
    facts: dict[str, Cell] = {
        **results[-1].machine,
        "scene": scene.name,
        "steps": config.steps,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    write_table(
        "ngp_variants",
        f"Variants of bn-ngp: {scene.name}, {config.steps} steps",
        command_behind(f"python -m benchmarks.ngp_variants --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        ["Each with its method's learning rate, but where the variant says another."],
        folder=RESULTS,
    )


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPVariants))
