"""A sweep: pilots where the budget is minutes, then all runs that have not been finished."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bn_field_plugin.errors import UserError
from standalone.sweep.budget import Pace, pace_of
from standalone.sweep.engine import Outcome, Resources, run_tasks, started
from standalone.sweep.runs import Method, Result, Run, execute, finished, product
from standalone.sweep.scenes import Scene

Value = TypeVar("Value")

PILOT_STEPS = 0
"""The steps that identify a pilot, which trains for several numbers of steps."""


@dataclass(frozen=True)
class Sweep:
    """What is to be run: every method on every scene with every seed."""

    scenes: Sequence[Scene]
    methods: Sequence[Method]
    seeds: Sequence[int]
    steps: int | None
    """Steps of each run; None where `minutes` is given."""
    minutes: float | None
    """Wall clock of each run's ns-train."""
    threads: int
    """Threads of each run."""
    views: bool = False
    """Keep pictures of the test views."""

    def cases(self) -> list[Run]:
        """All runs in the order in which they start, with the budget's steps or `PILOT_STEPS`."""
        return [
            Run(scene, method, seed, self.steps or PILOT_STEPS, self.threads, self.views)
            for scene, method, seed in product(self.scenes, self.methods, self.seeds)
        ]

    def pilot(self, case: Run) -> Run:
        """The pilot that measures the pace for a case: pilots run with the first seed only."""
        return Run(case.scene, case.method, self.seeds[0], PILOT_STEPS, self.threads)

    def timed(self, paces: Mapping[Run, Pace]) -> list[Run]:
        """The runs of a budget in minutes; those without a pace are left out.

        Raises:
            UserError: the time is not enough for one step.
        """
        seconds = 60 * (self.minutes or 0.0)
        steps = {pilot: pace.steps(seconds) for pilot, pace in paces.items()}
        return [
            Run(case.scene, case.method, case.seed, steps[self.pilot(case)], self.threads, self.views)
            for case in self.cases()
            if self.pilot(case) in steps
        ]


@dataclass(frozen=True)
class Report:
    """What a sweep has measured, and what has failed."""

    results: dict[Run, Result]
    """Of the finished runs, those of earlier calls among them, in the order of the sweep."""
    failures: dict[str, str]
    """Reason of each failure, by what failed."""


def run_sweep(sweep: Sweep, output_dir: Path, resources: Resources, console: Console) -> Report:
    """Run what has not been finished.

    Args:
        sweep: what to run.
        output_dir: folder of all runs.
        resources: what runs may use.
        console: where progress goes.

    Raises:
        UserError: Ray is absent or cannot be reached, a record cannot be read, or too few minutes.
        KeyboardInterrupt: Ctrl-C; finished runs stay.
    """
    failures: dict[str, str] = {}
    with started(resources) as ray:
        if sweep.minutes is None:
            runs = sweep.cases()
        else:
            pilots = list(dict.fromkeys(sweep.pilot(case) for case in sweep.cases()))
            measure = functools.partial(pace_of, budget=60 * sweep.minutes, output_dir=output_dir)
            paces: dict[Run, Pace] = {}
            for pilot in shown(run_tasks(ray, measure, pilots, resources), len(pilots), "pilot", console):
                if pilot.value is None:
                    failures[f"pilot of {pilot.item.title()}"] = pilot.error
                else:
                    paces[pilot.item] = pilot.value
            runs = sweep.timed(paces)
        unfinished = [run for run in runs if finished(run, output_dir) is None]
        if len(unfinished) < len(runs):
            console.print(f"{len(runs) - len(unfinished)} of {len(runs)} runs were finished before")
        work = functools.partial(execute, output_dir=output_dir)
        for done in shown(run_tasks(ray, work, unfinished, resources), len(unfinished), "run", console):
            if done.value is None:
                failures[done.item.title()] = done.error
    results = {run: result for run in runs if (result := finished(run, output_dir)) is not None}
    return Report(results, failures)


def shown(
    outcomes: Iterable[Outcome[Run, Value]], total: int, what: str, console: Console
) -> Iterator[Outcome[Run, Value]]:
    """Yield the outcomes, and print a line for each, below which a terminal shows a progress bar.

    Args:
        outcomes: of tasks.
        total: how many there will be.
        what: what a task is called.
        console: where to.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{what}s", total=total)
        for number, outcome in enumerate(outcomes, 1):
            progress.advance(bar)
            line = f"{what} {number}/{total}: {outcome.item.title()}: {_verdict(outcome)}"
            progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
            yield outcome


def _verdict(outcome: Outcome[Run, Value]) -> str:
    value = outcome.value
    if isinstance(value, Result):
        return f"{value.metrics.get('psnr', float('nan')):.2f} dB in {value.seconds:.0f} s"
    if isinstance(value, Pace):
        return f"{value.startup:.1f} s to start, {1e3 * value.per_step:.0f} ms a step"
    return "failed"


def check_budget(steps: int | None, minutes: float | None) -> None:
    """Make sure that either steps or minutes are given, and are above 0.

    Raises:
        UserError: both, none, or not above 0.
    """
    if (steps is None) == (minutes is None):
        raise UserError("give the runs a budget: either --steps or --minutes")
    if (steps is not None and steps < 1) or (minutes is not None and minutes <= 0):
        raise UserError("--steps and --minutes must be above 0")
