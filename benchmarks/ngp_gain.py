"""What batch norm brings behind a hash grid: bn-ngp against ngp at equal steps, each with its best Adam.

The first seed tries all numbers of Adam, and the other seeds run with the best ones. The runs are those of
`bn-sweep`, which keeps what has finished: a stopped command goes on where it was.
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
from standalone.sweep.runs import Method, Result, Run, run_or_recall
from standalone.sweep.scenes import Scene
from standalone.sweep.table import mean_and_sd

METHODS = ("ngp", "bn-ngp")
"""The methods without and with batch norm."""


@dataclass(frozen=True)
class NGPGain:
    """Train ngp and bn-ngp for the same steps, and evaluate all test views."""

    scene: str = "bn-demo-data"
    """Scene, as `bn-sweep run --scenes` takes it: a folder, or a dataparser."""
    steps: int = 500
    """Steps of each run, at whose end the learning rate's schedule ends too."""
    rates: tuple[float, ...] = (1e-2, 2e-2, 4e-2)
    """Learning rates of Adam that the first seed tries."""
    second_betas: tuple[float, ...] = (0.95, 0.99)
    """Second betas of Adam that are tried with each rate; empty for each method's own."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each method for each seed."""
    target: float | None = 3.0
    """Least gain wanted, in dB."""
    name: str = "ngp_gain_demo"
    """Name of the table in benchmarks/results."""
    threads: int | None = None
    """Threads of each run; None leaves them to torch."""
    output_dir: Path = Path("outputs/ngp_gain")
    """Folder of the runs."""


def main(config: NGPGain) -> None:
    """Run, and write the table."""
    output_dir = config.output_dir.resolve()
    scene = Scene.parse(config.scene)
    rows: list[dict[str, Cell]] = []
    best: dict[str, list[float]] = {}

    def run(method: str, adam: tuple[float, float | None], seed: int) -> Result:
        rate, beta = adam
        options = ["--optimizers.fields.optimizer.lr", f"{rate:g}"]
        if beta is not None:
            options += ["--optimizers.fields.optimizer.betas", "0.9", f"{beta:g}"]
        tuned = Method(method, method, tuple(options))
        result = run_or_recall(Run(scene, tuned, seed, config.steps, config.threads), output_dir)
        print(f"{method}, Adam {adam}, seed {seed}: {result.metrics['psnr']:.2f} dB", flush=True)
        return result

    first, *others = config.seeds
    for method in METHODS:
        choices = itertools.product(config.rates, config.second_betas or (None,))
        tried = {adam: [run(method, adam, first)] for adam in choices}
        chosen = max(tried, key=lambda adam: tried[adam][0].metrics["psnr"])
        tried[chosen] += [run(method, chosen, seed) for seed in others]
        best[method] = [result.metrics["psnr"] for result in tried[chosen]]
        for (rate, beta), results in tried.items():
            psnr, sd = mean_and_sd([result.metrics["psnr"] for result in results], 2)
            ssim, _ = mean_and_sd([result.metrics["ssim"] for result in results], 4)
            rows.append(
                {
                    "method": method,
                    "rate": rate,
                    "second beta": beta,
                    "seeds": len(results),
                    "PSNR dB": psnr,
                    "PSNR sd": sd,
                    "SSIM": ssim,
                }
            )
    gain, sd = mean_and_sd([with_ - none for none, with_ in zip(*best.values(), strict=True)], 2)
    line = f"Gain of batch norm, each side with its best Adam: {gain:+.2f} dB"
    if sd is not None:
        line += f", standard deviation {sd:.2f} over seeds"
    if config.target is not None:
        line += f"; target at least {config.target:+g} dB ({'met' if gain >= config.target else 'missed'})"
    facts: dict[str, Cell] = {
        **results[-1].machine,
        "scene": scene.name,
        "steps": config.steps,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    write_table(
        config.name,
        f"Batch norm behind a hash grid: {scene.name}, {config.steps} steps",
        command_behind(f"python -m benchmarks.ngp_gain --scene {scene.name}", config, ("scene",)),
        rows,
        facts,
        [f"{line}."],
        folder=RESULTS,
    )


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPGain))
