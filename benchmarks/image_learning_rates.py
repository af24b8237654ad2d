"""Learning rates of each kind of network, for `standalone.optimization.LEARNING_RATES`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig, OptimizerName
from standalone.options import NetworkOptions
from standalone.report import Cell, machine_facts, write_table


@dataclass(frozen=True)
class ImageLearningRates:
    """Fit one image with each network over a grid of learning rates."""

    image: str = "coffee"
    """A picture of scikit-image by name, or a path; not one of the images in other tables."""
    side: int = 96
    """Pixels of a side: the centre square is shrunk to it."""
    variants: tuple[str, ...] = ("mlp", "pemlp-5", "mlp+batch", "pemlp-5+batch", "siren")
    """Networks."""
    optimizers: tuple[OptimizerName, ...] = ("muon", "adam")
    """Optimizers of the hidden matrices."""
    hidden_lrs: tuple[float, ...] = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
    """Learning rates of the hidden matrices."""
    ratios: tuple[float, ...] = (0.25, 1.0)
    """Learning rates of all other parameters, as shares of the hidden matrices'; with Adam only 1."""
    steps: int = 400
    """Full-batch steps of each fit."""
    width: int = 28
    """Units of each hidden layer."""
    depth: int = 10
    """Hidden layers."""
    seed: int = 0
    """Seed of the initial weights."""
    threads: int = 2
    """Threads of torch."""


def main(config: ImageLearningRates) -> None:
    """Run, and write benchmarks/results/image_learning_rates."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    start = time.perf_counter()
    picture = load(config.image, config.side)
    rows: list[dict[str, Cell]] = []
    for optimizer in config.optimizers:
        for variant in map(Variant.parse, config.variants):
            for ratio in config.ratios if optimizer == "muon" else (1.0,):
                row: dict[str, Cell] = {
                    "optimizer": optimizer,
                    "network": variant.label,
                    "Adam / hidden": ratio,
                }
                for lr in config.hidden_lrs:
                    row[f"{lr:g}"] = _psnr(config, picture, optimizer, variant, lr, ratio)
                rows.append(row)
                print(f"{time.perf_counter() - start:.0f} s: {row}", flush=True)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "image": f"{config.image}, {config.side}x{config.side}",
        "layers x width": f"{config.depth}x{config.width}",
        "steps": config.steps,
        "seed": config.seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    notes = ["PSNR in dB of the final network, by the learning rate of the hidden matrices."]
    command = f"python -m benchmarks.image_learning_rates --image {config.image}"
    write_table("image_learning_rates", "Learning rates", command, rows, facts, notes, folder=RESULTS)


def _psnr(
    config: ImageLearningRates,
    picture: Picture,
    optimizer: OptimizerName,
    variant: Variant,
    lr: float,
    ratio: float,
) -> float | str:
    """PSNR of one fit as a cell of the table, or the word that it diverged."""
    try:
        result = fit_image(
            picture,
            NetworkOptions(variant.network, variant.norm, config.width, config.depth),
            ImageRunOptions(steps=config.steps, eval_every=config.steps, seed=config.seed),
            OptimizationConfig(optimizer, lr=lr * ratio, hidden_lr=lr),
            show_progress=False,
        )
    except UserError:
        return "diverged"
    return round(result.psnr, 2)


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ImageLearningRates))
