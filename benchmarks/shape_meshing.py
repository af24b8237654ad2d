"""Marching cubes of a folded network against the bare matrix products of the same network, in one run."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass

import torch
import tyro

from benchmarks import RESULTS
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.geometry.grid import POINTS_PER_CALL
from bn_field_plugin.nn import CoordinateMLP, calibrate, fold_norm
from standalone.networks import Variant
from standalone.report import Cell, machine_facts, write_table
from standalone.shape import inference


@dataclass(frozen=True)
class ShapeMeshing:
    """Time meshing and the bare products in turn."""

    resolution: int = 256
    """Grid points along each side."""
    width: int = 128
    """Units of each hidden layer."""
    depth: int = 3
    """Number of hidden layers."""
    rounds: int = 3
    """Number of rounds, in each of which both are timed once."""


def main(config: ShapeMeshing) -> None:
    """Run, and write benchmarks/results/shape_meshing."""
    keep_freed_memory()
    torch.manual_seed(0)
    network = CoordinateMLP(Variant("mlp", "batch").config(3, 1, config.width, config.depth))
    calibrate(network, [torch.rand(2**14, 3) * 2 - 1])
    folded = fold_norm(network)
    with torch.no_grad():
        level = float(folded(torch.rand(2**14, 3) * 2 - 1).median())
    rows: list[dict[str, Cell]] = []
    for _ in range(config.rounds):
        start = time.perf_counter()
        inference.surface(folded, config.resolution, level)
        ours = time.perf_counter() - start
        bare = bare_products(folded, config.resolution**3)
        rows.append({"marching cubes s": ours, "bare products s": bare, "ratio": ours / bare})
    ratio = statistics.median(float(row["ratio"] or 0) for row in rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    notes = [
        f"Median ratio {ratio:.2f}; target at most 1.3. Peak memory {peak:.2f} GiB.",
        f"Bare products: the network's matrix products on {POINTS_PER_CALL} points at a time; no "
        "coordinates, activations or surface.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "resolution": config.resolution,
        "layers x width": f"{config.depth}x{config.width}",
        "seed": 0,
    }
    command = f"python -m benchmarks.shape_meshing --resolution {config.resolution}"
    write_table(
        f"shape_meshing_{config.resolution}", "Marching cubes", command, rows, facts, notes, folder=RESULTS
    )


@torch.no_grad()
def bare_products(network: CoordinateMLP, points: int) -> float:
    """Seconds of the matrix products alone, on inputs in memory."""
    weights = [linear.weight for linear in network.linears]
    inputs = [torch.rand(POINTS_PER_CALL, weight.shape[1]) for weight in weights]
    outputs = [torch.empty(POINTS_PER_CALL, weight.shape[0]) for weight in weights]
    start = time.perf_counter()
    for _ in range(points // POINTS_PER_CALL):
        for x, weight, y in zip(inputs, weights, outputs, strict=True):
            torch.mm(x, weight.T, out=y)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(ShapeMeshing))
