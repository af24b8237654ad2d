"""The 5D panel of Cai et al.: Plenoxel, SIREN, NeRF, nerfacto and methods with batch norm, on one scene.

Methods are compared at equal steps, and at equal minutes of the whole training command. Runs follow one
another. The runs are those of `bn-sweep`, which keeps what has finished: a stopped command goes on where it
was.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from benchmarks import RESULTS
from benchmarks.nerfacto import NERFACTO_ON_BLENDER, NERFACTO_RATES
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.plots import new_figure, save_figure
from standalone.provenance import command_behind
from standalone.report import Cell, write_table
from standalone.sweep.budget import pace_of
from standalone.sweep.runs import VIEWS, Method, Result, Run, run_or_recall
from standalone.sweep.scenes import Scene
from standalone.sweep.table import mean_and_sd

TORCH_HASH_GRID = ("--pipeline.model.implementation", "torch")
"""The hash grid that both sides use: tiny-cuda-nn's runs on CUDA alone."""

METHODS = (
    Method("Plenoxel", "plenoxel"),
    Method("SIREN", "siren-nerf"),
    Method("NeRF, small", "nerf-small"),
    Method("nerfacto", "nerfacto", (*NERFACTO_ON_BLENDER, *NERFACTO_RATES)),
    Method("NeRF, small + BN", "bn-nerf-small"),
    Method("nerfacto + BN", "bn-nerfacto", TORCH_HASH_GRID),
    Method("ngp", "ngp"),
    Method("ngp + BN", "bn-ngp"),
)
"""Panels of the figure, in its order. bn-nerfacto finds a Blender scene's settings by itself."""

ADAPTS_ITS_RAYS = frozenset({"ngp", "bn-ngp"})
"""nerfstudio's names of the methods whose steps hold a number of samples, and as many rays as that takes."""

PAIRS = (
    ("NeRF, small + BN", "NeRF, small", None),
    ("nerfacto + BN", "nerfacto", 1.0),
    ("ngp + BN", "ngp", None),
)
"""Methods with batch norm, those without that they are measured against, and the least gain wanted, in dB."""

STEPS = "equal steps"
"""Name of the budget in steps; the others are in minutes."""

FIGURES = Path(__file__).parents[1] / "docs" / "images"
"""Folder of the figure, in the repository."""

PILOT_SEED = 0
"""Seed of the runs that tell what a step costs."""

Results = dict[tuple[str, str], dict[int, tuple[Run, Result]]]
"""Runs by budget and label, one for each seed."""


@dataclass(frozen=True)
class Methods:
    """Train all methods with each seed, at equal steps and at equal minutes, and evaluate them."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    methods: tuple[str, ...] = tuple(method.label for method in METHODS)
    """Labels of the methods to run."""
    steps: int | None = 250
    """Steps of each run, at equal steps; None leaves them out."""
    minutes: tuple[float, ...] = (1.5,)
    """Minutes of each run's training command, one comparison for each number; pilot runs tell how many steps
    fit in."""
    rays: int = 512
    """Rays in a step, of all methods but ngp and bn-ngp, whose steps hold a number of samples instead."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each method for each seed and budget."""
    test_views: int = 2
    """Test views, evenly chosen: nerfacto takes a minute for each on a CPU."""
    more: tuple[str, ...] = ()
    """Further methods, with their options, such as bn-mipnerf; NAME=... gives one a name."""
    name: str = "methods"
    """Name of the table in benchmarks/results, and of the figure in docs/images."""
    threads: int | None = None
    """Threads of each run; None leaves them to torch."""
    output_dir: Path = Path("outputs/methods")
    """Folder of the runs."""
    write_here: bool = False
    """Leave table and figure in the output folder, not in the repository: for a trial."""


def main(config: Methods) -> None:
    """Run, and write benchmarks/results/methods and docs/images/methods.png."""
    output_dir = config.output_dir.resolve()
    folder = output_dir / f"scene-{config.test_views}"
    scene = Scene.parse(str(config.data)).fewer_views(folder, test=config.test_views)
    methods = methods_of(config)
    budgets = [*([] if config.steps is None else [STEPS]), *(f"{time:g} minutes" for time in config.minutes)]

    def run(method: Method, seed: int, steps: int) -> Run:
        return Run(scene, method, seed, steps, config.threads, views=True)

    results: Results = {}
    for seed in config.seeds:
        for method in methods:
            steps = [] if config.steps is None else [config.steps]
            for time in config.minutes:
                pace = pace_of(run(method, PILOT_SEED, 0), 60 * time, output_dir)
                steps.append(pace.steps(60 * time))
            for budget, number in zip(budgets, steps, strict=True):
                this = run(method, seed, number)
                result = run_or_recall(this, output_dir)
                results.setdefault((budget, method.label), {})[seed] = (this, result)
                print(f"{budget}: {this.title()}: {result.metrics['psnr']:.2f} dB", flush=True)
    seconds = sum(one.seconds + one.eval_seconds for by in results.values() for _, one in by.values())
    facts: dict[str, Cell] = {
        **result.machine,
        "scene": config.data.name,
        "rays in a step": config.rays,
        "test views": config.test_views,
        "seeds": ", ".join(map(str, config.seeds)),
        "minutes of all runs": round(seconds / 60, 1),
    }
    labels = [method.label for method in methods]
    write_table(
        config.name,
        "The 5D panel of Cai et al.",
        command_behind(
            f"python -m benchmarks.methods --data {config.data.name}", config, ("data", "write_here")
        ),
        [row(budget, label, results[budget, label]) for budget in budgets for label in labels],
        facts,
        [*gains(results, budgets, labels), *NOTES],
        folder=output_dir if config.write_here else RESULTS,
    )
    folder = output_dir if config.write_here else FIGURES
    write_figure(folder / f"{config.name}.png", results, budgets, labels, output_dir)


def methods_of(config: Methods) -> list[Method]:
    """The methods to run, in the figure's order, each with its rays in a step where it has a number of them.

    Raises:
        UserError: `--methods` names none of the panel's.
    """
    known = {method.label: method for method in METHODS}
    for label in config.methods:
        if label not in known:
            raise UserError(f"--methods {label!r} is not in the panel: it has {', '.join(known)}")
    chosen = [known[label] for label in config.methods] + [Method.parse(text) for text in config.more]
    rays = ("--pipeline.datamanager.train-num-rays-per-batch", str(config.rays))
    return [
        method
        if method.name in ADAPTS_ITS_RAYS
        else Method(method.label, method.name, (*method.options, *rays))
        for method in chosen
    ]


NOTES = (
    "Equal minutes are those of the whole training command, start of Python and loading of data included. "
    "Times are medians over the seeds.",
    "nerfacto has the settings that nerfstudio's developers give for synthetic scenes, and Adam at 3e-2, "
    "which served it better than its own 1e-2 in short runs; its own slow decay did better than a cosine. "
    "bn-nerfacto has its defaults; it samples rays inside the scene's box alone, for which nerfacto has no "
    "option.",
)
"""Sentences under the table, for judging the comparison."""


def row(budget: str, label: str, runs: Mapping[int, tuple[Run, Result]]) -> dict[str, Cell]:
    """A row of the table: means over seeds, medians of times, which other work on the machine moves less."""
    results = [result for _, result in runs.values()]
    psnr, psnr_sd = mean_and_sd([result.metrics["psnr"] for result in results], 2)
    ssim, _ = mean_and_sd([result.metrics["ssim"] for result in results], 4)
    return {
        "budget": budget,
        "method": label,
        "steps": next(iter(runs.values()))[0].steps,
        "wall s": round(statistics.median(result.seconds for result in results), 1),
        "PSNR dB": psnr,
        "PSNR sd": psnr_sd,
        "SSIM": ssim,
        "eval rays/s": round(statistics.median(result.metrics["num_rays_per_sec"] for result in results)),
    }


def gains(results: Results, budgets: Sequence[str], labels: Sequence[str]) -> list[str]:
    """What batch norm gains, seed by seed, at each budget, where both sides were run."""
    lines = []
    for budget in budgets:
        for ours, plain, target in PAIRS:
            if ours not in labels or plain not in labels:
                continue
            pairs = zip(results[budget, ours].values(), results[budget, plain].values(), strict=True)
            gain, sd = mean_and_sd([a.metrics["psnr"] - b.metrics["psnr"] for (_, a), (_, b) in pairs], 2)
            line = f"{ours} over {plain}, {budget}: {gain:+.2f} dB"
            if sd is not None:
                line += f", standard deviation {sd:.2f} over seeds"
            if target is not None:
                line += f"; target at least {target:+g} dB ({'met' if gain >= target else 'missed'})"
            lines.append(f"{line}.")
    return lines


def write_figure(
    path: Path, results: Results, budgets: Sequence[str], labels: Sequence[str], output_dir: Path
) -> None:
    """The first test view as each method renders it after the first seed's runs, its PSNR beneath.

    Args:
        path: the PNG.
        results: all runs.
        budgets: from top to bottom.
        labels: methods, from left to right.
        output_dir: folder of the runs.
    """
    figure, axes = new_figure(len(budgets), 1 + len(labels), size=(1.5, 1.85))
    for line, budget in zip(axes, budgets, strict=True):
        for axis, label in zip(line[1:], labels, strict=True):
            run, _ = next(iter(results[budget, label].values()))
            truth, view = first_view(run.folder(output_dir) / VIEWS)
            axis.imshow(view)
            caption = f"{psnr_of(truth, view):.2f} dB"
            if budget != STEPS:
                caption += f"\n{run.steps} steps"
            axis.set_title(label, fontsize=8)
            axis.set_xlabel(caption, fontsize=8)
        line[0].imshow(truth)
        line[0].set_title("ground truth", fontsize=8)
        line[0].set_ylabel(budget, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
    save_figure(figure, path, dpi=110, palette=True)


def first_view(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The true and the rendered picture of the first test view, 8-bit; nerfstudio keeps them side by side."""
    with Image.open(folder / "eval_img_0000.png") as image:
        truth, view = np.split(np.asarray(image.convert("RGB")), 2, axis=1)
    return truth, view


def psnr_of(truth: np.ndarray, view: np.ndarray) -> float:
    """PSNR in dB of an 8-bit picture."""
    error = (truth.astype(np.float64) - view.astype(np.float64)) / 255
    return float(-10 * np.log10(np.mean(error**2)))


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(Methods))
