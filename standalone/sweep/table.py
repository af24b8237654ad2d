"""The table of a sweep: mean and standard deviation over seeds."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bn_field_plugin.files import write_whole
from standalone.report import Cell, csv_text, machine_facts, write_table
from standalone.sweep.runs import Result, Run
from standalone.sweep.scenes import Scene

NAME = "table"
"""File name of the table, without ending."""

METRICS = {"psnr": "PSNR dB", "ssim": "SSIM", "lpips": "LPIPS", "num_rays_per_sec": "eval rays/s"}
"""Metrics of ns-eval and their columns, in the table's order."""

DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4, "num_rays_per_sec": 0}
"""Decimals that are kept of each."""


def summary_rows(results: Mapping[Run, Result]) -> list[dict[str, Cell]]:
    """One row for each scene, method and number of steps, in the order of the runs.

    Columns: scene, method, seeds (how many), steps, wall s, then mean and sd over the seeds of each metric
    that all of them have. The sd is the sample's, and empty for one seed. For several scenes, one more row
    for each method has the mean over scenes of its PSNR and SSIM means.
    """
    groups: dict[tuple[str, str, int], list[Result]] = {}
    names = _scene_names(results)
    for run, result in results.items():
        groups.setdefault((names[run.scene], run.method.label, run.steps), []).append(result)
    rows = [_row(*key, group) for key, group in groups.items()]
    scenes = {scene for scene, *_ in groups}
    if len(scenes) < 2:
        return rows
    for method in dict.fromkeys(method for _, method, _ in groups):
        mine = [row for row in rows if row["method"] == method]
        if len(mine) != len(scenes):
            continue  # its mean would be over other scenes or steps than those of others
        mean: dict[str, Cell] = {"scene": "mean of all", "method": method}
        for name in ("psnr", "ssim"):
            values = [float(value) for row in mine if (value := row.get(METRICS[name])) is not None]
            mean[METRICS[name]] = round(statistics.fmean(values), DIGITS[name])
        rows.append(mean)
    return rows


def _scene_names(runs: Iterable[Run]) -> dict[Scene, str]:
    """What the table calls each scene: its name, with its options where two scenes have one name."""
    scenes = list(dict.fromkeys(run.scene for run in runs))
    names = [scene.name for scene in scenes]
    return {
        scene: scene.name if names.count(scene.name) == 1 else f"{scene.name} ({shlex.join(scene.words)})"
        for scene in scenes
    }


def write_summary(
    results: Mapping[Run, Result], folder: Path, command: str, notes: Sequence[str] = ()
) -> None:
    """Write table.md, table.csv and table.json, and print the Markdown.

    Args:
        results: what the finished runs measured.
        folder: where to write.
        command: the command line that makes the table.
        notes: sentences under it.
    """
    rows = summary_rows(results)
    machines = {tuple(sorted(result.machine.items())) for result in results.values()}
    facts: dict[str, Cell] = dict(next(iter(results.values())).machine if results else machine_facts())
    facts["seeds"] = ", ".join(map(str, dict.fromkeys(run.seed for run in results)))
    facts["minutes"] = round(sum(result.seconds + result.eval_seconds for result in results.values()) / 60, 1)
    if len(machines) > 1:
        notes = [
            *notes,
            f"The runs are from {len(machines)} machines or set-ups; the first one's facts are shown.",
        ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_table(NAME, "Sweep", command, rows, facts, notes, folder=folder)
    write_whole(folder / f"{NAME}.csv", csv_text(rows, columns))


def mean_and_sd(values: Sequence[float], digits: int) -> tuple[float, float | None]:
    """Mean and the sample's standard deviation, rounded; no deviation for one value."""
    sd = round(statistics.stdev(values), digits) if len(values) > 1 else None
    return round(statistics.fmean(values), digits), sd


def _row(scene: str, method: str, steps: int, results: Sequence[Result]) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "scene": scene,
        "method": method,
        "seeds": len(results),
        "steps": steps,
        "wall s": round(statistics.fmean(result.seconds for result in results), 1),
    }
    for name, column in METRICS.items():
        if all(name in result.metrics for result in results):
            mean, sd = mean_and_sd([result.metrics[name] for result in results], DIGITS[name])
            row[column] = int(mean) if DIGITS[name] == 0 else mean
            if name != "num_rays_per_sec":
                row[f"{column.split()[0]} sd"] = sd
    return row
