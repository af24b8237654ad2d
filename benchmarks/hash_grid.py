"""Speed of the hash grid: compiled loops against torch, forward and backward to the tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from benchmarks import RESULTS
from bn_field_plugin.nn import HashGridEncoding, HashGridEncodingConfig
from bn_field_plugin.nn.hash_grid import interpolate
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

TARGETS = {"forward": 2.0, "backward": 6.0}
"""Least ratios that count as met."""


@dataclass(frozen=True)
class HashGridSpeed:
    """Time both routes in turn, at samples along rays and at points drawn evenly."""

    sizes: tuple[int, ...] = (2**14, 2**18)
    """Numbers of samples."""
    rounds: int = 7
    """Times that each is measured; medians are given."""
    threads: int = 2
    """Threads of torch and of the compiled loops."""


def points(kind: str, n: int) -> Float[Tensor, "n 3"]:
    """Samples in [-1, 1]^3."""
    generator = torch.Generator().manual_seed(0)
    if kind == "anywhere":
        return 2 * torch.rand(n, 3, generator=generator) - 1
    origins = 1.6 * torch.rand(n // 8, 1, 3, generator=generator) - 0.8
    directions = torch.nn.functional.normalize(torch.randn(n // 8, 1, 3, generator=generator), dim=-1)
    return (origins + directions * 0.02 * torch.arange(8)[None, :, None]).reshape(-1, 3)


def main(config: HashGridSpeed) -> None:
    """Measure, and write benchmarks/results/hash_grid."""
    torch.set_num_threads(config.threads)
    encoding = HashGridEncodingConfig().build(3)
    assert isinstance(encoding, HashGridEncoding)
    routes: dict[str, Callable[[Tensor], Tensor]] = {
        "compiled": encoding,
        "torch": lambda x: interpolate(x, encoding.tables, encoding.levels),
    }
    rows: list[dict[str, Cell]] = []
    worst = dict.fromkeys(TARGETS, float("inf"))
    for kind in ("along rays", "anywhere"):
        for n in config.sizes:
            x = points(kind, n)
            seconds: dict[tuple[str, str], list[float]] = {}
            for index in range(config.rounds + 1):
                for route, encode in routes.items():
                    start = time.perf_counter()
                    y = encode(x)
                    middle = time.perf_counter()
                    y.backward(torch.ones_like(y))
                    end = time.perf_counter()
                    encoding.tables.grad = None
                    if index:  # the first one warms up
                        seconds.setdefault((route, "forward"), []).append(middle - start)
                        seconds.setdefault((route, "backward"), []).append(end - middle)
            for part in TARGETS:
                ours, theirs = (seconds[route, part] for route in routes)
                ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
                worst[part] = min(worst[part], statistics.median(ratios))
                rows.append(
                    {
                        "samples": kind,
                        "number": n,
                        "part": part,
                        "compiled ms": round(1e3 * statistics.median(ours), 2),
                        "torch ms": round(1e3 * statistics.median(theirs), 2),
                        "times as fast": round(statistics.median(ratios), 1),
                        "from": round(min(ratios), 1),
                        "to": round(max(ratios), 1),
                    }
                )
    notes = [
        f"{part}: at least {worst[part]:.1f} times; target {target:g} "
        f"({'met' if worst[part] >= target else 'missed'})."
        for part, target in TARGETS.items()
    ]
    write_table(
        "hash_grid",
        "The hash grid: compiled loops against torch",
        command_behind("python -m benchmarks.hash_grid", config, ()),
        rows,
        {**machine_facts(), "grid": repr(encoding), "rounds": config.rounds},
        notes,
        folder=RESULTS,
    )


if __name__ == "__main__":
    main(tyro.cli(HashGridSpeed))
