"""The spectrum of one network, as `bn-ntk spectrum` reports it: coupled and frozen side by side."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bn_field_plugin.nn import CoordinateMLP
from bn_field_plugin.ntk.kernel import Backend, num_statistics, why_not_structured
from bn_field_plugin.ntk.memory import Route
from bn_field_plugin.ntk.module_function import CoupledError, Statistics
from bn_field_plugin.ntk.points import grid, random_points, read_points
from bn_field_plugin.ntk.spectra import Estimate, spectrum
from bn_field_plugin.ntk.spectrum_statistics import log_histogram
from bn_field_plugin.progress import Tracker, track
from standalone.networks import Initialisation, Placement, Variant
from standalone.ntk.histograms import draw_histogram, note_statistics
from standalone.ntk.imported import imported_module
from standalone.ntk.spectrum_plots import STYLES, ShownSpectrum, spectrum_plots
from standalone.pages import Table, write_page
from standalone.plots import new_figure, save_figure
from standalone.report import Cell, machine_facts, write_arrays, write_table


@dataclass(frozen=True)
class SpectrumConfig:
    """The network, the points and the way to the spectrum."""

    network: str = "mlp+batch"
    """NETWORK or NETWORK+NORM: mlp, pemlp-K, fourier, hash, siren, finer, wire, wire-real, gauss; norm batch,
    layer, global, cross."""
    module: str | None = None
    """A torch module of your own instead of --network: PACKAGE.MODULE:NAME or FILE.py:NAME of the module, or
    of a class or function that returns it without arguments. The current folder is searched."""
    width: int = 64
    """Units of each hidden layer."""
    depth: int = 3
    """Hidden layers."""
    in_dim: int = 2
    """Coordinates of a point."""
    out_dim: int = 1
    """Outputs of a point."""
    placement: Placement | None = None
    """Norm before or after the activation; by default after that of siren and finer, else before it."""
    init: Initialisation | None = None
    """Initialisation; by default paper for siren, finer, wire, gauss, and pytorch for all others."""
    seed: int = 0
    """Seed of the weights and of random points."""
    side: int = 32
    """The points are a grid with this many along each axis of [-1, 1]."""
    random: int | None = None
    """Take this many uniform random points instead of a grid."""
    points: Path | None = None
    """Take the points of a file instead: .npy, .csv or .txt, one a line."""
    statistics: Literal["both", "batch", "frozen", "running"] = "both"
    """Whose statistics: the batch's, coupling the samples, and the same ones frozen; or the running ones."""
    route: Route | Literal["auto"] = "auto"
    """kernel: J J^T; gram: J^T J; matrix-free: largest eigenvalues and density from products alone."""
    backend: Backend = "auto"
    """structured: layer by layer (a CoordinateMLP); autodiff: any module."""
    single_precision: bool = False
    """Compute in fp32: about twice as fast, and eigenvalues below 1e-6 of the largest are rounding."""
    top: int = 10
    """Largest eigenvalues that the matrix-free route finds."""
    lanczos_steps: int = 60
    """Lanczos steps of a probe of the matrix-free density."""
    probes: int = 8
    """Random probes of the matrix-free density."""

    @property
    def estimate(self) -> Estimate:
        """How the matrix-free route estimates."""
        return Estimate(self.top, self.lanczos_steps, self.probes, self.seed)

    def build_points(self) -> Tensor:
        """The points."""
        if self.points is not None:
            return read_points(self.points)
        if self.random is not None:
            return random_points(self.random, self.in_dim, self.seed)
        return grid(self.side, self.in_dim)

    def build_module(self, in_dim: int) -> nn.Module:
        """The module.

        Raises:
            UserError: an unknown network, or a module that cannot be made.
        """
        if self.module is not None:
            return imported_module(self.module)
        variant = Variant.parse(self.network)
        network = variant.config(
            in_dim, self.out_dim, self.width, self.depth, placement=self.placement, init=self.init
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return CoordinateMLP(network)


@dataclass
class SpectrumResult:
    """Spectra of one network."""

    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    """Eigenvalues, the largest first, by statistics."""
    densities: dict[str, Any] = field(default_factory=dict)
    """Densities where the route is matrix-free."""
    rows: list[dict[str, Cell]] = field(default_factory=list)
    """The table."""
    notes: list[str] = field(default_factory=list)
    """Sentences under the table: how the numbers were found, and what is missing."""
    seconds: float = 0.0
    """Time for all of it."""


def run(config: SpectrumConfig, tracker: Tracker = track) -> SpectrumResult:
    """Compute the spectra.

    Raises:
        UserError: options, points or a module that are unfit, or too little memory.
    """
    start = time.perf_counter()
    points = config.build_points()
    module = config.build_module(points.shape[1])
    dtype = torch.float32 if config.single_precision else torch.float64
    result = SpectrumResult()
    wanted: tuple[Statistics, ...] = ("batch", "frozen")
    if config.statistics != "both":
        wanted = (config.statistics,)
    elif config.module is None and not num_statistics(module):
        wanted = ("batch",)  # without coupling, both spectra are equal
    reason = why_not_structured(module)
    if config.module is None and reason is not None:
        result.notes.append(f"The Jacobian is by automatic differentiation, since {reason}.")
    for statistics in wanted:
        try:
            found = spectrum(
                module,
                points,
                statistics=statistics,
                route=config.route,
                backend=config.backend,
                dtype=dtype,
                estimate=config.estimate,
                tracker=tracker,
            )
        except CoupledError as error:
            if config.statistics != "both":
                raise
            result.notes.append(f"{statistics} is left out: {error}.")
            continue
        result.spectra[statistics] = found.values
        if found.density is not None:
            result.densities[statistics] = found.density
        row: dict[str, Cell] = {
            "statistics": statistics,
            "points": len(points),
            "outputs": found.num_outputs,
            "parameters": found.num_parameters,
            "route": found.route,
        }
        result.rows.append(row | found.numbers() | {"seconds": round(found.seconds, 2)})
    result.seconds = time.perf_counter() - start
    return result


def write(config: SpectrumConfig, result: SpectrumResult, folder: Path, command: str) -> None:
    """Write `spectrum.npz` (eigenvalues and histograms), `.png`, `.html`, `.md` and `.json`."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in result.spectra.items():
        histogram = log_histogram(values)
        arrays |= {
            name: values,
            f"{name}_histogram_edges": histogram.edges,
            f"{name}_histogram_counts": histogram.counts,
        }
    for name, density in result.densities.items():
        arrays |= {f"{name}_density_values": density.values, f"{name}_density_weights": density.weights}
    write_arrays(folder / "spectrum.npz", arrays)

    label = config.module or Variant.parse(config.network).label
    figure, panels = new_figure(1, len(result.rows))
    for axes, row in zip(panels[0], result.rows, strict=True):
        name = str(row["statistics"])
        if name in result.densities:
            density = result.densities[name]
            axes.hist(
                np.log10(np.clip(density.values, 1e-12 * density.values.max(), None)),
                bins=48,
                weights=density.weights * float(row["outputs"] or 0),
            )
            axes.set_yscale("log")
            axes.set_xlabel("log10 of the eigenvalue")
        else:
            draw_histogram(axes, [result.spectra[name]], "#4c72b0")
            note_statistics(axes, [result.spectra[name]])
            axes.set_xlabel("eigenvalue")
        axes.set_title(f"{label}, {name} statistics")
        axes.set_ylabel("number")
    save_figure(figure, folder / "spectrum.png")
    facts = machine_facts() | {"seed": config.seed, "dtype": "fp32" if config.single_precision else "fp64"}
    notes = ["batch: the statistics move with the parameters and couple the samples; frozen: the same, held."]
    notes += result.notes
    if result.densities:
        notes.append("Matrix-free: moments are estimates from random probes.")
    title = f"Spectrum of {label}"
    write_table("spectrum", title, command, result.rows, facts, notes, folder=folder)
    shown = [
        ShownSpectrum(f"{name} statistics", [values], *STYLES[name])
        for name, values in result.spectra.items()
    ]
    plots = spectrum_plots({"the largest eigenvalues" if result.densities else "": shown})
    if result.densities:
        plots = plots[:1]  # a histogram of the few largest eigenvalues would mislead
    parts = [*plots, Table("Numbers", result.rows)]
    write_page(folder / "spectrum.html", title, parts, command, notes)
