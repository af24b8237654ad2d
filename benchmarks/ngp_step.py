"""Where the time of bn-ngp's training step goes on a CPU, each part beside what the machine allows for it.

The bounds are measured: products at the rate of a large product, reads of the hash grid at the rate of random
rows of a table of that size, and Adam at the rate of copying memory. All else (rays, marching, compositing,
Python) has no bound, and counts as overhead.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numba import njit

from benchmarks import RESULTS
from bn_field_plugin.errors import exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

READS = 2**20
"""Number of random rows that are read to measure the rate."""


@dataclass(frozen=True)
class NGPStep:
    """Train bn-ngp for a while, then take a training step apart."""

    data: Path
    """Blender-format scene, for instance the lego scene at 200x200."""
    warm: int = 500
    """Steps before the measurement: the occupancy grid is then as empty as in most of training."""
    steps: int = 100
    """Steps that are measured."""
    threads: int = 2
    """Threads of torch."""


class Stopwatch:
    """Seconds of parts of a step; a part within another does not count in the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that counts its time under a name."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner.pop()
                self._inner[-1] += spent

        return wrapper

    @contextmanager
    def watching(self, *parts: tuple[str, Any, str]) -> Iterator[None]:
        """Count the time of attributes of modules, classes or objects, each under a name."""
        before = [(owner, attribute, vars(owner).get(attribute)) for _, owner, attribute in parts]
        for name, owner, attribute in parts:
            setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))
        try:
            yield
        finally:
            for owner, attribute, value in before:
                delattr(owner, attribute) if value is None else setattr(owner, attribute, value)


def trained(config: NGPStep, folder: Path) -> tuple[Any, Callable[[int], None]]:
    """A trainer whose model has been trained for a while, and a training step of it."""
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
    from nerfstudio.engine.callbacks import TrainingCallbackLocation

    from bn_field_plugin.method_configs import bn_ngp

    settings = copy.deepcopy(bn_ngp.config)
    settings.machine.device_type = "cpu"
    settings.vis = "tensorboard"
    settings.output_dir = folder
    settings.pipeline.datamanager.data = config.data
    settings.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=config.data)
    settings.max_num_iterations = config.warm + config.steps
    settings.set_timestamp()
    trainer = settings.setup(local_rank=0, world_size=1)
    trainer.setup("val")

    def step(number: int) -> None:
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(number)

    for number in range(config.warm):
        step(number)
    return trainer, step


def best_seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Least wall clock of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


@njit(nogil=True, error_model="numpy")
def _read_rows(table, rows, first, last):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for index in range(first, last):
        row = rows[index]
        for column in range(table.shape[1]):
            total += table[row, column]
    return total


def rows_per_second(rows: int, columns: int) -> float:
    """Rate of reading random rows of a table, on all threads."""
    from bn_field_plugin.nn.workers import run_pieces

    table = np.zeros((rows, columns), np.float32)
    chosen = np.random.default_rng(0).integers(rows, size=READS).astype(np.uint64)
    pieces = torch.get_num_threads()
    share = READS // pieces
    _read_rows(table, chosen, 0, 1)
    return READS / best_seconds(
        lambda: run_pieces(lambda p: _read_rows(table, chosen, p * share, (p + 1) * share), pieces)
    )


def products_per_second() -> float:
    """Multiplications and additions of a large product in fp32, in a second."""
    a = torch.rand(1536, 1536)
    return 2 * 1536**3 / best_seconds(lambda: a @ a)


def bytes_per_second() -> float:
    """Rate of copying memory, read and written bytes together."""
    a, b = torch.zeros(2**25), torch.zeros(2**25)
    return 2 * 4 * 2**25 / best_seconds(lambda: b.copy_(a))


def main(config: NGPStep) -> None:
    """Measure, and write benchmarks/results/ngp_step."""
    torch.set_num_threads(config.threads)
    with tempfile.TemporaryDirectory() as folder:
        trainer, step = trained(config, Path(folder))
        watch, times, looked, kept = Stopwatch(), [], [], []
        measured = range(config.warm, config.warm + config.steps)
        with watch.watching(*_parts(trainer, looked, kept)):
            for number in measured:
                start = time.perf_counter()
                step(number)
                times.append(time.perf_counter() - start)
        model = trainer.pipeline.model
    total = 1e3 * statistics.mean(times)
    parts = {name: 1e3 * seconds / config.steps for name, seconds in watch.seconds.items()}
    parts["everything else: Python, losses, occupancy grid"] = total - sum(parts.values())
    bounds = _bounds(model, sum(looked) / config.steps, sum(kept) / config.steps)
    rows: list[dict[str, Cell]] = [
        {"part": name, "ms": round(ms, 1), "bound ms": round(bounds[name], 1) if name in bounds else None}
        for name, ms in sorted(parts.items(), key=lambda part: -part[1])
    ]
    ratio = total / sum(bounds.values())
    facts: dict[str, Cell] = {
        **machine_facts(),
        "scene": config.data.name,
        "steps before": config.warm,
        "steps measured": config.steps,
        "samples looked at in a step": round(sum(looked) / config.steps),
        "samples trained on in a step": round(sum(kept) / config.steps),
    }
    write_table(
        "ngp_step",
        "A training step of bn-ngp beside what the machine allows",
        command_behind(f"python -m benchmarks.ngp_step --data data/{config.data.name}", config, ("data",)),
        rows,
        facts,
        [
            f"A step takes {total:.1f} ms (median {1e3 * statistics.median(times):.1f}), the bounds together "
            f"are {sum(bounds.values()):.1f} ms: {ratio:.1f} times; target at most 2 times "
            f"({'met' if ratio <= 2 else 'missed'})."
        ],
        folder=RESULTS,
    )


RAYS, MARCH, READ, LOOK = "rays and pixels", "march", "hash grid, forward", "networks, no gradients"
FORWARD, SEE, BACKWARD, ADD = "networks, forward", "compositing", "networks, backward", "hash grid, backward"
ADAM = "Adam"


def _parts(trainer: Any, looked: list[int], kept: list[int]) -> list[tuple[str, Any, str]]:
    """The parts to time, by name; they also record the numbers of samples."""
    from bn_field_plugin.models import occupancy_renderer
    from bn_field_plugin.nn import hash_grid
    from bn_field_plugin.nn.mlp import CoordinateMLP

    field = trainer.pipeline.model.field
    read = field.grid.forward

    def counted(x: Any) -> Any:
        looked.append(x.shape[0])
        return read(x)

    again = field.encode_again

    def counted_again(positions: Any, encoded: Any) -> Any:
        kept.append(positions.shape[0])
        return again(positions, encoded)

    field.grid.forward, field.encode_again = counted, counted_again
    return [
        (RAYS, trainer.pipeline.datamanager, "next_train"),
        (MARCH, occupancy_renderer, "march"),
        (READ, field.grid, "forward"),
        (LOOK, CoordinateMLP, "evaluate_folded"),
        (FORWARD, CoordinateMLP, "_forward_flat"),
        (SEE, occupancy_renderer, "composite"),
        (BACKWARD, torch.autograd, "backward"),
        (ADD, hash_grid, "_each_level"),
        (ADAM, trainer.optimizers, "optimizer_scaler_step_some"),
    ]


def _bounds(model: Any, looked: float, kept: float) -> dict[str, float]:
    """Lower bounds of the parts of a step, in milliseconds."""
    field = model.field
    config, grid = field.grid.config, field.grid
    weights = [linear.weight.numel() for mlp in (field.trunk, field.head) for linear in mlp.linears]
    trunk = sum(linear.weight.numel() for linear in field.trunk.linears)
    rate = products_per_second()
    rows = config.num_levels * 2**grid.in_dim
    reads = rows_per_second(grid.levels[-1].rows, config.features_per_level)
    parameters = sum(parameter.numel() for parameter in field.parameters())
    seconds = {
        LOOK: 2 * looked * trunk / rate,
        FORWARD: 2 * kept * sum(weights) / rate,
        BACKWARD: 4 * kept * sum(weights) / rate,
        READ: looked * rows / reads,
        ADD: kept * rows / reads,
        # Adam reads a value, a gradient and two moments, and writes all but the gradient.
        ADAM: 7 * 4 * parameters / bytes_per_second(),
    }
    return {name: 1e3 * value for name, value in seconds.items()}


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(NGPStep))
