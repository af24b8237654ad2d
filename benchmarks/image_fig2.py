"""The ordering of Fig 2 of Cai et al.: three networks without and with batch norm, at equal steps.

Both sides take the same optimizer, each with the learning rates that were best for it on another image
(`benchmarks.image_learning_rates`).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.optimization import OptimizationConfig, OptimizerName
from standalone.options import NetworkOptions
from standalone.report import Cell, machine_facts, write_table

TARGETS = {"mlp": 5.0, "pemlp-1": 3.0, "pemlp-5": 2.0}
"""Networks, and the least gain of batch norm in dB that counts as met."""


@dataclass(frozen=True)
class ImageFig2:
    """Fit each image with each network, without and with batch norm."""

    images: tuple[str, ...] = ("astronaut", "camera")
    """Pictures of scikit-image by name, or paths."""
    side: int = 256
    """Pixels of a side: the centre square is shrunk to it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One fit of each network for each seed."""
    steps: int = 1000
    """Full-batch steps of each fit."""
    width: int = 28
    """Units of each hidden layer."""
    depth: int = 10
    """Hidden layers."""
    optimizer: OptimizerName = "adam"
    """Optimizer of the hidden matrices, on both sides; Cai et al. take Adam."""
    threads: int = 2
    """Threads of torch."""
    name: str = "image_fig2"
    """Name of the table."""


def main(config: ImageFig2) -> None:
    """Run, and write the table into benchmarks/results."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    start = time.perf_counter()
    rows: list[dict[str, Cell]] = []
    norms: tuple[Literal["none", "batch"], ...] = ("none", "batch")
    for image in config.images:
        picture = load(image, config.side)
        for network, target in TARGETS.items():
            scores: dict[str, list[float]] = {norm: [] for norm in norms}
            for seed in config.seeds:
                for norm in norms:
                    result = fit_image(
                        picture,
                        NetworkOptions(network, norm, config.width, config.depth),
                        ImageRunOptions(
                            steps=config.steps, eval_every=config.steps, seed=seed, batch_size=2**30
                        ),
                        OptimizationConfig(config.optimizer),
                        show_progress=False,
                    )
                    scores[norm].append(result.psnr)
            gains = [b - a for a, b in zip(scores["none"], scores["batch"], strict=True)]
            row: dict[str, Cell] = {
                "image": Path(image).stem,
                "network": network,
                "no norm, dB": spread(scores["none"]),
                "BN, dB": spread(scores["batch"]),
                "gain, dB": spread(gains),
                "target": f"at least {target:g}",
                "met": "yes"
                if min(gains) >= target
                else "on average"
                if statistics.mean(gains) >= target
                else "no",
            }
            rows.append(row)
            print(f"{time.perf_counter() - start:.0f} s: {row}", flush=True)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "images": f"{config.side}x{config.side}",
        "layers x width": f"{config.depth}x{config.width}",
        "steps": config.steps,
        "optimizer": config.optimizer,
        "seeds": ", ".join(map(str, config.seeds)),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    notes = [
        "PSNR of the final, folded network in evaluation mode on 8-bit clamped output: "
        "mean (least to largest) over the seeds.",
        "Learning rates of each side: best on another image, see image_learning_rates.",
    ]
    names = " ".join(Path(image).name for image in config.images)
    command = f"python -m benchmarks.image_fig2 --images {names} --optimizer {config.optimizer}"
    write_table(config.name, "Fig 2: batch norm at equal steps", command, rows, facts, notes, folder=RESULTS)


def spread(values: list[float]) -> str:
    """Mean, least and largest of some numbers, as text."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ImageFig2))
