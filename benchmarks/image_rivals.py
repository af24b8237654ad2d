"""Pictures by networks with batch norm and by their rivals, at equal steps and at equal time.

All have as many parameters as PEMLP-5 in `bn-image fit`, and the learning rates of the commands, which rest
on fits of other pictures; WIRE's are hardly searched. `--factors` tries others on the astronaut first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from benchmarks.rivals import Fitted, Heat, KeptFits, Racer, Scores, chosen, race, rows_of, verdicts
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.interrupts import exit_on_interrupt
from standalone.options import NetworkOptions
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table

RACERS = (
    *(Racer(name, 5) for name in ("pemlp-5+batch", "siren+batch", "finer+batch", "siren", "finer")),
    Racer("wire", 3, optimizer="adam"),
    Racer("gauss", 3),
)
"""The networks. WIRE and Gauss have three hidden layers: with five, they did not learn at any rate tried."""

STEPS, TIME = "equal steps", "equal time"
"""The two budgets."""

TARGETS = {STEPS: 0.5, TIME: 1.0}
"""Least gains wanted, in dB."""

PILOT_STEPS = 4
"""Steps that tell what a step costs."""


@dataclass(frozen=True)
class ImageRivals:
    """Fit each picture with each network, budget and seed; fits that have finished are not repeated."""

    pictures: tuple[str, ...] = ("kodim15", "kodim23", "coffee", "camera", "chelsea", "kodim23@512")
    """Names of PNG files in --photos, or else of scikit-image; NAME@SIDE has another size."""
    photos: Path | None = None
    """Folder of photos."""
    side: int = 256
    """Pixels of a side: the centre square is shrunk to it."""
    networks: tuple[str, ...] = tuple(racer.variant for racer in RACERS)
    """Networks that take part."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights and points; a table is written after each."""
    budget: Literal["both", "steps", "time"] = "both"
    """Equal steps, equal time or both."""
    steps: int = 1000
    """Steps, at equal steps."""
    seconds: float = 60.0
    """Seconds of steps, at equal time."""
    batch_size: int = 2**14
    """Pixels of a step, spread over the picture."""
    factors: tuple[float, ...] = (1.0,)
    """Factors of the learning rates; the best of several for each network is found on --trial, at seed 0."""
    trial: str = "astronaut"
    """Picture for that."""
    threads: int = 2
    """Threads of torch."""
    output_dir: Path = Path("outputs/image_rivals")
    """Folder of the finished fits."""
    write_here: bool = False
    """Leave the table in the output folder, not in the repository: for a trial."""


def main(config: ImageRivals) -> None:
    """Run, and write benchmarks/results/image_rivals.

    Raises:
        UserError: an unknown network or picture.
    """
    keep_freed_memory()
    torch.set_num_threads(config.threads)
    racers = chosen(RACERS, config.networks)
    budgets = {"both": (STEPS, TIME), "steps": (STEPS,), "time": (TIME,)}[config.budget]
    heats = [Heat(budget, picture) for picture in config.pictures for budget in budgets]
    if config.trial in config.pictures and len(config.factors) > 1:
        raise UserError(f"--trial {config.trial} is one of --pictures: choose rates on another picture")
    for heat in heats:
        picture_of(config, heat.thing)

    def fit(racer: Racer, heat: Heat, seed: int, factor: float, steps: int | None = None) -> Fitted:
        picture = picture_of(config, heat.thing)
        network = racer.network(NetworkOptions(), 2, picture.channels)
        by_steps = heat.budget == STEPS or steps is not None
        run = ImageRunOptions(
            steps=(steps or config.steps) if by_steps else None,
            time_limit=None if by_steps else config.seconds,
            eval_every=10**9,
            seed=seed,
            device="cpu",
            batch_size=config.batch_size,
        )
        result = fit_image(picture, network, run, racer.optimization(factor), show_progress=False)
        return Fitted(result.psnr, result.steps)

    @cache
    def seconds_of_a_step(racer: Racer, thing: str) -> float:
        start = time.perf_counter()
        fit(racer, Heat(STEPS, thing), 0, 1.0, PILOT_STEPS)
        return (time.perf_counter() - start) / PILOT_STEPS

    def minutes(racer: Racer, heat: Heat) -> float:
        step = seconds_of_a_step(racer, heat.thing)
        return (config.steps * step if heat.budget == STEPS else config.seconds) / 60

    def write(scores: Scores, seeds: Sequence[int], best: Mapping[tuple[str, Racer], float]) -> None:
        write_report(config, racers, scores, seeds, best)

    common = {"side": config.side, "batch_size": config.batch_size}
    by_time = {"seconds": config.seconds, "threads": config.threads}
    settings = {STEPS: {**common, "steps": config.steps}, TIME: {**common, **by_time}}
    kept = KeptFits(config.output_dir / "fits.json", fit, settings)
    trials = {budget: Heat(budget, config.trial) for budget in budgets}
    race(kept, racers, heats, config.seeds, trials, config.factors, minutes, write)


def picture_of(config: ImageRivals, text: str) -> Picture:
    """A picture by NAME or NAME@SIDE.

    Raises:
        UserError: there is none of that name, or SIDE is no number.
    """
    name, _, side = text.partition("@")
    if side and not side.isdigit():
        raise UserError(f"--pictures {text}: give NAME or NAME@SIDE, such as coffee@512")
    photo = None if config.photos is None else config.photos / f"{name}.png"
    return _loaded(str(photo) if photo is not None and photo.is_file() else name, int(side or config.side))


@cache
def _loaded(name: str, side: int) -> Picture:
    return load(name, side)


def write_report(
    config: ImageRivals,
    racers: Sequence[Racer],
    scores: Scores,
    seeds: Sequence[int],
    best: Mapping[tuple[str, Racer], float],
) -> None:
    """Write the table of the seeds so far."""
    sizes = [racer.network(NetworkOptions(), 2, 3) for racer in racers]
    told = []
    for racer, network in zip(racers, sizes, strict=True):
        factors = {budget: factor for (budget, one), factor in best.items() if one is racer}
        told.append(racer.summary(network, factors))
    notes = [
        *verdicts(scores, TARGETS, 2, " dB"),
        "PSNR in dB of the final network with exact statistics, mean +- standard deviation over seeds "
        "(mean steps). The best rival is that of each picture; one network with batch norm stands for all.",
        f"Layers x width, optimizer of the hidden matrices, and peak rates for 1,000 steps (hidden/rest): "
        f"{'; '.join(told)}.",
    ]
    facts: dict[str, Cell] = {
        **machine_facts(),
        "seeds": ", ".join(map(str, seeds)),
        "pixels of a step": config.batch_size,
        "steps": config.steps,
        "seconds": config.seconds,
    }
    command = command_behind("python -m benchmarks.image_rivals", config, ("photos", "write_here"))
    folder = config.output_dir if config.write_here else RESULTS
    title = "Pictures: batch norm against its rivals"
    write_table("image_rivals", title, command, rows_of(scores, 2), facts, notes, folder=folder)


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(ImageRivals, description=__doc__))
