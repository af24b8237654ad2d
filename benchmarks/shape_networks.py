"""Shapes: each network without and with batch norm before or after the activation, and SIREN, several seeds.

Near-surface IoU at equal steps, and SIREN once more at the time that the best network with batch norm took.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks import RESULTS
from benchmarks.shapes import load_shapes, names_of
from bn_field_plugin.nn.memory import keep_freed_memory
from standalone.networks import Variant
from standalone.options import NetworkOptions, RunOptions
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.inputs import ShapeInput
from standalone.shape.metrics import volume_metrics
from standalone.shape.sampling import SamplingConfig
from standalone.shape.task import FitOptions, fit_shape

NETWORKS = ("mlp", "pemlp-1", "pemlp-5")
"""Networks of the source."""

SIREN = "SIREN"
"""Its row."""


@dataclass(frozen=True)
class ShapeNetworks:
    """Fit every network to every shape with every seed."""

    shapes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Mesh files; the built-in shape without any."""
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
    iou_points: int = 2**18
    """Points behind each IoU."""


@dataclass(frozen=True)
class Score:
    """One fit."""

    near: float
    uniform: float
    seconds: float


def main(config: ShapeNetworks) -> None:
    """Run, and write benchmarks/results/shape_networks."""
    keep_freed_memory()
    start = time.perf_counter()
    shapes = load_shapes(config.shapes)
    scores: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for shape in shapes:
        for seed in config.seeds:
            for label, options in contenders(config, seed).items():
                score = run(shape, options, config.iou_points)
                scores[label][shape.name].append(score)
                print(
                    f"{shape.name} seed {seed} {label}: {score.near:.4f} near, {score.seconds:.1f} s",
                    flush=True,
                )
    best = max((label for label in scores if "BN" in label), key=lambda label: mean_near(scores[label]))
    at_time = f"{SIREN}, time of {best}"
    for shape in shapes:
        for index, seed in enumerate(config.seeds):
            limit = scores[best][shape.name][index].seconds
            options = contenders(config, seed)[SIREN]
            timed = dataclasses.replace(options.run, steps=None, time_limit=limit)
            score = run(shape, dataclasses.replace(options, run=timed), config.iou_points)
            scores[at_time][shape.name].append(score)
    rows = [row(label, found) for label, found in scores.items()]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "layers x width": f"{config.depth}x{config.width}",
        "steps": config.steps,
        "points": config.points,
        "seeds": " ".join(map(str, config.seeds)),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    command = f"python -m benchmarks.shape_networks {names_of(shapes)}"
    write_table(
        "shape_networks",
        "Networks on shapes",
        command,
        rows,
        facts,
        notes(scores, best, at_time),
        folder=RESULTS,
    )


def contenders(config: ShapeNetworks, seed: int) -> dict[str, FitOptions]:
    """The networks by label; learning rates follow the norm."""

    def options(variant: Variant, placement: str = "before") -> FitOptions:
        network = NetworkOptions(variant.network, variant.norm, config.width, config.depth, placement)  # type: ignore[arg-type]
        run_options = RunOptions(steps=config.steps, eval_every=10**9, seed=seed, device="cpu")
        return FitOptions(network, sampling=SamplingConfig(config.points), run=run_options)

    found: dict[str, FitOptions] = {}
    for network in NETWORKS:
        found[Variant(network).label] = options(Variant(network))
        for placement in ("before", "after"):
            normed = Variant(network, "batch")
            found[f"{normed.label} {placement}"] = options(normed, placement)
    found[SIREN] = options(Variant("siren"))
    return found


def run(shape: ShapeInput, options: FitOptions, points: int) -> Score:
    """Fit and measure."""
    fitted, state, _ = fit_shape(shape, options)
    metrics = volume_metrics(shape.solid, fitted.inside, points, resolution=64)
    return Score(metrics["iou_near_surface"], metrics["iou_uniform"], state.seconds)


def mean_near(scores: dict[str, list[Score]]) -> float:
    """Mean near-surface IoU over shapes and seeds."""
    return statistics.mean(score.near for found in scores.values() for score in found)


def row(label: str, scores: dict[str, list[Score]]) -> dict[str, Cell]:
    """A network's row: mean and standard deviation over seeds for each shape."""
    cells: dict[str, Cell] = {"network": label}
    for name, found in scores.items():
        near = [score.near for score in found]
        spread = statistics.stdev(near) if len(near) > 1 else 0.0
        cells[f"{name}: IoU near"] = f"{statistics.mean(near):.4f} +- {spread:.4f}"
        cells[f"{name}: IoU uniform"] = round(statistics.mean(score.uniform for score in found), 4)
    cells["seconds"] = round(statistics.mean(s.seconds for found in scores.values() for s in found), 1)
    return cells


def notes(scores: dict[str, dict[str, list[Score]]], best: str, at_time: str) -> list[str]:
    """The targets, and whether they are met."""
    found = []
    for network in NETWORKS:
        plain, normed = Variant(network).label, Variant(network, "batch").label
        gains = [
            b.near - a.near
            for name in scores[plain]
            for a, b in zip(scores[plain][name], scores[f"{normed} before"][name], strict=True)
        ]
        worse = sum(gain <= 0 for gain in gains)
        found.append(
            f"{normed} (before) over {plain}, IoU near the surface: {statistics.mean(gains):+.4f}, at least "
            f"{min(gains):+.4f} over {len(gains)} pairs of runs, {worse} of them not above 0; target above 0."
        )
    placements = {
        where: statistics.mean(mean_near(scores[f"{Variant(n, 'batch').label} {where}"]) for n in NETWORKS)
        for where in ("before", "after")
    }
    found.append(
        f"Mean near IoU with the norm before the activation {placements['before']:.4f}, after it "
        f"{placements['after']:.4f}."
    )
    for label in (SIREN, at_time):
        gain = mean_near(scores[best]) - mean_near(scores[label])
        found.append(f"{best} over {label}: {gain:+.4f} mean IoU near; target at least 0.")
    return [
        *found,
        "IoU of the final network, folded, exact statistics; near: noise of 0.01 sides of the box.",
    ]


if __name__ == "__main__":
    main(tyro.cli(ShapeNetworks))
