"""Whether gradient descent lowers the error along an eigenvector as exp(-eta lambda t) (claim C3)."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, batch_statistics
from bn_field_plugin.ntk.kernel import ntk
from bn_field_plugin.ntk.points import grid
from bn_field_plugin.progress import Tracker, silent
from standalone.networks import Variant
from standalone.ntk.histograms import draw_histogram
from standalone.ntk.spectrum_plots import ShownSpectrum, spectrum_plots
from standalone.ntk.studies.common import Interval, NetworkSize, build, interval
from standalone.pages import Line, Plot, Table, line_panels, shades, write_page
from standalone.plots import color, new_figure, save_figure
from standalone.report import Cell, machine_facts, write_arrays, write_table

GROUPS = 8
"""Number of groups into which eigenvectors are put, by the order of their eigenvalues."""
PLOTTED_STEPS = 60
"""Most points that a line of the page may have."""
LEAST_LEFT = 1e-4
"""Part of the residual at which the page ends its lines of the theory."""


@dataclass(frozen=True)
class DynamicsConfig:
    """Networks, target and training of the study."""

    networks: tuple[str, ...] = ("mlp", "mlp+batch", "pemlp-5", "pemlp-5+batch")
    """Networks to train: NETWORK or NETWORK+NORM."""
    size: NetworkSize = field(default_factory=NetworkSize)
    """Size and initialisation of the networks."""
    side: int = 12
    """The points are a grid with this many along each axis of [-1, 1]^2."""
    steps: int = 1000
    """Steps of full-batch gradient descent on half the sum of squares."""
    rate: float = 0.02
    """Learning rate times the largest eigenvalue at initialisation: small, since that eigenvalue grows."""
    refresh: int = 20
    """Number of steps after which the kernel is computed anew."""
    frames: int = 5
    """Number of histograms over training, with those of the first and the last state."""
    seeds: int = 3
    """Number of networks, each with weights and a target of its own."""

    def check(self) -> None:
        """Make sure that the options can be used.

        Raises:
            UserError: one that cannot.
        """
        if not 0 < self.rate < 2:
            raise UserError(f"--rate is {self.rate}: gradient descent is stable between 0 and 2")
        if not 1 <= self.refresh <= self.steps:
            raise UserError(f"--refresh is {self.refresh}: it must lie between 1 and --steps ({self.steps})")
        if self.frames < 2:
            raise UserError(f"--frames is {self.frames}: it must be at least 2")


@dataclass(frozen=True)
class Trajectory:
    """One training run in the coordinates of the kernel's eigenvectors at initialisation."""

    eigenvalues: np.ndarray
    """Eigenvalues of the kernel at initialisation, [n], the largest first."""
    learning_rate: float
    """The learning rate, eta in the law."""
    coefficients: np.ndarray
    """Residual along each eigenvector after each step, [steps + 1, n]."""
    window_errors: np.ndarray
    """Error of each prediction for `refresh` steps (a window), by the kernel at the window's start."""
    window_moves: np.ndarray
    """How far the outputs have moved in each window."""
    frames: dict[int, np.ndarray]
    """Eigenvalues of the kernel at the steps of the film."""

    def predicted(self, step: int) -> np.ndarray:
        """Coefficients by `exp(-eta lambda t)` from the first kernel."""
        found: np.ndarray = self.coefficients[0] * np.exp(-self.learning_rate * self.eigenvalues * step)
        return found

    def prediction_error(self, step: int) -> float:
        """Distance between predicted and true outputs, relative to how far the outputs have moved."""
        actual = self.coefficients[step]
        moved = float(np.linalg.norm(actual - self.coefficients[0]))
        return float(np.linalg.norm(self.predicted(step) - actual)) / max(moved, 1e-300)

    def window_error(self) -> float:
        """Sum of the errors of all windows, relative to how far the outputs have moved in them."""
        return float(self.window_errors.sum() / max(self.window_moves.sum(), 1e-300))

    def remaining(self, step: int) -> np.ndarray:
        """Part of the residual that is left in each group of eigenvectors, largest eigenvalues first."""
        return self._by_group(self.coefficients[step])

    def predicted_remaining(self, step: int) -> np.ndarray:
        """Part of the residual that `exp(-eta lambda t)` would leave in each group."""
        return self._by_group(self.predicted(step))

    def _by_group(self, coefficients: np.ndarray) -> np.ndarray:
        parts = np.array_split(np.arange(len(self.eigenvalues)), GROUPS)
        now, first = np.square(coefficients), np.square(self.coefficients[0])
        return np.array([math.sqrt(now[p].sum() / max(float(first[p].sum()), 1e-300)) for p in parts])

    def rank_correlation(self, step: int) -> float:
        """Spearman's correlation of eigenvalue and speed over the groups, in [-1, 1]."""
        from scipy.stats import spearmanr

        speed = -np.log(np.maximum(self.remaining(step), 1e-300))
        return float(spearmanr(np.arange(len(speed), 0, -1), speed).statistic)


def target(points: Tensor, seed: int, waves: int = 12) -> Tensor:
    """A sum of plane waves of up to 4 periods across [-1, 1], with mean square 1; values at points, [n]."""
    generator = torch.Generator().manual_seed(1000 + seed)
    angle = torch.rand(waves, generator=generator, dtype=torch.float64) * 2 * math.pi
    periods = torch.rand(waves, generator=generator, dtype=torch.float64) * 4
    phase = torch.rand(waves, generator=generator, dtype=torch.float64) * 2 * math.pi
    direction = torch.stack([angle.cos(), angle.sin()]) * periods * math.pi
    values = torch.sin(points @ direction + phase).sum(-1)
    return values / values.square().mean().sqrt()


def follow(network: CoordinateMLP, points: Tensor, wanted: Tensor, config: DynamicsConfig) -> Trajectory:
    """Train in place by gradient descent, and compare with what the kernels predict.

    Args:
        network: in fp64, with one output; norms over the batch use the batch's statistics throughout.
        points: the points.
        wanted: target at each point.
        config: the training.

    Raises:
        UserError: training diverges.
    """
    parameters = list(network.parameters())
    values, vectors = _eigen(network, points)
    first_values, first_vectors = values, vectors
    rate = config.rate / float(values[0])
    frame_steps = {round(config.steps * k / (config.frames - 1)) for k in range(config.frames)}
    frames, coefficients, errors, moves = {0: values.numpy()}, [], [], []
    start: Tensor | None = None
    for step in range(config.steps + 1):
        with batch_statistics(network):
            residual = network(points)[:, 0] - wanted
        now = residual.detach()
        if not bool(now.isfinite().all()):
            raise UserError(f"training diverges at step {step}: lower --rate")
        coefficients.append((first_vectors.T @ now).numpy())
        is_refresh = step % config.refresh == 0
        if is_refresh and start is not None:
            decay = torch.exp(-rate * values * config.refresh)
            expected = vectors @ (decay * (vectors.T @ start))
            errors.append(float((expected - now).norm()))
            moves.append(float((start - now).norm()))
        if step and (is_refresh or step in frame_steps):
            fresh = _eigen(network, points)
            if step in frame_steps:
                frames[step] = fresh[0].numpy()
        if is_refresh:
            if step:
                values, vectors = fresh
            start = now
        if step < config.steps:
            gradients = torch.autograd.grad(residual.square().sum() / 2, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.sub_(gradient, alpha=rate)
    return Trajectory(
        first_values.numpy(), rate, np.stack(coefficients), np.array(errors), np.array(moves), frames
    )


def run(config: DynamicsConfig, tracker: Tracker = silent) -> dict[str, list[Trajectory]]:
    """Trajectories of every network, one for each seed.

    Raises:
        UserError: options that cannot be used, or training that diverges.
    """
    config.check()
    variants = [Variant.parse(name) for name in config.networks]
    points = grid(config.side)
    jobs = [(variant, seed) for variant in variants for seed in range(config.seeds)]
    found: dict[str, list[Trajectory]] = {variant.slug: [] for variant in variants}
    for variant, seed in tracker(jobs, "training runs"):
        network = build(variant, config.size, 2, 1, seed)
        found[variant.slug].append(follow(network, points, target(points, seed), config))
    return found


@dataclass(frozen=True)
class Agreement:
    """How well the linear theory predicts training, over seeds."""

    network: str
    rank_correlation: Interval
    """Rank correlation of eigenvalue and speed at the last step."""
    early_error: Interval
    """Relative error of the first kernel's prediction after one window."""
    late_error: Interval
    """Relative error of the first kernel's prediction at the last step."""
    window_error: Interval
    """Relative error where each window is predicted by the kernel at its start, all windows together."""
    growth: Interval
    """Largest eigenvalue at the last step over that at the first."""


def agreements(config: DynamicsConfig, found: dict[str, list[Trajectory]]) -> list[Agreement]:
    """Numbers of every network."""
    return [
        Agreement(
            name,
            interval([t.rank_correlation(config.steps) for t in trajectories]),
            interval([t.prediction_error(config.refresh) for t in trajectories]),
            interval([t.prediction_error(config.steps) for t in trajectories]),
            interval([t.window_error() for t in trajectories]),
            interval([float(t.frames[config.steps].max() / t.eigenvalues.max()) for t in trajectories]),
        )
        for name, trajectories in found.items()
    ]


def agreement_rows(found: Sequence[Agreement]) -> list[dict[str, Cell]]:
    """The numbers as a table."""
    return [
        {
            "network": one.network,
            "rank correlation of eigenvalue and speed": str(one.rank_correlation),
            "error, first kernel, one window": str(one.early_error),
            "error, first kernel, all steps": str(one.late_error),
            "error, fresh kernels": str(one.window_error),
            "largest eigenvalue, last / first": str(one.growth),
        }
        for one in found
    ]


def write(config: DynamicsConfig, found: dict[str, list[Trajectory]], folder: Path, command: str) -> None:
    """Write `dynamics.png`, `.html`, `film.png`, `trajectories.npz` and the table `dynamics` (.md, .json)."""
    draw_decay(config, found, folder / "dynamics.png")
    draw_film(found, folder / "film.png")
    arrays: dict[str, np.ndarray] = {}
    for name, trajectories in found.items():
        for seed, one in enumerate(trajectories):
            key = f"{name}_seed{seed}"
            arrays[f"{key}_eigenvalues"] = one.eigenvalues
            arrays[f"{key}_coefficients"] = one.coefficients.astype(np.float32)
            arrays |= {f"{key}_step{step}": values for step, values in one.frames.items()}
    write_arrays(folder / "trajectories.npz", arrays)
    facts: dict[str, Cell] = {
        **machine_facts(),
        "network": f"{config.size.depth} x {config.size.width}, 1 output",
        "init": config.size.init,
        "points": f"{config.side} x {config.side} grid",
        "steps": config.steps,
        "rate": config.rate,
        "window": config.refresh,
        "seeds": config.seeds,
    }
    notes = [
        "Full-batch gradient descent, norms with the batch's statistics; the kernels are the coupled ones.",
        "Errors: distance between predicted and true residual over the distance that training has gone. "
        "Mean over seeds [95 % confidence interval].",
    ]
    rows = agreement_rows(agreements(config, found))
    title = "Training against its linearisation"
    write_table("dynamics", title, command, rows, facts, notes, folder=folder)
    parts = [decay_plot(config, found), *spectrum_plots(film(found)), Table("Agreement", rows)]
    write_page(folder / "dynamics.html", title, parts, command, notes)


def draw_decay(config: DynamicsConfig, found: dict[str, list[Trajectory]], path: Path) -> None:
    """Draw what is left of the residual in each group of eigenvectors, and what the theory says."""
    figure, panels = new_figure(1, len(found), (3.2, 2.8))
    steps = sorted({max(1, config.steps // 20), max(1, config.steps // 5), config.steps})
    for axes, (name, trajectories) in zip(panels[0], found.items(), strict=True):
        for step, marker in zip(steps, "o^s", strict=False):
            x, y = [], []
            for one in trajectories:
                x += list(-np.log(np.maximum(one.predicted_remaining(step), 1e-300)))
                y += list(one.remaining(step))
            axes.scatter(x, y, s=12, marker=marker, label=f"step {step}", alpha=0.8)
        line = np.geomspace(1e-6, 1e3, 400)
        axes.plot(line, np.exp(-line), color="black", linewidth=0.9, label="exp(-eta lambda t)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1e-6, 1e3)
        axes.set_ylim(1e-3, 5)
        axes.set_title(Variant.parse(name).label)
        axes.set_xlabel("eta lambda t of the group")
    panels[0, 0].set_ylabel("residual left, by group of eigenvectors")
    panels[0, 0].legend(fontsize=7)
    save_figure(figure, path)


def draw_film(found: dict[str, list[Trajectory]], path: Path) -> None:
    """Draw the spectrum during training: one row for each network, one column for each step."""
    columns = max(len(trajectories[0].frames) for trajectories in found.values())
    figure, panels = new_figure(len(found), columns, (2.2, 1.8))
    for row, (name, trajectories) in enumerate(found.items()):
        variant = Variant.parse(name)
        high = max(float(values.max()) for one in trajectories for values in one.frames.values())
        for column, step in enumerate(sorted(trajectories[0].frames)):
            axes = panels[row, column]
            spectra = [one.frames[step] for one in trajectories]
            draw_histogram(axes, spectra, color(variant), low=1e-9 * high, high=high)
            axes.set_title(f"{variant.label}, step {step}", fontsize=8)
    save_figure(figure, path)


def decay_plot(config: DynamicsConfig, found: dict[str, list[Trajectory]]) -> Plot:
    """What is left of the residual in each group of eigenvectors, and what the theory says, for a page."""
    steps = np.unique(np.geomspace(1, config.steps, PLOTTED_STEPS).astype(int))
    panels: dict[str, list[Line]] = {}
    for name, trajectories in found.items():
        lines = panels[Variant.parse(name).label] = []
        left = np.mean([[t.remaining(int(step)) for step in steps] for t in trajectories], axis=0)
        theory = np.mean([[t.predicted_remaining(int(step)) for step in steps] for t in trajectories], axis=0)
        for group, shade in enumerate(shades(GROUPS)):
            label = f"group {group + 1}"
            hover = "step %{x}: %{y:.3f} left"
            lines.append(Line(label, steps, left[:, group], shade, "solid", hover))
            expected = np.maximum(theory[:, group], LEAST_LEFT)
            lines.append(Line(f"{label}, theory", steps, expected, shade, "dot", hover))
    figure = line_panels(panels, ("step",), ("residual left",), columns=2, log="xy")
    note = (
        f"{GROUPS} groups of eigenvectors, the first with the largest eigenvalues; means over seeds. "
        "Theory: exp(-eta lambda t) from the first kernel."
    )
    return Plot("Residual by group of eigenvectors", figure, note)


def film(found: dict[str, list[Trajectory]]) -> dict[str, list[ShownSpectrum]]:
    """The spectra during training for a page, by network; later steps are lighter."""
    return {
        Variant.parse(name).label: [
            ShownSpectrum(f"step {step}", [one.frames[step] for one in trajectories], shade)
            for step, shade in zip(
                sorted(trajectories[0].frames), shades(len(trajectories[0].frames)), strict=True
            )
        ]
        for name, trajectories in found.items()
    }


def _eigen(network: CoordinateMLP, points: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, the largest first, and eigenvectors of the coupled kernel."""
    values, vectors = torch.linalg.eigh(ntk(network, points))
    return values.clamp_min(0).flip(0), vectors.flip(1)
