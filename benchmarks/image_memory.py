"""Peak memory of a full-batch fit of a 512 x 512 image."""

from __future__ import annotations

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig
from standalone.options import NetworkOptions
from standalone.report import Cell, machine_facts, write_table


@dataclass(frozen=True)
class ImageMemory:
    """Fit an image for a few full-batch steps, evaluations included, each network in a process of its own."""

    image: str = "astronaut"
    """A picture of scikit-image by name, or a path."""
    side: int = 512
    """Pixels of a side: the centre square is shrunk to it."""
    variants: tuple[str, ...] = ("mlp", "mlp+batch", "pemlp-5+batch")
    """Networks."""
    width: int = 28
    """Units of each hidden layer."""
    depth: int = 10
    """Hidden layers."""
    steps: int = 20
    """Steps."""
    threads: int = 2
    """Threads of torch."""


def peak(config: ImageMemory, name: str) -> tuple[float, float]:
    """Peak memory in GB of a process before its fit and after it."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    variant = Variant.parse(name)
    picture = load(config.image, config.side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fit_image(
        picture,
        NetworkOptions(variant.network, variant.norm, config.width, config.depth),
        ImageRunOptions(steps=config.steps, eval_every=10, batch_size=2**30),
        OptimizationConfig(),
        show_progress=False,
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return before * 1024 / 1e9, after * 1024 / 1e9


def main(config: ImageMemory) -> None:
    """Run, and write benchmarks/results/image_memory."""
    rows: list[dict[str, Cell]] = []
    spawn = multiprocessing.get_context("spawn")
    for name in config.variants:
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            before, after = process.submit(peak, config, name).result()
        label = Variant.parse(name).label
        rows.append({"network": label, "before the fit, GB": round(before, 2), "peak, GB": round(after, 2)})
    facts: dict[str, Cell] = {
        **machine_facts(),
        "image": f"{config.image}, {config.side}x{config.side}",
        "layers x width": f"{config.depth}x{config.width}",
        "steps": config.steps,
    }
    notes = ["Largest resident size of the whole process, Python and PyTorch included. Target: 1.0 GB."]
    command = "python -m benchmarks.image_memory"
    write_table(
        "image_memory", "Peak memory of a full-batch fit", command, rows, facts, notes, folder=RESULTS
    )


if __name__ == "__main__":
    with exit_on_user_error():
        main(tyro.cli(ImageMemory))
