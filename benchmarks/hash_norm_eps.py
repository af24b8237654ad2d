"""Which eps the norm behind a hash grid should add to the variance, by spectra and fits.

Features of a new grid are noise with a variance of 1e-9, which grows in the first steps. A norm with a small
eps would scale this noise to variance 1, at all levels of the grid.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from bn_field_plugin.ntk import eigenvalues
from bn_field_plugin.ntk.points import grid
from bn_field_plugin.ntk.spectrum_statistics import statistics_of
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.networks import Size
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions, RunOptions
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.inputs import load_shape
from standalone.shape.task import FitOptions, ShapeNetworkOptions, fit_shape

PICTURE_GRID, SHAPE_GRID, SPECTRUM_GRID = "hash-14", "hash-15", "hash-10"
"""Networks of the picture, of the shape, and of the spectra, which have a small grid because their whole
Jacobian is computed."""

SIZE = Size(64, 2)
"""Their width and depth."""


@dataclass(frozen=True)
class HashNormEps:
    """Networks behind a hash grid, without norm and with batch norm of several eps."""

    eps: tuple[float, ...] = (1e-5, 1e-3, 1e-1)
    """Values of eps, which the norm adds to the variance."""
    image: str = "rocket"
    """A picture of scikit-image by name, or a path; not one of the images in other tables."""
    side: int = 96
    """Pixels of a side: the centre square is shrunk to it."""
    batch: int = 4096
    """Pixels and points of a step."""
    steps: int = 90
    """Steps of a fit. Its quality is measured after a third of them and at the end."""
    lr: float = 1e-2
    """Learning rate of Adam for all parameters and all networks, so that only eps differs."""
    seeds: int = 3
    """Seeds of the weights and of the batches."""
    spectrum_side: int = 16
    """The spectra are over a grid with so many points along each axis."""


def main(config: HashNormEps) -> None:
    """Run, and write benchmarks/results/hash_norm_eps."""
    keep_freed_memory()
    torch.set_num_threads(1)
    start = time.perf_counter()
    rows = [_row(config, None), *(_row(config, eps) for eps in config.eps)]
    notes = [
        "Spectrum: the kernel at the start, exact, coupled through the batch's statistics; hash-10, "
        f"1 output, {config.spectrum_side} x {config.spectrum_side} points, by automatic differentiation.",
        f"PSNR and IoU: means over the seeds with their standard deviation, after {config.steps // 3} and "
        f"{config.steps} steps of {config.batch} samples, Adam at {config.lr:g} for all parameters.",
        "IoU on held-out points of the built-in shape, half near its surface, with running statistics: "
        "they lag behind features that a norm blows up, which is a part of the zeros.",
        "Kernel mean: eps 1e-5 and tables in +-1e-4 make the tables' share of it ten million times as large.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "networks": f"{PICTURE_GRID}, {SHAPE_GRID}, {SIZE.depth}x{SIZE.width}",
        "image": f"{config.image}, {config.side}x{config.side}",
        "seeds": config.seeds,
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    command = "python -m benchmarks.hash_norm_eps"
    title = "What the norm behind a hash grid adds to the variance"
    write_table("hash_norm_eps", title, command, rows, facts, notes, folder=RESULTS)


def _row(config: HashNormEps, eps: float | None) -> dict[str, Cell]:
    network = NetworkOptions(PICTURE_GRID, "none" if eps is None else "batch", *SIZE, norm_eps=eps)
    small = dataclasses.replace(network, network=SPECTRUM_GRID).build(2, 1, 0).double()
    found = statistics_of(eigenvalues(small, grid(config.spectrum_side, 2))).as_dict()
    row: dict[str, Cell] = {"norm": "none" if eps is None else f"batch, eps {eps:g}"}
    row |= {
        f"kernel: {name.replace('_', ' ')}": found[name] for name in ("mean", "top_share", "median_to_mean")
    }
    pictures = np.array([_psnr(config, network, seed) for seed in range(config.seeds)])
    shapes = np.array([_iou(config, network, seed) for seed in range(config.seeds)])
    for column, step in enumerate((config.steps // 3, config.steps)):
        row[f"2D: PSNR dB, step {step}"] = _spread(pictures[:, column], 2)
        row[f"3D: IoU, step {step}"] = _spread(shapes[:, column], 4)
    return row


def _psnr(config: HashNormEps, network: NetworkOptions, seed: int) -> list[float]:
    run = ImageRunOptions(
        steps=config.steps, eval_every=config.steps // 3, seed=seed, device="cpu", batch_size=config.batch
    )
    result = fit_image(load(config.image, config.side), network, run, _adam(config), show_progress=False)
    return [result.history[0]["psnr"], result.history[-1]["psnr"]]


def _iou(config: HashNormEps, network: NetworkOptions, seed: int) -> list[float]:
    options = FitOptions(
        ShapeNetworkOptions(SHAPE_GRID, network.norm, *SIZE, norm_eps=network.norm_eps),
        run=RunOptions(steps=config.steps, eval_every=config.steps // 3, seed=seed, device="cpu"),
        optimization=_adam(config),
    )
    options = dataclasses.replace(
        options, sampling=dataclasses.replace(options.sampling, points=config.batch)
    )
    _, state, _ = fit_shape(load_shape(None), options)
    return [state.history[0]["iou"], state.history[-1]["iou"]]


def _adam(config: HashNormEps) -> OptimizationConfig:
    return OptimizationConfig("adam", lr=config.lr, hidden_lr=config.lr)


def _spread(values: np.ndarray, digits: int) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.{digits}f}, sd {deviation:.{digits}f}"


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(HashNormEps, description=__doc__))
