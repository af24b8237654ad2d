"""How mean, variance and maximum of the spectrum grow with width and samples (claims C4 and C5)."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from bn_field_plugin.nn import NormName
from bn_field_plugin.nn.norms import keeps_statistics
from bn_field_plugin.ntk.mean_field import mean_field
from bn_field_plugin.ntk.points import random_points
from bn_field_plugin.ntk.spectrum_statistics import statistics_of
from bn_field_plugin.progress import Tracker, silent
from standalone.networks import Initialisation, Variant, by_norm
from standalone.ntk.studies.common import Interval, NetworkSize, interval, spectrum_of
from standalone.pages import DASHES, Line, Plot, Table, line_panels, write_page
from standalone.plots import linestyle, new_figure, save_figure
from standalone.report import Cell, csv_text, machine_facts, write_table

Sweep = Literal["both", "width", "samples"]
"""What grows: width and number of samples together, or one of them while the other is fixed."""

QUANTITIES = ("mean", "variance", "maximum")
"""Numbers of the spectrum whose growth is fitted."""

TOLERANCE = 0.1
"""By how much an exponent may miss its prediction, since no power law is exact at finite sizes."""

PREDICTIONS: dict[tuple[NormName, Sweep, str], tuple[float, float]] = {
    ("none", "both", "mean"): (1, 1),
    ("none", "both", "variance"): (3, 3),
    ("none", "both", "maximum"): (2, 2),
    ("none", "width", "mean"): (1, 1),
    ("none", "width", "variance"): (2, 2),
    ("none", "width", "maximum"): (1, 1),
    ("none", "samples", "mean"): (0, 0),
    ("none", "samples", "variance"): (1, 1),
    ("none", "samples", "maximum"): (1, 1),
    ("batch", "both", "mean"): (1, 1),
    ("batch", "both", "variance"): (1, 1),
    ("batch", "both", "maximum"): (1, 1.5),
}
"""Least and largest exponent that is predicted: by Cai et al. where both grow, else by the closed form."""


@dataclass(frozen=True)
class ScalingConfig:
    """Sizes and networks of the study."""

    network: str = "mlp"
    """The network without its norm: mlp, pemlp-K."""
    norms: tuple[NormName, ...] = ("none", "batch", "layer", "global", "cross")
    """Norms to measure; batch norm both coupled and frozen."""
    inits: tuple[Initialisation, ...] = ("pytorch", "he")
    """Initialisations to measure."""
    sweeps: tuple[Sweep, ...] = ("both", "width", "samples")
    """What grows: width and number of samples together, or one of them."""
    sizes: tuple[int, ...] = (32, 64, 128, 256)
    """Widths and numbers of samples."""
    held: int = 128
    """The width, or the number of samples, while it is fixed."""
    depth: int = 3
    """Hidden layers."""
    seeds: int = 10
    """Networks and sets of random points of each size."""


SHADES = by_norm("#4c72b0", "#c44e52", "#55a868", "#8172b3", "#937860", others="#8c8c8c")
"""Colours of the norms."""


class Measurement(NamedTuple):
    """Numbers of one spectrum."""

    norm: NormName
    statistics: str
    init: str
    sweep: Sweep
    size: int
    seed: int
    mean: float
    variance: float
    maximum: float


class Fit(NamedTuple):
    """An exponent that is fitted over sizes, and what is predicted for it."""

    norm: NormName
    statistics: str
    init: str
    sweep: Sweep
    quantity: str
    exponent: Interval
    """Slope on logarithmic axes, with its interval over seeds."""
    predicted: tuple[float, float] | None
    """Least and largest predicted exponent; None where there is no prediction."""
    closed_form: float | None
    """Exponent of the closed form, fitted at the same sizes and points; None with a norm."""

    @property
    def verdict(self) -> str:
        """Whether the interval lies within the prediction (with `TOLERANCE`), or at least overlaps it."""
        if self.predicted is None:
            return "no prediction"
        low, high = self.predicted[0] - TOLERANCE, self.predicted[1] + TOLERANCE
        if low <= self.exponent.low and self.exponent.high <= high:
            return "holds"
        if self.exponent.low <= self.predicted[1] and self.exponent.high >= self.predicted[0]:
            return "agrees within its spread"
        if self.exponent.high < low or self.exponent.low > high:
            return "does not hold"
        return "undecided"


@dataclass(frozen=True)
class ScalingResult:
    """Measurements, the closed form's values for the networks without norm, and the fits."""

    measurements: list[Measurement]
    predictions: list[Measurement]
    fits: list[Fit]


def run(config: ScalingConfig, tracker: Tracker = silent) -> ScalingResult:
    """Measure and fit.

    Raises:
        UserError: fewer than two sizes, or an unknown network.
    """
    if len(set(config.sizes)) < 2 or min(config.sizes) < 2:
        raise UserError("--sizes needs at least two different sizes of 2 or more, to fit an exponent")
    jobs = [
        (norm, statistics, init, sweep, size, seed)
        for norm in config.norms
        for statistics in (("batch", "frozen") if norm == "batch" else ("batch",))
        for init in config.inits
        for sweep in config.sweeps
        for size in config.sizes
        for seed in range(config.seeds)
    ]
    measurements, predictions = [], []
    for norm, statistics, init, sweep, size, seed in tracker(jobs, "spectra"):
        width = config.held if sweep == "samples" else size
        samples = config.held if sweep == "width" else size
        points = random_points(samples, 2, seed)
        variant = Variant(config.network, norm)
        network_size = NetworkSize(width, config.depth, init)
        found = statistics_of(spectrum_of(variant, network_size, points, seed, statistics))
        key = (norm, statistics, init, sweep, size, seed)
        measurements.append(Measurement(*key, found.mean, found.variance, found.maximum))
        if norm == "none" and init in ("pytorch", "he"):
            encoding = variant.config(2, 1, width, config.depth).encoding.build(2)
            closed = mean_field(encoding(points).numpy(), width, config.depth, 1, init)
            predictions.append(Measurement(*key, closed.mean, closed.variance, closed.maximum))
    return ScalingResult(measurements, predictions, fit(measurements, predictions))


def fit(measurements: Sequence[Measurement], predictions: Sequence[Measurement]) -> list[Fit]:
    """Exponents of every quantity: one is fitted for each seed, and intervals are over seeds."""
    keys = list(dict.fromkeys(m[:4] for m in measurements))
    fits = []
    for key in keys:
        for quantity in QUANTITIES:
            slopes = _slopes([m for m in measurements if m[:4] == key], quantity)
            closed = _slopes([m for m in predictions if m[:4] == key], quantity)
            norm, statistics, init, sweep = key
            predicted = PREDICTIONS.get((norm, sweep, quantity))
            mean = float(np.mean(closed)) if closed else None
            fits.append(Fit(norm, statistics, init, sweep, quantity, interval(slopes), predicted, mean))
    return fits


def _slopes(measurements: Sequence[Measurement], quantity: str) -> list[float]:
    """For each seed, the slope of a quantity's logarithm over the logarithm of the size."""
    slopes = []
    for seed in sorted({m.seed for m in measurements}):
        own = [m for m in measurements if m.seed == seed]
        x = [math.log(m.size) for m in own]
        y = [math.log(max(getattr(m, quantity), 1e-300)) for m in own]
        slopes.append(float(np.polyfit(x, y, 1)[0]))
    return slopes


def fit_rows(fits: Sequence[Fit]) -> list[dict[str, Cell]]:
    """The fits as a table."""
    return [
        {
            "norm": one.norm,
            "statistics": one.statistics if keeps_statistics(one.norm) else "",
            "init": one.init,
            "grows": {"both": "width and samples"}.get(one.sweep, one.sweep),
            "quantity": one.quantity,
            "predicted": _range(one.predicted),
            "closed form": one.closed_form,
            "measured": f"{one.exponent.mean:.2f} [{one.exponent.low:.2f}, {one.exponent.high:.2f}]",
            "verdict": one.verdict,
        }
        for one in fits
    ]


def write(config: ScalingConfig, result: ScalingResult, folder: Path, command: str) -> None:
    """Write the table `scaling` (.md, .json), `scaling.png`, `.html`, and all measurements (`.csv`)."""
    kinds = (("measured", result.measurements), ("closed form", result.predictions))
    measurements = [{"kind": kind, **one._asdict()} for kind, found in kinds for one in found]
    write_whole(folder / "measurements.csv", csv_text(measurements, ["kind", *Measurement._fields]))
    draw(config, result, folder / "scaling.png")
    facts: dict[str, Cell] = {
        **machine_facts(),
        "network": f"{config.network}, {config.depth} hidden layers, 1 output",
        "points": "uniform in [-1, 1]^2",
        "sizes": " ".join(map(str, config.sizes)),
        "held": config.held,
        "seeds": config.seeds,
    }
    notes = [
        "Exponents of N: slopes on logarithmic axes, mean over seeds [95 % confidence interval].",
        "closed form: the slope of the infinite-width formula at the same sizes and points.",
        f"holds: the interval lies within the prediction, give or take {TOLERANCE}; "
        "agrees within its spread: it is wider, and meets the prediction; undecided: it meets the border.",
    ]
    title, exponents = "Scaling of the spectrum", fit_rows(result.fits)
    write_table("scaling", title, command, exponents, facts, notes, folder=folder)
    parts = [*plots(config, result), Table("Exponents", exponents)]
    write_page(folder / "scaling.html", title, parts, command, notes)


def draw(
    config: ScalingConfig, result: ScalingResult, path: Path, sweeps: Sequence[Sweep] | None = None
) -> None:
    """Draw quantities over sizes: one row for each sweep and initialisation, one column for each quantity.

    Args:
        config: the study.
        result: its result.
        path: the picture.
        sweeps: those to draw; all by default.
    """
    panels_of = [(sweep, init) for sweep in sweeps or config.sweeps for init in config.inits]
    figure, panels = new_figure(len(panels_of), len(QUANTITIES), (3.3, 2.4))
    for row, (sweep, init) in enumerate(panels_of):
        for column, quantity in enumerate(QUANTITIES):
            axes = panels[row, column]
            for norm, statistics in dict.fromkeys((m.norm, m.statistics) for m in result.measurements):
                key = (norm, statistics, init, sweep)
                values = _by_size(result.measurements, key, quantity)
                label = norm + (", frozen" if statistics == "frozen" else "")
                style = ":" if statistics == "frozen" else linestyle(Variant("mlp", norm))
                axes.plot(*values, color=SHADES[norm], linestyle=style, marker="o", markersize=3, label=label)
            closed = _by_size(result.predictions, ("none", "batch", init, sweep), quantity)
            if len(closed[0]):
                axes.plot(*closed, color="black", linewidth=0.8, label="closed form, no norm")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_title(f"{quantity}, {init}", fontsize=9)
            axes.set_xlabel({"both": "width = samples"}.get(sweep, sweep))
    panels[0, 0].legend(fontsize=6)
    save_figure(figure, path)


def plots(config: ScalingConfig, result: ScalingResult) -> list[Plot]:
    """What `draw` draws, for a page."""
    found = []
    for sweep in config.sweeps:
        panels: dict[str, list[Line]] = {}
        for init in config.inits:
            for quantity in QUANTITIES:
                lines = panels[f"{quantity}, {init}"] = []
                for norm, statistics in dict.fromkeys((m.norm, m.statistics) for m in result.measurements):
                    values = _by_size(result.measurements, (norm, statistics, init, sweep), quantity)
                    label = norm + (", frozen" if statistics == "frozen" else "")
                    dash = "dot" if statistics == "frozen" else DASHES[norm]
                    lines.append(Line(label, *values, SHADES[norm], dash))
                closed = _by_size(result.predictions, ("none", "batch", init, sweep), quantity)
                if closed[0]:
                    lines.append(Line("closed form, no norm", *closed, "#000000"))
        grows = {"both": "width = samples"}.get(sweep, sweep)
        found.append(Plot(f"Over {grows}", line_panels(panels, (grows,), ("",), log="xy", height=260)))
    return found


def _by_size(
    measurements: Sequence[Measurement], key: tuple[str, ...], quantity: str
) -> tuple[list[int], list[float]]:
    own = [m for m in measurements if m[:4] == key]
    sizes = sorted({m.size for m in own})
    means = [float(np.mean([getattr(m, quantity) for m in own if m.size == size])) for size in sizes]
    return sizes, means


def _range(predicted: tuple[float, float] | None) -> str:
    if predicted is None:
        return ""
    low, high = predicted
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
