"""How fast exact kernels with batch norm's coupling are, beside torch.func.jacrev of the whole batch.

Everything is in fp64. The two ways take turns in the same process. A second table has the time for growing
numbers of points. The command takes some 20 minutes on two cores, most of them for 512 x 512 points.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks import RESULTS
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, batch_statistics
from bn_field_plugin.ntk import eigenvalues, grid, ntk, random_points
from bn_field_plugin.ntk.memory import available_bytes
from standalone.plots import new_figure, save_figure
from standalone.report import Cell, machine_facts, write_table


@dataclass(frozen=True)
class NTKSpeed:
    """Measure kernels of networks with batch norm, coupled."""

    threads: int = 2
    """Threads of torch."""
    points: int = 1024
    """Random points of the comparison with jacrev."""
    depth: int = 4
    """Hidden layers of the comparison."""
    width: int = 256
    """Units of each hidden layer of the comparison."""
    rounds: int = 3
    """Rounds in which both ways take their turn."""
    chunk: int = 64
    """Number of outputs from which jacrev goes back at a time, in its faster variant."""
    plain: bool = True
    """Measure jacrev with its defaults too, from all outputs at once, where memory allows."""
    side: int = 64
    """Side of the grid of the full spectrum, 3 hidden layers of 64."""
    growth: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Sides of the grids of the plot, 3 hidden layers of 64; the Gram of the parameters from 128 on."""
    seed: int = 0
    """Seed of weights and points."""


def network(config: NTKSpeed, depth: int, width: int) -> CoordinateMLP:
    """A network with batch norm, 2 inputs and 1 output, in fp64."""
    torch.manual_seed(config.seed)
    return CoordinateMLP(CoordinateMLPConfig(2, 1, width, depth, norm="batch")).double()


def kernel_by_jacrev(mlp: CoordinateMLP, points: Tensor, chunk: int | None) -> Tensor:
    """J J^T with J from torch.func.jacrev of the whole batch's function; all cotangents at once for None."""
    parameters = {name: p.detach() for name, p in mlp.named_parameters()}

    def outputs(values: dict[str, Tensor]) -> Tensor:
        with batch_statistics(mlp):
            return torch.func.functional_call(mlp, values, (points,)).reshape(-1)

    found = torch.func.jacrev(outputs, chunk_size=chunk)(parameters)
    rows = torch.cat([found[name].flatten(1) for name in parameters], dim=1)
    return rows @ rows.T


def peak_gib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def prepare(config: NTKSpeed) -> None:
    """Set threads and memory as `bn-ntk` does, for both ways."""
    keep_freed_memory()
    torch.set_num_threads(config.threads)


def measure_ours(config: NTKSpeed) -> dict[str, Any]:
    """One kernel in a process of its own, for its memory."""
    prepare(config)
    mlp, points = network(config, config.depth, config.width), random_points(config.points, seed=config.seed)
    ntk(mlp, points[:64])
    before = peak_gib()
    start = time.perf_counter()
    ntk(mlp, points)
    return {"seconds": time.perf_counter() - start, "peak": peak_gib(), "before": before}


def plain_bytes(config: NTKSpeed) -> int:
    """Memory of a plain jacrev, roughly: ten tensors of cotangents x points x units, the Jacobian twice."""
    parameters = (config.depth - 1) * config.width**2
    return 8 * config.points * (10 * config.points * config.width + 2 * parameters)


def compare(config: NTKSpeed, depth: int, width: int, points: Tensor, chunk: int | None, rounds: int) -> dict:
    """Seconds of both ways, round after round, and how far apart the kernels are; in a process of its own."""
    prepare(config)
    mlp = network(config, depth, width)
    for few in (points[:8], points[:64]):  # the first calls load libraries, which must not count
        ntk(mlp, few)
        ntk(mlp, few, backend="structured")
        kernel_by_jacrev(mlp, few, chunk)
    ours, theirs, distance = [], [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        kernel = ntk(mlp, points)
        middle = time.perf_counter()
        truth = kernel_by_jacrev(mlp, points, chunk)
        end = time.perf_counter()
        ours.append(middle - start)
        theirs.append(end - middle)
        distance = max(distance, float((kernel - truth).abs().max() / truth.abs().max()))
        print(f"ours {ours[-1]:.1f} s, jacrev {theirs[-1]:.1f} s", flush=True)
    return {"ours": ours, "theirs": theirs, "distance": distance, "peak": peak_gib()}


def comparison_rows(what: str, version: str, found: dict[str, Any], target: bool) -> list[dict[str, Cell]]:
    """Both ways and their ratio."""
    ratios = [b / a for a, b in zip(found["ours"], found["theirs"], strict=True)]
    rows: list[dict[str, Cell]] = []
    for name, values in ((f"kernel, {what}", found["ours"]), (f"the same, {version}", found["theirs"])):
        spread = f"{min(values):.1f} to {max(values):.1f}"
        rows.append({"what": name, "seconds": statistics.median(values), "spread": spread})
    ratio = statistics.median(ratios)
    last: dict[str, Cell] = {"what": f"ratio, {version} over ours", "ratio": ratio}
    last["spread"] = f"{min(ratios):.1f} to {max(ratios):.1f}"
    return [*rows, last | ({"target": "10", "met": ratio >= 10} if target else {})]


def full_spectrum(config: NTKSpeed, side: int) -> dict[str, float]:
    """Seconds and memory of all eigenvalues on a grid, in a process of its own."""
    prepare(config)
    mlp = network(config, 3, 64)
    start = time.perf_counter()
    values = eigenvalues(mlp, grid(side))
    return {"seconds": time.perf_counter() - start, "peak": peak_gib(), "maximum": float(values[0])}


def main(config: NTKSpeed) -> None:
    """Run, and write benchmarks/results/ntk_speed (.md, .json, .png)."""
    begin = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")

    def apart(function: Any, *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(function, config, *arguments).result()

    alone = apart(measure_ours)
    what = f"{config.points} points, {config.depth} x {config.width}"
    rows: list[dict[str, Cell]] = [
        {
            "what": f"kernel, {what}, alone",
            "seconds": alone["seconds"],
            "peak GiB": alone["peak"],
            "target": "60 s, 4 GB",
            "met": alone["seconds"] <= 60 and alone["peak"] <= 4 * 1e9 / 2**30,
        }
    ]
    sizes = (config.depth, config.width, random_points(config.points, seed=config.seed))
    chunked = f"torch.func.jacrev, {config.chunk} cotangents at a time"
    distances = []
    is_plain = config.plain and plain_bytes(config) < available_bytes()
    for version, chunk in (("plain torch.func.jacrev", None),) * is_plain + ((chunked, config.chunk),):
        found = apart(compare, *sizes, chunk, config.rounds)
        distances.append(found["distance"])
        rows += comparison_rows(what, version, found, target=chunk is None)
    half = config.side // 2  # on the whole grid jacrev would take more than 20 GB
    found = apart(compare, 3, 64, grid(half), config.chunk, config.rounds)
    distances.append(found["distance"])
    rows += comparison_rows(f"{half} x {half} points, 3 x 64", chunked, found, target=False)
    sides = sorted({*config.growth, config.side})
    growth = {}
    for side in sides:
        found = growth[side] = apart(full_spectrum, side)
        print(f"{side} x {side}: {found['seconds']:.1f} s", flush=True)
        row: dict[str, Cell] = {
            "what": f"all eigenvalues, {side} x {side} points, 3 x 64",
            "seconds": found["seconds"],
            "peak GiB": found["peak"],
        }
        rows.append(
            row | ({"target": "300 s", "met": found["seconds"] <= 300} if side == config.side else {})
        )
    figure, panels = new_figure(size=(4.6, 3.2))
    axes = panels[0, 0]
    axes.plot([side**2 for side in sides], [growth[side]["seconds"] for side in sides], marker="o")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("points")
    axes.set_ylabel("seconds, all eigenvalues, coupled, fp64")
    axes.set_title(f"3 x 64 with batch norm, {config.threads} threads")
    save_figure(figure, RESULTS / "ntk_speed.png")
    facts: dict[str, Cell] = {
        **machine_facts(),
        "threads": config.threads,
        "rounds": config.rounds,
        "seed": config.seed,
        "minutes": round((time.perf_counter() - begin) / 60, 1),
    }
    notes = [
        f"Kernels of both ways differ by {max(distances):.1e} of the largest entry.",
        "Seconds are medians over rounds, with their range; freed memory is kept, for both alike. Peak GiB "
        "is the resident size of the whole process, PyTorch included.",
    ]
    title = "Exact kernels with batch norm's coupling"
    sizes_given = " ".join(map(str, config.growth))
    command = f"python -m benchmarks.ntk_speed --rounds {config.rounds} --growth {sizes_given}"
    command += "" if config.plain else " --no-plain"
    write_table("ntk_speed", title, command, rows, facts, notes, folder=RESULTS)


if __name__ == "__main__":
    main(tyro.cli(NTKSpeed))
