"""Shapes at equal steps: each network without norm and with batch norm in both places, and SIREN.

Both sides take the same optimizer, each with the learning rates that were best for it on an image
(`benchmarks.image_learning_rates`).
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.shapes import Score, fit_and_score, load_shapes, names_of
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig, OptimizerName
from standalone.options import NetworkOptions, RunOptions
from standalone.report import Cell, machine_facts, write_table

NETWORKS = ("mlp", "pemlp-1", "pemlp-5")
"""Networks of Cai et al."""

SIREN = "SIREN"
"""Label of SIREN's row in the table."""

Scores = dict[str, list[Score]]
"""Scores by shape, one for each seed."""


@dataclass(frozen=True)
class ShapeNetworks:
    """Fit every network to every shape with every seed."""

    shapes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Mesh files; the built-in shape without any."""
    optimizer: OptimizerName = "adam"
    """Optimizer of the hidden matrices, on all sides; Cai et al. take Adam."""
    steps: int = 400
    """Steps of each fit."""
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


def main(config: ShapeNetworks) -> None:
    """Run, and write benchmarks/results/shape_networks_OPTIMIZER."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    start = time.perf_counter()
    shapes = load_shapes(config.shapes)
    scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    for shape in shapes:
        for seed in config.seeds:
            for label, network in networks(config).items():
                run = RunOptions(steps=config.steps, eval_every=10**9, seed=seed, device="cpu")
                score = fit_and_score(
                    shape, network, run, OptimizationConfig(config.optimizer), config.points
                )
                scores[label][shape.name].append(score)
                print(f"{shape.name}, seed {seed}, {label}: {score.near:.4f}", flush=True)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "layers x width": f"{config.depth}x{config.width}",
        "optimizer": config.optimizer,
        "steps": config.steps,
        "points": config.points,
        "seeds": " ".join(map(str, config.seeds)),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    write_table(
        f"shape_networks_{config.optimizer}",
        "Networks on shapes",
        f"python -m benchmarks.shape_networks {names_of(shapes)} --optimizer {config.optimizer}",
        [row(label, found) for label, found in scores.items()],
        facts,
        notes(scores),
        folder=RESULTS,
    )


def networks(config: ShapeNetworks) -> dict[str, NetworkOptions]:
    """The networks by label."""
    found = {}
    for network in NETWORKS:
        found[Variant(network).label] = NetworkOptions(network, "none", config.width, config.depth)
        label = Variant(network, "batch").label
        found[f"{label}, before"] = NetworkOptions(network, "batch", config.width, config.depth, "before")
        found[f"{label}, after"] = NetworkOptions(network, "batch", config.width, config.depth, "after")
    found[SIREN] = NetworkOptions("siren", "none", config.width, config.depth)
    return found


def mean_near(scores: Scores) -> float:
    """Mean near-surface IoU over shapes and seeds."""
    return statistics.mean(score.near for found in scores.values() for score in found)


def row(label: str, scores: Scores) -> dict[str, Cell]:
    """A network's row: mean and standard deviation over seeds for each shape."""
    cells: dict[str, Cell] = {"network": label}
    for name, found in scores.items():
        near = [score.near for score in found]
        spread = statistics.stdev(near) if len(near) > 1 else 0.0
        cells[f"{name}: IoU near"] = f"{statistics.mean(near):.4f} +- {spread:.4f}"
        cells[f"{name}: IoU uniform"] = round(statistics.mean(score.uniform for score in found), 4)
    cells["mean near"] = round(mean_near(scores), 4)
    return cells


def notes(scores: dict[str, Scores]) -> list[str]:
    """The targets, and whether they are met."""
    found = []
    for network in NETWORKS:
        plain, normed = Variant(network).label, Variant(network, "batch").label
        gains = [
            b.near - a.near
            for name in scores[plain]
            for a, b in zip(scores[plain][name], scores[f"{normed}, before"][name], strict=True)
        ]
        worse = sum(gain <= 0 for gain in gains)
        found.append(
            f"{normed} (before) over {plain}, IoU near the surface: {statistics.mean(gains):+.4f}, at least "
            f"{min(gains):+.4f} over {len(gains)} pairs of runs, {worse} of them not above 0; target above 0."
        )
    means = {
        where: statistics.mean(mean_near(scores[f"{Variant(n, 'batch').label}, {where}"]) for n in NETWORKS)
        for where in ("before", "after")
    }
    best = max((label for label in scores if "BN" in label), key=lambda label: mean_near(scores[label]))
    gain = mean_near(scores[best]) - mean_near(scores[SIREN])
    return [
        *found,
        f"Norm before the activation: {means['before']:.4f}; after it: {means['after']:.4f}; means of all.",
        f"{best} over {SIREN} at equal steps: {gain:+.4f}; target at least 0.",
        "IoU of the final network, folded, exact statistics; near: points of the surface moved by normal "
        "noise of 0.01 sides of the box. +-: standard deviation over seeds.",
    ]


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ShapeNetworks))
