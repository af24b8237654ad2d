"""Whether torch.func is as fast as what is written by hand for batch norm in the structured kernel.

Both ways go backwards layer by layer; they differ in the gradients of the norm alone. CPU seconds, fp64.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal
from unittest import mock

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.ntk_speed import peak_gib
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig
from bn_field_plugin.ntk import ntk, random_points
from bn_field_plugin.ntk.row_norms import RowNorm
from standalone.report import Cell, machine_facts, write_table

Way = Literal["by hand", "torch.func"]


@dataclass(frozen=True)
class NTKGradients:
    """Measure kernels of networks with batch norm, coupled, with one thread."""

    networks: tuple[tuple[int, int], ...] = ((3, 64), (4, 256))
    """Hidden layers and units of each."""
    points: tuple[int, ...] = (256, 1024)
    """Numbers of random points."""
    rounds: int = 5
    """Kernels of each way and size, after one of 64 points; the median counts."""
    seed: int = 0
    """Seed of weights and points."""


def measure(config: NTKGradients, way: Way, depth: int, width: int, points: int) -> dict[str, Cell]:
    """Kernels of one way, in a process of its own for its memory."""
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    mlp = CoordinateMLP(CoordinateMLPConfig(2, 1, width, depth, norm="batch")).double()
    where = random_points(points, seed=config.seed)
    gradients = RowNorm._affine if way == "by hand" else RowNorm._differentiated
    with mock.patch.object(RowNorm, "_affine", gradients):
        ntk(mlp, where[:64], backend="structured")
        before, seconds = peak_gib(), []
        for _ in range(config.rounds):
            start = time.process_time()
            ntk(mlp, where, backend="structured")
            seconds.append(time.process_time() - start)
    seconds.sort()
    return {
        "network": f"{depth} x {width}",
        "points": points,
        "gradients": way,
        "CPU seconds": seconds[len(seconds) // 2],
        "range": f"{seconds[0]:.2f} to {seconds[-1]:.2f}",
        "GiB more": peak_gib() - before,
    }


def main(config: NTKGradients) -> None:
    """Run, and write benchmarks/results/ntk_gradients (.md, .json)."""
    spawn = multiprocessing.get_context("spawn")
    rows: list[dict[str, Cell]] = []
    ways: tuple[Way, ...] = ("by hand", "torch.func")
    for depth, width in config.networks:
        for points in config.points:
            for way in ways:
                with ProcessPoolExecutor(1, mp_context=spawn) as process:
                    rows.append(process.submit(measure, config, way, depth, width, points).result())
                print(rows[-1], flush=True)
    facts: dict[str, Cell] = {**machine_facts(), "threads": 1, "rounds": config.rounds, "seed": config.seed}
    notes = ["GiB more: what the process takes beyond what 64 points took."]
    command = f"python -m benchmarks.ntk_gradients --rounds {config.rounds}"
    title = "Gradients of batch norm in the structured kernel"
    write_table("ntk_gradients", title, command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    main(tyro.cli(NTKGradients))
