"""Budgets in minutes: short pilot runs tell how many steps fit into them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from standalone.sweep.nerfstudio_commands import is_ours, train, without_lpips
from standalone.sweep.runs import Run

FIRST_PILOT, GROWTH = 20, 4
"""Steps of the shortest pilot, and the largest factor from each pilot's steps to those of the next."""

PILOT_SHARE = 0.2
"""Share of the budget by which the longest pilot must outlast the one before it: the steps between them stand
for all later ones. Steps of methods with occupancy grids get cheaper while the grid empties, so that the
first hundred would promise too few."""

ENOUGH = 1.25
"""A pilot has at most as many steps as outlast the one before it by this many times `PILOT_SHARE`."""

MARGIN = 0.98
"""Share of the budget that is planned for: a run must not take longer than another that it is compared to."""


@dataclass(frozen=True)
class Pace:
    """What training costs."""

    startup: float
    """Seconds of a run without any step, and what its first steps take above `per_step`."""
    per_step: float
    """Seconds of a step."""

    def steps(self, seconds: float) -> int:
        """Steps that fit into a time, at least 1.

        Raises:
            UserError: the time is not enough to start.
        """
        steps = int((MARGIN * seconds - self.startup) / self.per_step)
        if steps < 1:
            raise UserError(
                f"{seconds / 60:g} minutes do not suffice to start ({self.startup:.0f} s): raise --minutes"
            )
        return steps


def measured_pace(seconds_of: Callable[[int], float], budget: float) -> Pace:
    """The pace of a method by pilot runs, each longer than the last, until `PILOT_SHARE` is reached.

    Args:
        seconds_of: wall clock of a run of so many steps.
        budget: seconds that the real run gets.
    """
    more, steps, longer = FIRST_PILOT * (GROWTH - 1), FIRST_PILOT, seconds_of(FIRST_PILOT)
    while True:
        shorter, steps = longer, steps + more
        longer = seconds_of(steps)
        per_step = max(longer - shorter, 1e-9) / more
        if longer - shorter >= PILOT_SHARE * budget or longer >= budget:
            return Pace(max(0.0, longer - steps * per_step), per_step)
        more = min((GROWTH - 1) * steps, math.ceil(ENOUGH * PILOT_SHARE * budget / per_step))


def pace_of(run: Run, budget: float, output_dir: Path) -> Pace:
    """The pace of a run's method on its scene, from the record of earlier pilots or from new ones.

    Args:
        run: the pace is that of its scene, method, threads and seed; its steps do not matter.
        budget: seconds that the real run gets.
        output_dir: folder of the sweep, which keeps the pilots' times.

    Raises:
        CommandFailed: a pilot failed.
    """
    folder = run.folder(output_dir / "pilots")
    record = folder / "seconds.json"
    known: dict[str, float] = json.loads(record.read_text()) if record.is_file() else {}
    environment = {} if run.threads is None else {"OMP_NUM_THREADS": str(run.threads)}
    if not is_ours(run.method.name):
        environment |= without_lpips(output_dir / "torch")

    def seconds_of(steps: int) -> float:
        if str(steps) not in known:
            pilot = folder / str(steps)
            trained = train(
                run.method.name,
                run.scene.words,
                pilot,
                steps=steps,
                seed=run.seed,
                options=run.method.options,
                environment=environment,
            )
            known[str(steps)] = trained.cost.seconds
            shutil.rmtree(pilot)  # a pilot's checkpoint is of no use, and large
            write_whole(record, json.dumps(known, indent=2) + "\n")
        return known[str(steps)]

    return measured_pace(seconds_of, budget)
