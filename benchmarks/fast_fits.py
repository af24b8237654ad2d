"""What quality the commands reach within a time limit of some seconds, from start to end of the process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.errors import UserError, exit_on_user_error
from bn_field_plugin.files import write_whole
from standalone.image.images import Picture, write_picture
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

SQUARE = 512
"""Side of the picture that the default network is fitted to."""


@dataclass(frozen=True)
class FastFits:
    """Run the commands themselves, one after the other; those that have finished are not repeated."""

    photos: tuple[Path, ...]
    """Photos of 768 x 512 pixels; the default network has the square in their middle."""
    shapes: tuple[Path, ...]
    """Files of meshes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each case runs once with each seed."""
    threads: int = 2
    """Threads of each command."""
    output_dir: Path = Path("outputs/fast_fits")
    """Folder of the runs."""


@dataclass(frozen=True)
class Case:
    """A command, and the quality that it is to reach."""

    program: str
    """image or shape."""
    file: Path
    """The file that is fitted."""
    network: str | None
    """The network; None for the default."""
    limit: int
    """Seconds of the whole command."""
    metric: str
    """Name of the quality in metrics.json."""
    target: float | None
    """Least value that counts as met; None where nothing is asked."""

    @property
    def name(self) -> str:
        """Name of its runs."""
        return f"{self.program}-{self.file.stem}-{self.network or 'default'}-{self.limit}"

    def command(self, seed: int, folder: Path) -> list[str]:
        """Words of the command."""
        network = [] if self.network is None else ["--network", self.network]
        limits = ["--time-limit", str(self.limit), "--seed", str(seed)]
        place = [str(self.file), "--output-dir", str(folder)]
        return [sys.executable, "-m", f"standalone.{self.program}", "fit", *place, *network, *limits]


def main(config: FastFits) -> None:
    """Run, and write benchmarks/results/fast_fits."""
    folder = config.output_dir.resolve()
    cases = cases_of(config, folder)
    warm_up(cases, folder, config.threads)
    rows = []
    for case in cases:
        runs = [run_or_recall(case, seed, folder, config.threads) for seed in config.seeds]
        rows.append(row(case, runs))
        print(rows[-1], flush=True)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "threads": config.threads,
        "seeds": ", ".join(map(str, config.seeds)),
    }
    words = " ".join(
        ["--photos", *(p.name for p in config.photos), "--shapes", *(p.name for p in config.shapes)]
    )
    command = command_behind(f"python -m benchmarks.fast_fits {words}", config, ("photos", "shapes"))
    notes = [
        "Seconds are those of the whole command, from its start to its end as a process: Python, reading, "
        "fitting, exact statistics, metrics, pictures and meshes. Compiled loops were in numba's cache.",
        "PSNR in dB of the final network on 8-bit output; IoU on points near the surface. Means over seeds.",
    ]
    write_table("fast_fits", "Fits in seconds", command, rows, facts, notes, folder=RESULTS)


def cases_of(config: FastFits, folder: Path) -> list[Case]:
    """The cases for all photos and shapes.

    Raises:
        UserError: a photo without a square of 512 pixels in it.
    """
    cases = []
    for photo in config.photos:
        picture = load(str(photo), SQUARE)
        if picture.width < SQUARE:
            raise UserError(f"{photo} has a side of {picture.width} pixels: give photos of 768 x 512")
        square = folder / f"{photo.stem}-square.png"
        write_picture(square, Picture(picture.pixels, "png"))
        cases.append(Case("image", square, None, 60, "psnr", 32.0))
        cases.append(Case("image", photo.resolve(), "hash", 10, "psnr", 35.0))
    for shape in config.shapes:
        cases.append(Case("shape", shape.resolve(), "hash", 15, "iou_near_surface", 0.98))
        cases.append(Case("shape", shape.resolve(), None, 60, "iou_near_surface", None))
    return cases


def warm_up(cases: list[Case], folder: Path, threads: int) -> None:
    """Let each program compile its loops once."""
    for program in dict.fromkeys(case.program for case in cases):
        case = next(one for one in cases if one.program == program and one.network is not None)
        if not list(folder.glob(f"{program}-*/result.json")):
            run_child(case, 0, folder / f"{program}-warm-up", threads)


def run_or_recall(case: Case, seed: int, folder: Path, threads: int) -> dict[str, Any]:
    """What a run gave: its metrics, and `wall`, the seconds of its process."""
    place = folder / f"{case.name}-seed{seed}"
    record = place / "result.json"
    if not record.is_file():
        wall = run_child(case, seed, place / "fit", threads)
        metrics = json.loads((place / "fit" / "metrics.json").read_text(encoding="utf-8"))
        write_whole(record, json.dumps({**metrics, "wall": wall}) + "\n")
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return found


def run_child(case: Case, seed: int, folder: Path, threads: int) -> float:
    """Run a command to its end; seconds that took.

    Raises:
        UserError: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run(
        case.command(seed, folder), env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"{case.name} failed: {done.stderr.strip()}")
    return time.perf_counter() - start


def row(case: Case, runs: list[dict[str, Any]]) -> dict[str, Cell]:
    """A row of the table."""
    values = [run[case.metric] for run in runs]
    mean = statistics.mean(values)
    walls = [run["wall"] for run in runs]
    return {
        "fit": f"bn-{case.program} fit {case.file.name}",
        "network": case.network or "default",
        "limit s": case.limit,
        "whole command s": round(statistics.median(walls), 1),
        "longest s": round(max(walls), 1),
        "metric": case.metric,
        "mean": round(mean, 4),
        "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "target": case.target,
        "met": None if case.target is None else mean >= case.target,
        "steps": round(statistics.mean(run["steps"] for run in runs)),
        "training s": round(statistics.median(run["seconds"] for run in runs), 1),
    }


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(FastFits))
