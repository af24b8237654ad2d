"""Points a second of the winding number's tree on a torn mesh, and its error against the exact sum."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from benchmarks import RESULTS
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.demo import knurled_torus
from standalone.shape.frames import Frame
from standalone.shape.metrics import BOX_SIDE, SIGMA
from standalone.shape.winding import NEAR, WindingTree, exact_winding_number


@dataclass(frozen=True)
class WindingSpeed:
    """Time the tree on the built-in torus without a tenth of its faces."""

    points: int = 100_000
    """Points of each kind."""
    checked: int = 1000
    """How many of them are compared with the exact sum."""
    rounds: int = 3
    """Number of rounds; the median counts."""


def main(config: WindingSpeed) -> None:
    """Run, and write benchmarks/results/winding_speed."""
    torch.set_num_threads(1)
    whole = knurled_torus(236, 165)
    mesh = Frame.around(whole.vertices).mesh_to_box(whole)
    generator = np.random.default_rng(0)
    triangles = np.asarray(mesh.triangles)[generator.random(len(mesh.faces)) > 0.1]
    start = time.process_time()
    tree = WindingTree(triangles)
    built = time.process_time() - start
    tree(np.zeros((1, 3)))  # the first call compiles
    near = triangles[generator.integers(0, len(triangles), config.points)].mean(axis=1)
    clouds = {
        "near the surface": near + generator.normal(0, SIGMA * BOX_SIDE, near.shape),
        "uniform in the box": generator.uniform(-1, 1, near.shape),
    }
    rows: list[dict[str, Cell]] = []
    for name, points in clouds.items():
        seconds = []
        for _ in range(config.rounds):
            start = time.process_time()
            winding = tree(points)
            seconds.append(time.process_time() - start)
        few = points[: config.checked]
        start = time.process_time()
        exact = exact_winding_number(triangles, few)
        slow = time.process_time() - start
        error = np.abs(winding[: config.checked] - exact)
        rows.append(
            {
                "points": name,
                "points/s": round(len(points) / statistics.median(seconds)),
                "exact sum, points/s": round(len(few) / slow),
                "largest error": float(error.max()),
                "rms error": float(np.sqrt(np.mean(error**2))),
            }
        )
    slowest = min(float(row["points/s"] or 0) for row in rows)
    facts: dict[str, Cell] = {**machine_facts(), "triangles": len(triangles), "near": NEAR}
    notes = [
        f"{slowest:.2g} points a second at least; target 1e5 on 70,000 triangles. One thread, "
        "its CPU time: what else runs does not count, but for the caches. "
        f"The tree is built in {built:.1f} s.",
        f"Errors over {config.checked} points of each kind, against the sum over all triangles.",
    ]
    command = "python -m benchmarks.winding_speed"
    write_table("winding_speed", "Winding number", command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    main(tyro.cli(WindingSpeed))
