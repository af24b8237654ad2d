"""The price of batch norm: one training step, and inference, of the BN-MLP over the plain MLP.

All networks of a size take turns, round after round, on the same points in the same process, so that
whatever slows the machine down slows all of them; a ratio is the median over rounds of the ratios within a
round, with its quartiles. Each size is measured in two processes: one with the system's memory settings, and
one that keeps freed memory (`bn_field_plugin.allocator`). The command takes some 4 minutes on two cores.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn

from benchmarks import RESULTS
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, fold_norm
from bn_field_plugin.nn.batch_linear import Route, batch_norm_linear
from standalone.report import Cell, machine_facts, write_table

PLAIN = "plain MLP"


@dataclass(frozen=True)
class PriceOfBN:
    """Measure the training step and the inference of networks with and without batch norm."""

    sizes: tuple[tuple[int, int], ...] = ((10, 28), (5, 64), (5, 256))
    """Hidden layers and width of each network; 2 inputs and 3 outputs."""
    points: int = 65536
    """Points of a step."""
    rounds: int = 7
    """Number of rounds, in each of which every network takes its turn."""
    threads: int = 2
    """Threads of torch."""
    seed: int = 0
    """Seed of weights and points."""
    compiled: bool = True
    """Measure the compiled networks too, where there is a C++ compiler."""


class RoutedLayer(nn.Module):
    """Linear, batch norm and ReLU by a fixed route."""

    def __init__(self, in_features: int, out_features: int, route: Route) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(in_features, out_features).weight.detach())
        self.gamma = nn.Parameter(torch.ones(out_features))
        self.beta = nn.Parameter(torch.zeros(out_features))
        self.route = route

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with the statistics of the batch."""
        y, _ = batch_norm_linear(x, self.weight, self.gamma, self.beta, 1e-5, relu=True, route=self.route)
        return y


class ArithmeticBatchNorm(nn.Module):
    """Batch norm written out, for a compiler to fuse."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, z: Tensor) -> Tensor:
        """Normalise with the statistics of the batch."""
        var, mean = torch.var_mean(z, dim=0, correction=0)
        return (z - mean) * (self.weight * torch.rsqrt(var + 1e-5)) + self.bias


Layer = Callable[[int, int], nn.Module]


def network(layer: Layer, depth: int, width: int) -> nn.Module:
    """Hidden layers of one kind, then a linear output."""
    sizes = [2] + [width] * depth
    hidden = [layer(d, c) for d, c in itertools.pairwise(sizes)]
    return nn.Sequential(*hidden, nn.Linear(width, 3))


def linear_relu(d: int, c: int) -> nn.Module:
    """A layer of the plain MLP."""
    return nn.Sequential(nn.Linear(d, c), nn.ReLU())


def normed_by(norm: Callable[[int], nn.Module]) -> Layer:
    """A layer whose norm is a module of its own."""
    return lambda d, c: nn.Sequential(nn.Linear(d, c, bias=False), norm(c), nn.ReLU())


def routed_by(route: Route) -> Layer:
    """A layer by a fixed route."""
    return lambda d, c: RoutedLayer(d, c, route)


def has_compiler() -> bool:
    """Whether torch.compile can build CPU kernels here."""
    return any(shutil.which(c) for c in (os.environ.get("CXX", ""), "g++", "clang++", "c++"))


def training_networks(config: PriceOfBN, depth: int, width: int) -> dict[str, nn.Module]:
    """Networks whose training step is measured, by name; the plain MLP first."""
    ours = CoordinateMLP(CoordinateMLPConfig(depth=depth, width=width, norm="batch"))
    networks: dict[str, nn.Module] = {
        PLAIN: network(linear_relu, depth, width),
        "torch BatchNorm1d": network(normed_by(nn.BatchNorm1d), depth, width),
        "BN-MLP (ours)": ours,
        "route plain": network(routed_by("plain"), depth, width),
        "route moments": network(routed_by("moments"), depth, width),
        "route native": network(routed_by("native"), depth, width),
    }
    if config.compiled and has_compiler():
        compiled = {
            "compiled plain MLP": network(linear_relu, depth, width),
            "compiled arithmetic BN": network(normed_by(ArithmeticBatchNorm), depth, width),
        }
        for mlp in compiled.values():
            mlp.compile(dynamic=False)
        networks |= compiled
    return networks


def inference_networks(depth: int, width: int) -> dict[str, nn.Module]:
    """Networks whose inference is measured, by name; the plain MLP first."""
    normed, unnormed = (
        CoordinateMLP(CoordinateMLPConfig(depth=depth, width=width, norm=norm)) for norm in ("batch", "none")
    )
    return {
        PLAIN: network(linear_relu, depth, width),
        "folded": fold_norm(normed),
        "ours without norm": unnormed.eval(),
    }


def train_step(mlp: nn.Module, x: Tensor) -> None:
    """Forward and backward of a sum, without optimiser."""
    mlp(x).sum().backward()
    mlp.zero_grad(set_to_none=True)


@torch.no_grad()
def infer(mlp: nn.Module, x: Tensor) -> None:
    """One pass without gradients."""
    mlp(x)


def take_turns(
    run: Callable[[nn.Module, Tensor], None], networks: dict[str, nn.Module], x: Tensor, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of each network in each round; short ones are repeated to a tenth of a second."""
    repeats = {}
    for name, mlp in networks.items():
        for _ in range(3):  # the first steps compile and allocate memory
            start = time.perf_counter()
            run(mlp, x)
            seconds = time.perf_counter() - start
        repeats[name] = max(1, round(0.1 / seconds))
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, mlp in networks.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run(mlp, x)
            times[name].append((time.perf_counter() - start) / repeats[name] * 1e3)
    return times


def ratio(times: Sequence[float], base: Sequence[float]) -> str:
    """Median and quartiles of the ratio within a round."""
    low, median, high = statistics.quantiles((a / b for a, b in zip(times, base, strict=True)), n=4)
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def measure(config: PriceOfBN, depth: int, width: int, keep: bool) -> dict[str, dict[str, Cell]]:
    """Rows of both tables for one size, in a process of its own."""
    if keep and not keep_freed_memory():
        return {}
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    x = torch.rand(config.points, 2) * 2 - 1
    first: dict[str, Cell] = {"layers x width": f"{depth}x{width}", "memory": "kept" if keep else "default"}
    rows = {}
    for name, run, networks in (
        ("training", train_step, training_networks(config, depth, width)),
        ("inference", infer, inference_networks(depth, width)),
    ):
        times = take_turns(run, networks, x, config.rounds)
        base = times.pop(PLAIN)
        ratios: dict[str, Cell] = {other: ratio(t, base) for other, t in times.items()}
        for a, b in (("BN-MLP (ours)", "compiled plain MLP"), ("folded", "ours without norm")):
            if a in times and b in times:
                ratios[f"{a} / {b}"] = ratio(times[a], times[b])
        rows[name] = first | {f"{PLAIN} ms": round(statistics.median(base), 1)} | ratios
    return rows


def main(config: PriceOfBN) -> None:
    """Run, and write benchmarks/results/price_of_bn and price_of_bn_inference."""
    start = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    found = []
    for depth, width in config.sizes:
        for keep in (False, True):
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                found.append(process.submit(measure, config, depth, width, keep).result())
            print(f"{depth}x{width}: {time.perf_counter() - start:.0f} s", flush=True)
    facts = machine_facts() | {
        "threads": config.threads,
        "points": config.points,
        "rounds": config.rounds,
        "seed": config.seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    common = [
        f"Ratios to the time of the {PLAIN} (nn.Linear, nn.ReLU, eager, fp32) in the same round: "
        "median (quartiles).",
        "Memory: default, as PyTorch finds it; kept, glibc told to keep what is freed; "
        "for all networks alike.",
    ]
    command = "python -m benchmarks.price_of_bn"
    write_table(
        "price_of_bn",
        "The price of batch norm: training step",
        command,
        [rows["training"] for rows in found if rows],
        facts,
        [
            *common,
            "A step is forward and backward of a sum, without optimiser; BN-MLP (ours) also updates its "
            "running statistics. Routes are those of bn_field_plugin.nn.batch_linear, on every layer.",
        ],
        folder=RESULTS,
    )
    write_table(
        "price_of_bn_inference",
        "The price of batch norm: inference",
        command,
        [rows["inference"] for rows in found if rows],
        facts,
        [*common, "Ours are evaluated in blocks that fit the cache; norm folded into the weights, or none."],
        folder=RESULTS,
    )


if __name__ == "__main__":
    main(tyro.cli(PriceOfBN))
