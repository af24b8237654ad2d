"""The tables of `benchmarks.gpu` that need torch alone: networks, hash grid, sampling, fused inference.

Each is a process of its own: `python -m benchmarks.gpu_parts NAME OPTIONS`. No GPU has run them yet.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bn_field_plugin.files import write_whole
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, HashGridEncodingConfig
from standalone.report import Cell

MOST_REPEATS = 50
"""Most times that a function is measured."""
WARM_UP = 3
"""Number of first calls that do not count, since they compile and allocate memory."""


@dataclass(frozen=True)
class Options:
    """The options of a part."""

    device: str
    tiny: bool
    seconds: float
    """Wall clock of the whole process."""
    seed: int
    output_dir: str
    data: str | None = None


def milliseconds(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Times of calls of a function, each until the device has finished.

    Args:
        run: the function.
        device: where it works.
        seconds: wall clock for all repetitions.
    """

    def once() -> float:
        if device.type != "cuda":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    for _ in range(WARM_UP):
        once()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < MOST_REPEATS and time.perf_counter() < deadline):
        times.append(once())
    return times


def timed_row(
    about: dict[str, Cell], run: Callable[[], object], device: torch.device, seconds: float
) -> dict[str, Cell]:
    """A row with median and quartiles; where the function fails, with the first line of why."""
    try:
        low, median, high = statistics.quantiles(milliseconds(run, device, seconds), n=4)
    except Exception as error:  # the other rows are made all the same
        first = str(error).strip().splitlines() or [""]
        return {**about, "ms": None, "from": None, "to": None, "error": f"{type(error).__name__}: {first[0]}"}
    return {**about, "ms": round(median, 3), "from": round(low, 3), "to": round(high, 3)}


def steps(options: Options, device: torch.device) -> Iterator[dict[str, Cell]]:
    """A training step of each route of the BN-MLP, in fp32 and under autocast, beside the plain MLP."""
    from benchmarks.price_of_bn import PriceOfBN, train_step, training_networks

    sizes = ((2, 16),) if options.tiny else ((3, 64), (5, 256))
    points = 2**8 if options.tiny else 2**18
    halves = (None, torch.bfloat16)
    compiled = not options.tiny
    for depth, width in sizes:
        networks = training_networks(PriceOfBN(compiled=False), depth, width)
        if compiled:
            ours = CoordinateMLP(CoordinateMLPConfig(depth=depth, width=width, norm="batch"))
            ours.compile(dynamic=False)
            networks["BN-MLP (ours), compiled"] = ours
        each = options.seconds / 3 / (len(sizes) * len(networks) * len(halves))
        for half in halves:
            for name, network in networks.items():
                mlp, x = network.to(device), torch.rand(points, 2, device=device) * 2 - 1

                def step(mlp: nn.Module = mlp, x: Tensor = x, half: torch.dtype | None = half) -> None:
                    with torch.autocast(device.type, half) if half is not None else nullcontext():
                        train_step(mlp, x)

                about: dict[str, Cell] = {
                    "layers x width": f"{depth}x{width}",
                    "points": points,
                    "precision": "fp32" if half is None else "bf16",
                    "network": name,
                }
                yield timed_row(about, step, device, each)


def hash_grid(options: Options, device: torch.device) -> Iterator[dict[str, Cell]]:
    """Forward and backward of the hash grid by torch, and by tiny-cuda-nn where that is installed."""
    from bn_field_plugin.fields.hash_encoding import hash_encoding
    from bn_field_plugin.fields.tcnn import load_tinycudann

    config = HashGridEncodingConfig(log2_table_size=10 if options.tiny else 17)
    sizes = (2**8,) if options.tiny else (2**14, 2**18)
    grids = {"torch": config.build(3)}
    if load_tinycudann() is not None:
        grids["tiny-cuda-nn"] = hash_encoding(config, "tcnn")
    each = options.seconds / 2 / (2 * len(sizes) * len(grids))
    for n in sizes:
        x = torch.rand(n, 3, device=device) * 2 - 1
        for name, grid in grids.items():
            encoding = grid.to(device)

            def both(encoding: nn.Module = encoding, x: Tensor = x) -> None:
                encoding(x).sum().backward()
                encoding.zero_grad(set_to_none=True)

            def forward(encoding: nn.Module = encoding, x: Tensor = x) -> None:
                with torch.no_grad():
                    encoding(x)

            for part, run in (("forward", forward), ("forward and backward", both)):
                yield timed_row({"samples": n, "grid": name, "part": part}, run, device, each)


def sampling(options: Options, device: torch.device) -> Iterator[dict[str, Cell]]:
    """Marching and compositing of rays through a box of cells, a tenth of them occupied."""
    from bn_field_plugin.sampling import Cells, Rays, composite, march

    count, resolution = (2**6, 8) if options.tiny else (2**13, 64)
    occupied = torch.rand((resolution,) * 3, device=device) < 0.1
    corner = torch.ones(3, device=device)
    cells = Cells(occupied, -corner, corner)
    origins = nn.functional.normalize(torch.randn(count, 3, device=device), dim=-1) * 3
    targets = torch.rand(count, 3, device=device) - 0.5
    rays = Rays(
        origins,
        nn.functional.normalize(targets - origins, dim=-1),
        torch.full((count,), 1.0, device=device),
        torch.full((count,), 5.0, device=device),
    )
    jitter = torch.rand(count, device=device)
    samples = march(rays, cells, 0.02, jitter).samples
    density = torch.rand(samples.num, device=device, requires_grad=True)
    color = torch.rand(samples.num, 3, device=device, requires_grad=True)

    def shine() -> None:
        composite(density, color, samples).color.sum().backward()
        density.grad = color.grad = None

    about: dict[str, Cell] = {"rays": count, "samples": samples.num}
    parts = {"march": lambda: march(rays, cells, 0.02, jitter), "composite, forward and backward": shine}
    for name, run in parts.items():
        yield timed_row({**about, "part": name}, run, device, options.seconds / 3 / len(parts))


def fused(options: Options, device: torch.device) -> Iterator[dict[str, Cell]]:
    """Evaluation of a folded BN-MLP by torch, and by tiny-cuda-nn's fully fused MLP where it is."""
    from bn_field_plugin.fields.fused import use_fused_inference
    from bn_field_plugin.fields.tcnn import load_tinycudann

    n = 2**8 if options.tiny else 2**20
    x = torch.rand(n, 32, device=device)
    routes = ["torch"] + (["tiny-cuda-nn"] if load_tinycudann() is not None else [])
    by_torch = CoordinateMLP(CoordinateMLPConfig(in_dim=32, out_dim=16, width=64, depth=1)).eval().to(device)
    for name in routes:
        mlp = copy.deepcopy(by_torch)
        if name != "torch":
            use_fused_inference(mlp)

        def evaluate(mlp: nn.Module = mlp) -> None:
            with torch.no_grad():
                mlp(x)

        yield timed_row({"points": n, "evaluated by": name}, evaluate, device, options.seconds / 6)


TABLES: dict[str, Callable[[Options, torch.device], Iterator[dict[str, Cell]]]] = {
    "steps": steps,
    "hash-grid": hash_grid,
    "sampling": sampling,
    "fused": fused,
}
"""The parts, by name."""


def main(name: str, options: Options) -> None:
    """Make a table; each row is kept as soon as it is known."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    rows: list[dict[str, Cell]] = []
    for row in TABLES[name](options, device):
        rows.append(row)
        broken = [row for row in rows if "error" in row]
        found: dict[str, object] = {"rows": rows}
        if broken:
            found["failed"] = f"{len(broken)} rows have errors"
        write_whole(Path(options.output_dir) / f"{name}.json", json.dumps(found, indent=2) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Options(**json.loads(sys.argv[2])))
