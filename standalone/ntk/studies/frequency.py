"""Which frequencies of a target are learned when, with and without norm (claim C6).

In one dimension the target is a sum of sines of equal amplitude, and the error of each is read off the
Fourier transform (Rahaman et al. 2019); in two it is an image, and errors are those of octaves.
"""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from bn_field_plugin.nn import batch_statistics
from bn_field_plugin.ntk.points import grid
from bn_field_plugin.progress import Tracker, silent
from standalone.bands import band_errors
from standalone.fitting import Budget, Callback, FitState, fit
from standalone.networks import Variant
from standalone.ntk.studies.common import Interval, NetworkSize, build, geometric_interval, interval
from standalone.optimization import OptimizationConfig
from standalone.pages import Heat, Plot, Table, heat_panels, write_page
from standalone.plots import new_figure, save_figure
from standalone.report import Cell, csv_text, machine_facts, write_table
from standalone.sampling import FullBatch

LEARNED = 0.5
"""Relative error below which a frequency counts as learned."""


@dataclass(frozen=True)
class FrequencyConfig:
    """Targets, networks and training of the study."""

    networks: tuple[str, ...] = ("mlp", "mlp+batch", "pemlp-5", "pemlp-5+batch")
    """NETWORK or NETWORK+NORM; each norm is compared with the same network without."""
    size: NetworkSize = field(default_factory=lambda: NetworkSize(depth=4))
    """Size and initialisation of the networks."""
    steps: int = 1000
    """Optimisation steps, full batch."""
    every: int = 10
    """Number of steps after which the errors are taken again."""
    optimization: OptimizationConfig = field(default_factory=lambda: OptimizationConfig(optimizer="adam"))
    """Optimizers; by default Adam at the learning rate that suits each network's norm."""
    cycles: tuple[int, ...] = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40)
    """Frequencies of the one-dimensional target, in periods over [-1, 1]."""
    samples: int = 256
    """Points of the one-dimensional target."""
    side: int = 64
    """Pixels along each side of the image."""
    image: Path | None = None
    """An image to learn instead of random texture; it is made grey and resized."""
    seeds: int = 5
    """Networks and targets."""

    def check(self) -> None:
        """Make sure that the options can be used.

        Raises:
            UserError: one that cannot.
        """
        if not self.cycles or min(self.cycles) < 1 or 2 * max(self.cycles) >= self.samples:
            raise UserError(f"--cycles must lie between 1 and below half of --samples ({self.samples})")
        if not 1 <= self.every <= self.steps:
            raise UserError(f"--every is {self.every}: it must lie between 1 and --steps ({self.steps})")


class Course(NamedTuple):
    """Errors of one training run."""

    steps: np.ndarray
    """Steps at which the errors were taken, [t]."""
    frequencies: tuple[str, ...]
    """Names of the frequencies, the lowest first, [f]."""
    errors: np.ndarray
    """Relative error of each frequency, [t, f]: 1 where nothing is learned, 0 where all is."""

    def learned_at(self) -> np.ndarray:
        """First step at which each error was below `LEARNED`, infinite where it never was, [f]."""
        below = self.errors < LEARNED
        first = np.where(below.any(0), below.argmax(0), -1)
        return np.where(first >= 0, self.steps[first], np.inf).astype(float)


Measure = Callable[[np.ndarray], dict[str, float]]
"""Function from predictions at all points to the relative error of each frequency."""


class Task(NamedTuple):
    """A target, and how its error is split by frequency."""

    points: Tensor
    values: Tensor
    measure: Measure


def sines(config: FrequencyConfig, seed: int) -> Task:
    """The one-dimensional target: sines with random phases, mean square 1."""
    generator = torch.Generator().manual_seed(seed)
    phases = torch.rand(len(config.cycles), generator=generator, dtype=torch.float64) * 2 * math.pi
    points = grid(config.samples, 1)
    cycles = torch.tensor(config.cycles, dtype=torch.float64)
    values = torch.sin(math.pi * cycles * points + phases).sum(-1, keepdim=True)
    values = values / values.square().mean().sqrt()
    wanted = np.fft.rfft(values[:, 0].numpy())

    def measure(outputs: np.ndarray) -> dict[str, float]:
        found = np.fft.rfft(outputs[:, 0].astype(np.float64))
        return {str(k): float(abs(found[k] - wanted[k]) / abs(wanted[k])) for k in config.cycles}

    return Task(points, values, measure)


def texture(config: FrequencyConfig, seed: int) -> Task:
    """The image: the given one, or random phases with amplitudes falling as 1/f, as in natural images."""
    side = config.side
    values = _read(config.image, side) if config.image is not None else _natural(side, seed)
    values = (values - values.mean()) / values.std()
    points = grid(side)

    def measure(outputs: np.ndarray) -> dict[str, float]:
        errors = band_errors(values[..., None], outputs.reshape(side, side, 1))
        return {name: math.sqrt(error) for name, error in errors.items()}

    return Task(points, torch.from_numpy(values.reshape(-1, 1)), measure)


def learn(variant: Variant, config: FrequencyConfig, task: Task, seed: int) -> Course:
    """Train one network in fp32 and watch its errors; outputs are taken with the batch's statistics."""
    network = build(variant, config.size, task.points.shape[1], 1, seed).float()
    points, values = task.points.float(), task.values.float()
    steps: list[int] = []
    courses: list[dict[str, float]] = []

    def look(state: FitState) -> dict[str, float]:
        with torch.no_grad(), batch_statistics(state.network):
            outputs = state.network(points).numpy()
        steps.append(state.step)
        courses.append(task.measure(outputs))
        return {}

    fit(
        network,
        FullBatch(points, values),
        F.mse_loss,
        config.optimization,
        Budget(steps=config.steps),
        callbacks=[Callback(look, config.every)],
    )
    names = tuple(courses[0])
    errors = np.array([[course[name] for name in names] for course in courses])
    return Course(np.array(steps), names, errors)


TASKS: dict[str, Callable[[FrequencyConfig, int], Task]] = {"1D sines": sines, "2D image": texture}
"""The targets by name."""

Courses = dict[tuple[str, str], list[Course]]
"""Courses of every seed by task and network."""


def run(config: FrequencyConfig, tracker: Tracker = silent) -> Courses:
    """Train every network on every target.

    Raises:
        UserError: options or an image that cannot be used.
    """
    config.check()
    variants = [Variant.parse(name) for name in config.networks]
    jobs = [(task, v, seed) for task in TASKS for v in variants for seed in range(config.seeds)]
    found: Courses = {}
    for task, variant, seed in tracker(jobs, "training runs"):
        course = learn(variant, config, TASKS[task](config, seed), seed)
        found.setdefault((task, variant.slug), []).append(course)
    return found


@dataclass(frozen=True)
class Speedup:
    """How one network learns the upper half of the frequencies with a norm and without it, over seeds."""

    task: str
    network: str
    error_without: Interval
    """Mean relative error of these frequencies after the last step without the norm."""
    error_with: Interval
    """Mean relative error of these frequencies after the last step with the norm."""
    error_ratio: Interval
    """Error with the norm over that without it, each for two networks of one seed."""
    factor: Interval
    """Steps to learn these frequencies without the norm over those with it. A frequency that is not learned
    counts as learned at the last step."""
    is_bound: bool
    """Whether some frequency is never learned without the norm: the true factor is then larger."""

    @property
    def verdict(self) -> str:
        """Whether the norm teaches high frequencies earlier, or better if they never come without it."""
        if self.factor.low > 1 or (self.is_bound and self.error_ratio.high < 1):
            return "holds"
        if self.factor.high < 1 or (self.is_bound and self.error_ratio.low > 1):
            return "does not hold"
        return "undecided"


def speedups(config: FrequencyConfig, found: Courses) -> list[Speedup]:
    """The comparison of each network that has a norm with the same network without it."""
    result = []
    for (task, name), courses in found.items():
        variant = Variant.parse(name)
        without = found.get((task, variant.network))
        if variant.norm == "none" or without is None:
            continue
        upper = len(courses[0].frequencies) // 2
        ratios, bound = [], False
        for a, b in zip(without, courses, strict=True):
            slow, fast = a.learned_at()[upper:], b.learned_at()[upper:]
            bound |= bool(np.isinf(slow).any())
            last = float(config.steps)
            ratios.append(float(np.exp(np.mean(np.log(np.minimum(slow, last) / np.minimum(fast, last))))))
        ends = [[float(c.errors[-1, upper:].mean()) for c in group] for group in (without, courses)]
        ratio = geometric_interval([b / a for a, b in zip(*ends, strict=True)])
        factor = geometric_interval(ratios)
        result.append(Speedup(task, name, interval(ends[0]), interval(ends[1]), ratio, factor, bound))
    return result


def speedup_rows(found: list[Speedup]) -> list[dict[str, Cell]]:
    """The comparison as a table."""
    return [
        {
            "target": one.task,
            "network": one.network,
            "error without": str(one.error_without),
            "error with": str(one.error_with),
            "with over without": str(one.error_ratio),
            "times fewer steps": ("at least " if one.is_bound else "") + str(one.factor),
            "verdict": one.verdict,
        }
        for one in found
    ]


def write(config: FrequencyConfig, found: Courses, folder: Path, command: str) -> None:
    """Write `frequency.png`, `.html`, all errors (`errors.csv`) and the table `frequency` (.md, .json)."""
    columns = ("target", "network", "seed", "step", "frequency", "error")
    errors = [
        dict(zip(columns, (task, name, seed, step, frequency, f"{error:.6g}"), strict=True))
        for (task, name), courses in found.items()
        for seed, course in enumerate(courses)
        for step, row in zip(course.steps, course.errors, strict=True)
        for frequency, error in zip(course.frequencies, row, strict=True)
    ]
    write_whole(folder / "errors.csv", csv_text(errors, columns))
    draw(found, folder / "frequency.png")
    facts: dict[str, Cell] = {
        **machine_facts(),
        "network": f"{config.size.depth} x {config.size.width}",
        "init": config.size.init,
        "optimizer": config.optimization.optimizer,
        "steps": config.steps,
        "seeds": config.seeds,
    }
    notes = [
        "Relative error of the upper half of the frequencies after the last step; steps until that error was "
        f"below {LEARNED}, without over with norm. Mean over seeds [95 % confidence interval].",
        "Learning rates are those that suit each network's norm (standalone.optimization).",
    ]
    rows = speedup_rows(speedups(config, found))
    title = "Learning by frequency"
    write_table("frequency", title, command, rows, facts, notes, folder=folder)
    parts = [*plots(found), Table("High frequencies with a norm against without", rows)]
    write_page(folder / "frequency.html", title, parts, command, notes)


def draw(found: Courses, path: Path) -> None:
    """Draw heat maps of the relative error by frequency and step, as means over seeds."""
    tasks = list(dict.fromkeys(task for task, _ in found))
    names = list(dict.fromkeys(name for _, name in found))
    figure, panels = new_figure(len(tasks), len(names), (3.0, 2.4))
    image: Any = None
    for row, task in enumerate(tasks):
        for column, name in enumerate(names):
            axes, courses = panels[row, column], found[task, name]
            errors = np.mean([course.errors for course in courses], axis=0).T
            frequencies = courses[0].frequencies
            image = axes.pcolormesh(
                courses[0].steps,
                np.arange(len(frequencies)),
                np.log10(np.clip(errors, 1e-2, 1)),
                shading="nearest",
                vmin=-2,
                vmax=0,
                cmap="magma",
                rasterized=True,
            )
            axes.grid(False)
            axes.set_yticks(np.arange(len(frequencies)), frequencies, fontsize=6)
            axes.set_title(f"{Variant.parse(name).label}, {task}", fontsize=8)
            axes.set_xlabel("step")
        panels[row, 0].set_ylabel("periods" if task.startswith("1D") else "cycles per pixel")
    figure.colorbar(image, ax=panels, label="log10 of the relative error", shrink=0.6)
    save_figure(figure, path)


def plots(found: Courses) -> list[Plot]:
    """What `draw` draws, for a page."""
    result = []
    for task in dict.fromkeys(task for task, _ in found):
        panels = {
            Variant.parse(name).label: Heat(
                courses[0].steps,
                courses[0].frequencies,
                np.mean([course.errors for course in courses], axis=0).T,
            )
            for (own, name), courses in found.items()
            if own == task
        }
        unit = "periods" if task.startswith("1D") else "cycles per pixel"
        figure = heat_panels(panels, "step", unit, "relative error", low=1e-2, high=1.0)
        result.append(Plot(task, figure, "Relative error of each frequency, mean over seeds."))
    return result


def _natural(side: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(generator.standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    return np.fft.irfft2(spectrum / frequency, (side, side))


def _read(path: Path, side: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(
                image.convert("L").resize((side, side), Image.Resampling.LANCZOS), dtype=np.float64
            )
    except OSError as error:
        raise UserError(f"--image {path} cannot be read ({error}): give a picture") from error
