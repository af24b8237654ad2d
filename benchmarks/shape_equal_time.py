"""Shapes at equal time: networks with batch norm and their rivals, at equal parameters and best rates.

Rates are those of the commands; `--factors` tries others on the built-in shape first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.rivals import Fitted, Heat, KeptFits, Racer, Scores, chosen, race, rows_of, verdicts
from benchmarks.shapes import fit_and_score
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.options import NetworkOptions, RunOptions
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.inputs import ShapeInput, load_shape
from standalone.shape.task import ShapeNetworkOptions

RACERS = (
    *(Racer(name, 3) for name in ("pemlp-5+batch", "siren+batch", "finer+batch")),
    *(Racer(name, 3) for name in ("siren", "finer", "gauss")),
    Racer("wire", 3, optimizer="adam"),
)
"""The networks. On a picture, WIRE learned more with Adam than with Muon."""

TIME = "equal time"
"""The budget."""

TRIAL = "built-in shape"
"""What rates are tried on."""


@dataclass(frozen=True)
class ShapeEqualTime:
    """Fit each shape with each network and seed; fits that have finished are not repeated."""

    shapes: tyro.conf.Positional[tuple[Path, ...]]
    """Mesh files."""
    networks: tuple[str, ...] = tuple(racer.variant for racer in RACERS)
    """Networks that take part."""
    seconds: float = 8.0
    """Time of each fit."""
    factors: tuple[float, ...] = (1.0,)
    """Factors of the learning rates; the best of several for each network is found on the built-in shape."""
    points: int = 2**13
    """Points of each step."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights and points; a table is written after each."""
    threads: int = 2
    """Threads of torch."""
    output_dir: Path = Path("outputs/shape_equal_time")
    """Folder of the finished fits."""
    write_here: bool = False
    """Leave the table in the output folder, not in the repository: for a trial."""


def main(config: ShapeEqualTime) -> None:
    """Run, and write benchmarks/results/shape_equal_time.

    Raises:
        UserError: no shape, one that cannot be read, or an unknown network.
    """
    if not config.shapes:
        raise UserError("no shape is given: name mesh files")
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    racers = chosen(RACERS, config.networks)
    paths = {path.stem: path for path in config.shapes}

    @cache
    def shape(name: str) -> ShapeInput:
        return load_shape(paths.get(name))

    def fit(racer: Racer, heat: Heat, seed: int, factor: float, seconds: float | None = None) -> Fitted:
        network = network_of(racer)
        limit = config.seconds if seconds is None else seconds
        run = RunOptions(time_limit=limit, eval_every=10**9, seed=seed, device="cpu")
        optimization = racer.optimization(factor)
        score = fit_and_score(shape(heat.thing), network, run, optimization, config.points)
        return Fitted(score.near, score.steps)

    def minutes(racer: Racer, heat: Heat) -> float:
        fit(racer, heat, 0, 1.0, 1e-3)  # loads what a first fit loads
        return config.seconds / 60

    def write(scores: Scores, seeds: Sequence[int], best: Mapping[tuple[str, Racer], float]) -> None:
        write_report(config, racers, scores, seeds, best)

    heats = [Heat(TIME, name) for name in paths]
    for heat in heats:
        shape(heat.thing)
    settings = {TIME: {"seconds": config.seconds, "points": config.points, "threads": config.threads}}
    kept = KeptFits(config.output_dir / "fits.json", fit, settings)
    race(kept, racers, heats, config.seeds, {TIME: Heat(TIME, TRIAL)}, config.factors, minutes, write)


def network_of(racer: Racer) -> NetworkOptions:
    """A network as it takes part; the norm of PEMLP-5 stands behind the activation, as in `bn-shape`."""
    like = ShapeNetworkOptions()
    network = racer.network(like, 3, 1)
    return dataclasses.replace(network, placement=like.placement)


def write_report(
    config: ShapeEqualTime,
    racers: Sequence[Racer],
    scores: Scores,
    seeds: Sequence[int],
    best: Mapping[tuple[str, Racer], float],
) -> None:
    """Write the table of the seeds so far."""
    told = [racer.summary(network_of(racer), {TIME: best[TIME, racer]}) for racer in racers]
    notes = [
        *verdicts(scores, {TIME: 0.0}, 4, ""),
        "IoU near the surface as in shape_networks, mean +- standard deviation over seeds (mean steps). The "
        "best rival is that of each shape.",
        f"Layers x width, optimizer of the hidden matrices, and peak rates for 1,000 steps (hidden/rest): "
        f"{'; '.join(told)}.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "seconds": config.seconds,
        "points": config.points,
        "seeds": ", ".join(map(str, seeds)),
    }
    words = " ".join(path.name for path in config.shapes)
    command = command_behind(
        f"python -m benchmarks.shape_equal_time {words}", config, ("shapes", "write_here")
    )
    folder = config.output_dir if config.write_here else RESULTS
    rows = rows_of(scores, 4)
    write_table("shape_equal_time", "Shapes at equal time", command, rows, facts, notes, folder=folder)


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(ShapeEqualTime, description=__doc__))
