"""The routes of a layer with batch norm, and whole networks layer by layer and block by block, on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
import tyro

from benchmarks import RESULTS
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from bn_field_plugin.nn import CoordinateMLP, NormName, blockwise, dense
from bn_field_plugin.nn.batch_linear import batch_norm_linear
from standalone.interrupts import exit_on_interrupt
from standalone.networks import Variant
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

ROUTES = ("moments", "compiled", "native")

LAYERS = (
    (4096, 28, 28),
    (32768, 28, 28),
    (16384, 64, 64),
    (65536, 64, 64),
    (65536, 256, 256),
    (65536, 63, 256),
    (65536, 128, 256),
)
"""Sizes of the layers: samples, input features, output features."""

SIZES = ((16384, 64, 2), (65536, 64, 4), (16384, 256, 4), (8192, 28, 10), (131072, 28, 10))
"""Sizes of networks with ReLUs: samples, width, depth."""

SINES = (("siren", "none"), ("siren", "batch"), ("finer", "none"), ("finer", "batch"))
"""Names and norms of networks with sines, which have two coordinates."""

NETWORKS = (
    *((n, "mlp", norm, width, depth) for n, width, depth in SIZES for norm in ("batch", "none")),
    *((16384, name, norm, width, 5) for width in (64, 128) for name, norm in SINES),
)
"""The networks: samples, name, norm, width, depth."""


@dataclass(frozen=True)
class LayerRoutes:
    """Time forward and backward passes, of all candidates in turn; the least time of each counts."""

    threads: tuple[int, ...] = (1, 2)
    """Threads of torch, one table for each."""
    rounds: int = 8
    """Number of rounds, in each of which every candidate runs once."""


def least_ms(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least milliseconds of each call."""
    best = dict.fromkeys(calls, float("inf"))
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:  # the first one warms up
                best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def layer(n: int, d: int, c: int, rounds: int) -> dict[str, Cell]:
    """Each route over linear and ReLU."""
    torch.manual_seed(0)
    x, weight = torch.randn(n, d), torch.randn(c, d) / d**0.5
    inputs = [t.requires_grad_() for t in (x, weight, torch.ones(c), torch.zeros(c))]
    grad = torch.randn(n, c)

    def passes(route: Any) -> None:
        if route is None:
            y = F.relu(F.linear(inputs[0], inputs[1], inputs[3]))
        else:
            y, _ = batch_norm_linear(*inputs, 1e-5, None, True, route)
        for leaf in inputs:
            leaf.grad = None
        y.backward(grad)

    ms = least_ms({str(route): lambda route=route: passes(route) for route in (None, *ROUTES)}, rounds)
    return {
        "what": f"{n} samples, {d} -> {c}",
        "linear, ReLU ms": round(ms["None"], 2),
        **{f"{r} over it": round(ms[r] / ms["None"], 2) for r in ROUTES},
    }


def network(n: int, name: str, norm: NormName, width: int, depth: int, rounds: int) -> dict[str, Cell]:
    """A network block by block over the same layer by layer."""
    torch.manual_seed(0)
    in_dim = width if name == "mlp" else 2
    variant = Variant(name, norm)
    mlp = CoordinateMLP(variant.config(in_dim, 3, width, depth))
    x, grad = torch.rand(n, in_dim) * 2 - 1, torch.randn(n, 3)

    def passes(in_blocks: bool) -> None:
        with ExitStack() as stack:
            for module in () if in_blocks else (blockwise, dense):
                stack.enter_context(patch.object(module, "serves", lambda *_: False))
            mlp(x).backward(grad)
        mlp.zero_grad()

    ms = least_ms({"layers": lambda: passes(False), "blocks": lambda: passes(True)}, rounds)
    return {
        "what": f"{variant.label}, {n} samples, {depth}x{width}",
        "layer by layer ms": round(ms["layers"], 1),
        "block by block over it": round(ms["blocks"] / ms["layers"], 2),
    }


def main(config: LayerRoutes) -> None:
    """Measure, and write benchmarks/results/layer_routes_THREADS and network_routes_THREADS."""
    keep_freed_memory()
    for threads in config.threads:
        torch.set_num_threads(threads)
        facts = machine_facts() | {"dtype": "float32", "rounds": config.rounds, "seed": 0}
        command = command_behind("python -m benchmarks.layer_routes", config, ())
        rows = [layer(*sizes, config.rounds) for sizes in LAYERS]
        title = "Routes of a layer with batch norm, forward and backward"
        write_table(f"layer_routes_{threads}", title, command, rows, facts, [], folder=RESULTS)
        rows = [network(*sizes, config.rounds) for sizes in NETWORKS]
        title = "Training passes of networks, forward and backward"
        write_table(f"network_routes_{threads}", title, command, rows, facts, [], folder=RESULTS)


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(LayerRoutes))
