"""Figure 1 of Cai et al.: spectra of MLP, PEMLP-1 and PEMLP-5, without and with batch norm (claim C1)."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bn_field_plugin.ntk.points import grid
from bn_field_plugin.ntk.spectrum_statistics import RESOLVED, SpectrumStatistics, statistics_of
from bn_field_plugin.progress import Tracker, silent
from standalone.networks import Variant
from standalone.ntk.histograms import draw_histogram, note_statistics
from standalone.ntk.spectrum_plots import STYLES, ShownSpectrum, spectrum_plots
from standalone.ntk.studies.common import Interval, NetworkSize, geometric_interval, interval, spectrum_of
from standalone.pages import Table, write_page
from standalone.plots import color, new_figure, save_figure
from standalone.report import Cell, machine_facts, write_arrays, write_table

NETWORKS = ("mlp", "pemlp-1", "pemlp-5")
"""The networks of the figure."""
CASES = (("none", "batch"), ("batch", "batch"), ("batch", "frozen"))
"""Norm and statistics of each spectrum of a network."""
CASE_NAMES = {"batch": "coupled", "frozen": "frozen statistics"}
"""Whose statistics a norm takes, in words."""
NO_NORM = ("#4c72b0", "dash")
"""Colour and line of spectra without norm on a page."""
REPORTED = (
    "mean",
    "variance",
    "maximum",
    "top_share",
    "effective_rank",
    "median_to_mean",
    "tail_share",
    "resolved",
)
"""Numbers of a spectrum that the table holds."""


@dataclass(frozen=True)
class FigureConfig:
    """Networks and points of the figure."""

    size: NetworkSize = field(default_factory=NetworkSize)
    """Size and initialisation of the networks."""
    side: int = 32
    """The points are a grid with this many along each axis of [-1, 1]^2."""
    seeds: int = 5
    """Networks of each kind."""


Key = tuple[str, str, str]
"""Network, norm, statistics."""


@dataclass(frozen=True)
class Comparison:
    """How batch norm changes one network's spectrum: ratios, each of two networks of one seed."""

    network: str
    statistics: str
    """Whose statistics batch norm used."""
    median_to_mean: Interval
    """Factor by which the median over the mean rises."""
    top_share: Interval
    """Factor by which the largest eigenvalue's share of the trace falls, if below 1."""
    tail_share: Interval
    """Factor by which the share of all but the largest tenth rises."""

    @property
    def holds(self) -> bool:
        """Whether the bulk rises and the largest eigenvalue's share falls, beyond the spread over seeds."""
        return self.median_to_mean.low > 1 and self.top_share.high < 1


def run(config: FigureConfig, tracker: Tracker = silent) -> dict[Key, list[np.ndarray]]:
    """All spectra, one for each seed, by network, norm and statistics."""
    points = grid(config.side)
    spectra: dict[Key, list[np.ndarray]] = {}
    keys = [(network, *case) for network in NETWORKS for case in CASES]
    for network, norm, statistics in tracker(keys, "spectra"):
        variant = Variant(network, norm)
        spectra[network, norm, statistics] = [
            spectrum_of(variant, config.size, points, seed, statistics) for seed in range(config.seeds)
        ]
    return spectra


def compare(spectra: dict[Key, list[np.ndarray]]) -> list[Comparison]:
    """How batch norm changes the spectrum of each network, with statistics coupled and frozen."""
    comparisons = []
    for network in NETWORKS:
        without = [statistics_of(values) for values in spectra[network, "none", "batch"]]
        for statistics in ("batch", "frozen"):
            normed = [statistics_of(values) for values in spectra[network, "batch", statistics]]

            def ratio(
                name: str, a: list[SpectrumStatistics] = normed, b: list[SpectrumStatistics] = without
            ) -> Interval:
                tiny = RESOLVED  # smaller numbers are rounding errors, and a ratio needs more than zero
                return geometric_interval(
                    [
                        max(getattr(x, name), tiny) / max(getattr(y, name), tiny)
                        for x, y in zip(a, b, strict=True)
                    ]
                )

            comparisons.append(
                Comparison(
                    network, statistics, ratio("median_to_mean"), ratio("top_share"), ratio("tail_share")
                )
            )
    return comparisons


def write(config: FigureConfig, spectra: dict[Key, list[np.ndarray]], folder: Path, command: str) -> None:
    """Write `figure.png`, `.html`, `eigenvalues.npz`, and tables `figure` and `comparison` (.md, .json)."""
    draw(config, spectra, folder / "figure.png")
    arrays = {"_".join(key): np.stack(values) for key, values in spectra.items()}
    write_arrays(folder / "eigenvalues.npz", arrays)
    facts = machine_facts() | describe(config)
    rows: list[dict[str, Cell]] = []
    for (network, norm, statistics), values in spectra.items():
        found = [statistics_of(one) for one in values]
        row: dict[str, Cell] = {
            "network": network,
            "norm": norm,
            "statistics": statistics if norm != "none" else "",
        }
        row |= {name: str(interval([getattr(one, name) for one in found])) for name in REPORTED}
        rows.append(row)
    notes = ["Mean over seeds [95 % confidence interval]."]
    title, changes = "Spectra at initialisation", comparison_rows(compare(spectra))
    tables = [Table("Spectra", rows), Table("Batch norm over no norm", changes)]
    parts = [*spectrum_plots(shown(spectra)), *tables]
    write_page(folder / "figure.html", title, parts, command, notes)
    write_table("figure", title, command, rows, facts, notes, folder=folder)
    write_table(
        "comparison",
        "Batch norm over no norm",
        command,
        changes,
        facts,
        ["Geometric mean over seeds of the ratio with equal seed [95 % confidence interval]."],
        folder=folder,
    )


def comparison_rows(comparisons: list[Comparison]) -> list[dict[str, Cell]]:
    """The comparisons as rows of a table."""
    return [
        {
            "network": one.network,
            "statistics": one.statistics,
            "median/mean": str(one.median_to_mean),
            "max/trace": str(one.top_share),
            "tail share": str(one.tail_share),
            "bulk rises, top share falls": "yes" if one.holds else "no",
        }
        for one in comparisons
    ]


def describe(config: FigureConfig) -> dict[str, Cell]:
    """What the spectra are of, as facts for a table."""
    return {
        "network": f"{config.size.depth} x {config.size.width}, 1 output",
        "init": config.size.init,
        "points": f"{config.side} x {config.side} grid",
        "seeds": config.seeds,
    }


def shown(spectra: dict[Key, list[np.ndarray]]) -> dict[str, list[ShownSpectrum]]:
    """The spectra for a page, by network: without norm, with batch norm coupled, and with it frozen."""
    panels: dict[str, list[ShownSpectrum]] = {}
    for (network, norm, statistics), values in spectra.items():
        name = "no norm" if norm == "none" else f"batch norm, {CASE_NAMES[statistics]}"
        style = NO_NORM if norm == "none" else STYLES[statistics]
        panels.setdefault(Variant(network).label, []).append(ShownSpectrum(name, values, *style))
    return panels


def draw(config: FigureConfig, spectra: dict[Key, list[np.ndarray]], path: Path) -> None:
    """Six panels: the rows without and with batch norm, the columns the networks."""
    figure, panels = new_figure(2, len(NETWORKS), (3.2, 2.5))
    highest = max(float(values.max()) for found in spectra.values() for values in found)
    lowest = 1e-11 * highest
    for column, network in enumerate(NETWORKS):
        for row, norm in enumerate(("none", "batch")):
            axes, variant = panels[row, column], Variant(network, norm)  # type: ignore[arg-type]
            shown = spectra[network, norm, "batch"]
            draw_histogram(axes, shown, color(variant), low=lowest, high=highest, label="coupled")
            if norm == "batch":
                frozen = spectra[network, norm, "frozen"]
                draw_histogram(
                    axes, frozen, "", outline=True, low=lowest, high=highest, label="frozen statistics"
                )
                axes.set_xlabel("eigenvalue of the NTK")
                if column == 0:
                    axes.legend(fontsize=7, loc="upper right")
            note_statistics(axes, shown)
            axes.set_title(variant.label)
            axes.set_xlim(lowest, highest * 1.5)
            axes.set_ylim(0.5, config.side**2)
            if column == 0:
                axes.set_ylabel("number of eigenvalues")
    save_figure(figure, path, dpi=110)
