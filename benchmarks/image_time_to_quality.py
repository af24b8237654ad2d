"""Time to quality: how soon a fit is as good as one by plain PyTorch after 2,000 steps.

Plain PyTorch is nn.Linear, nn.BatchNorm1d and nn.ReLU with Adam at 1e-2 and full batches, without compilation
and with the system's memory settings, in a process of its own. Our fits then get smaller and smaller shares
of its time: first with the same network and full batches, then as `bn-image fit` does it unless told
otherwise, with as many parameters.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.image.commands import BEST_NETWORK
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.image.metrics import psnr
from standalone.image.task import ImageTask
from standalone.matching import matched
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig, count_parameters
from standalone.options import NetworkOptions
from standalone.report import Cell, machine_facts, write_table

FULL_BATCH, BLOCK = 2**30, 2**14
"""Pixels of a step: all of them, or as many as make many steps in a short time."""


@dataclass(frozen=True)
class ImageTimeToQuality:
    """Time plain PyTorch, then ours in shares of that time."""

    images: tuple[str, ...] = ("astronaut",)
    """Pictures of scikit-image by name, or paths."""
    networks: tuple[str, ...] = ("mlp", "pemlp-5")
    """Networks, all with batch norm."""
    side: int = 256
    """Pixels of a side: the centre square is shrunk to it."""
    steps: int = 2000
    """Steps of plain PyTorch."""
    lr: float = 1e-2
    """Learning rate of plain PyTorch."""
    shares: tuple[float, ...] = (1 / 8, 1 / 12, 1 / 16)
    """Shares of plain PyTorch's time that our fits of the same network get, one fit for each."""
    default_shares: tuple[float, ...] = (1 / 16, 1 / 32)
    """Shares that fits of the default network get."""
    width: int = 28
    """Units of each hidden layer."""
    depth: int = 10
    """Hidden layers."""
    seeds: tuple[int, ...] = (0,)
    """One run of both for each seed."""
    threads: int = 2
    """Threads of torch."""


def plain_network(encoded: int, channels: int, width: int, depth: int) -> nn.Module:
    """Linear, batch norm and ReLU as PyTorch's users write them."""
    layers: list[nn.Module] = []
    for d, c in itertools.pairwise([encoded] + [width] * depth):
        layers += [nn.Linear(d, c), nn.BatchNorm1d(c), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, channels))


def fit_plain(config: ImageTimeToQuality, image: str, network: str, seed: int) -> tuple[float, float]:
    """Seconds and PSNR of plain PyTorch; the encoding is computed once, outside the time."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    picture = load(image, config.side)
    task = ImageTask(picture)
    x, y = task.sampler(FULL_BATCH).next_batch()
    encoding = (
        NetworkOptions(network, "batch", config.width, config.depth).build(2, picture.channels, seed).encoding
    )
    x = encoding(x)
    mlp = plain_network(x.shape[1], picture.channels, config.width, config.depth)
    optimizer = torch.optim.Adam(mlp.parameters(), lr=config.lr)
    start = time.perf_counter()
    for _ in range(config.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(mlp(x), y)
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    scores = []
    for training in (True, False):  # batch statistics or running ones, whichever is better
        mlp.train(training)
        with torch.no_grad():
            outputs = mlp(x).numpy()
        pixels = task.value_range.denormalize(outputs, picture.depth).reshape(picture.pixels.shape)
        scores.append(psnr(task.to_8bit(picture.pixels), task.to_8bit(np.ascontiguousarray(pixels))))
    return seconds, max(scores)


def fit_ours(
    config: ImageTimeToQuality, image: str, options: NetworkOptions, batch: int, seed: int, limit: float
) -> tuple[float, float, int]:
    """Seconds, exact statistics at the end included, PSNR and steps of ours within a time limit."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    picture = load(image, config.side)
    start = time.perf_counter()
    ImageTask(picture).finished(options.build(2, picture.channels, 0))
    finishing = time.perf_counter() - start
    result = fit_image(
        picture,
        options,
        ImageRunOptions(time_limit=limit - finishing, eval_every=10**9, seed=seed, batch_size=batch),
        OptimizationConfig(),
        show_progress=False,
    )
    return result.seconds + finishing, result.psnr, result.steps


def default_like(same: NetworkOptions, channels: int) -> NetworkOptions:
    """The default network of `bn-image fit`, with as many parameters as another."""
    return matched(NetworkOptions(BEST_NETWORK), count_parameters(same.build(2, channels, 0)), 2, channels)


def main(config: ImageTimeToQuality) -> None:
    """Run, and write benchmarks/results/image_time_to_quality."""
    start = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    rows: list[dict[str, Cell]] = []
    for image, network, seed in itertools.product(config.images, config.networks, config.seeds):
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            seconds, score = process.submit(fit_plain, config, image, network, seed).result()
        row: dict[str, Cell] = {
            "image": Path(image).stem,
            "network": f"{network} + BN",
            "seed": seed,
            "plain PyTorch s": round(seconds, 1),
            "its PSNR dB": round(score, 2),
        }
        same = NetworkOptions(network, "batch", config.width, config.depth)
        default = default_like(same, load(image, config.side).channels)
        for title, options, batch, shares in (
            ("ours", same, FULL_BATCH, config.shares),
            ("default", default, BLOCK, config.default_shares),
        ):
            reached = []
            for share in shares:
                with ProcessPoolExecutor(1, mp_context=spawn) as process:
                    used, ours, steps = process.submit(
                        fit_ours, config, image, options, batch, seed, share * seconds
                    ).result()
                row[f"{title} in 1/{1 / share:g} dB (steps)"] = f"{ours:.2f} ({steps})"
                if ours >= score:
                    reached.append(seconds / used)
            row[f"{title} as good, times sooner"] = f"at least {max(reached):.1f}" if reached else "no"
        rows.append(row)
        print(f"{time.perf_counter() - start:.0f} s: {row}", flush=True)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "threads": config.threads,
        "images": f"{config.side}x{config.side}",
        "layers x width": f"{config.depth}x{config.width}",
        "steps of plain PyTorch": config.steps,
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    times = [float(row["plain PyTorch s"]) for row in rows]  # type: ignore[arg-type]
    notes = [
        "Plain PyTorch: nn.Linear, nn.BatchNorm1d, nn.ReLU, Adam 1e-2, full batch, eager; "
        f"{statistics.mean(times) / config.steps * 1e3:.0f} ms a step on average. "
        "Its PSNR is the better of both modes.",
        "Ours: the same network, by the fit of `bn-image`, with that share of the time and full batches; "
        f"default: the network of `bn-image fit`, {Variant(default.network, 'batch').label} "
        f"{default.size.depth}x{default.size.width}, with as many parameters, and {BLOCK} pixels a step. The "
        "exact statistics at the end are included. Target: as good in a sixteenth.",
    ]
    names = " ".join(Path(image).name for image in config.images)
    command = f"python -m benchmarks.image_time_to_quality --images {names}"
    write_table("image_time_to_quality", "Time to quality", command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ImageTimeToQuality))
