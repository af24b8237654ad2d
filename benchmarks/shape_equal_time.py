"""Shapes at equal time: PEMLP-5 with batch norm against SIREN, each with its best learning rates."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.shapes import Score, fit_and_score, load_shapes, names_of
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.networks import Variant
from standalone.optimization import OptimizerName
from standalone.options import NetworkOptions, RunOptions
from standalone.report import Cell, machine_facts, write_table

CONTENDERS = ("pemlp-5+batch", "siren")
"""The networks that are compared, ours first."""


@dataclass(frozen=True)
class ShapeEqualTime:
    """Fit both to every shape with every seed, one after the other."""

    shapes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Mesh files; the built-in shape without any."""
    seconds: float = 8.0
    """Time of each fit."""
    optimizers: tuple[OptimizerName, ...] = ("adam", "muon")
    """Optimizers of the hidden matrices; the better one counts for each side."""
    points: int = 2**13
    """Points of each step."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights and points."""
    width: int = 128
    """Units of each hidden layer."""
    depth: int = 3
    """Number of hidden layers."""
    threads: int = 2
    """Threads of torch."""


def main(config: ShapeEqualTime) -> None:
    """Run, and write benchmarks/results/shape_equal_time."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    shapes = load_shapes(config.shapes)
    scores: dict[tuple[str, OptimizerName], dict[str, list[Score]]] = {}
    for shape in shapes:
        for seed in config.seeds:
            for name in CONTENDERS:
                variant = Variant.parse(name)
                network = NetworkOptions(
                    variant.network, variant.norm, config.width, config.depth, placement="after"
                )
                run = RunOptions(time_limit=config.seconds, eval_every=10**9, seed=seed, device="cpu")
                for optimizer in config.optimizers:
                    score = fit_and_score(shape, network, run, optimizer, config.points)
                    scores.setdefault((name, optimizer), {}).setdefault(shape.name, []).append(score)
                    print(f"{shape.name}, seed {seed}, {name}, {optimizer}: {score.near:.4f}", flush=True)
    rows: list[dict[str, Cell]] = []
    means: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for (name, optimizer), by_shape in scores.items():
        found = [score for one in by_shape.values() for score in one]
        means[name].append(statistics.mean(score.near for score in found))
        rows.append(
            {
                "network": Variant.parse(name).label,
                "optimizer": optimizer,
                **{f"{shape}: IoU near": _spread(one) for shape, one in by_shape.items()},
                "mean near": round(means[name][-1], 4),
                "steps": round(statistics.mean(score.steps for score in found)),
            }
        )
    ours, siren = (max(means[name]) for name in CONTENDERS)
    notes = [
        f"Best of each at {config.seconds:g} s: {ours - siren:+.4f} mean IoU near the surface for batch "
        "norm; target above 0.",
        "IoU as in shape_networks; mean and standard deviation over seeds.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "layers x width": f"{config.depth}x{config.width}",
        "points": config.points,
        "seeds": " ".join(map(str, config.seeds)),
    }
    command = f"python -m benchmarks.shape_equal_time {names_of(shapes)} --seconds {config.seconds:g}"
    write_table("shape_equal_time", "Shapes at equal time", command, rows, facts, notes, folder=RESULTS)


def _spread(scores: list[Score]) -> str:
    near = [score.near for score in scores]
    return f"{statistics.mean(near):.4f} +- {statistics.stdev(near) if len(near) > 1 else 0.0:.4f}"


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ShapeEqualTime))
