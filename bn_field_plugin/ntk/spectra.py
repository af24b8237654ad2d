"""The spectrum of a module at points, whichever way it is computed; commands and viewer all call it here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk.kernel import Backend, Jacobian, jacobian, need_of
from bn_field_plugin.ntk.lanczos import Density, density, kernel_operator, largest
from bn_field_plugin.ntk.memory import Route, available_bytes, choose_route
from bn_field_plugin.ntk.module_function import Statistics
from bn_field_plugin.ntk.spectrum_statistics import statistics_of
from bn_field_plugin.progress import Tracker, silent


@dataclass(frozen=True)
class Estimate:
    """How a spectrum is estimated where its matrices do not fit into memory."""

    top: int = 10
    """Number of largest eigenvalues to find."""
    steps: int = 60
    """Lanczos steps for each probe of the density."""
    probes: int = 8
    """Number of random probes of the density."""
    seed: int = 0
    """Seed of the probes."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the kernel of a module at points."""

    values: Float[np.ndarray, " k"]
    """Eigenvalues, the largest first, clamped at zero: all, or the largest few if the route is
    matrix-free."""
    route: Route
    """The route that was taken."""
    num_outputs: int
    """Number of points times number of outputs."""
    num_parameters: int
    """Number of parameters."""
    seconds: float
    """Wall clock seconds of the computation."""
    density: Density | None = None
    """Estimated density of all eigenvalues, if the route is matrix-free."""

    def numbers(self) -> dict[str, float]:
        """Numbers of the spectrum by name: those of `SpectrumStatistics`, or as many as an estimate gives."""
        if self.density is None:
            return statistics_of(self.values).as_dict()
        mean = self.density.mean()
        return {
            "mean": mean,
            "variance": self.density.variance(),
            "maximum": float(self.values[0]),
            "top_share": float(self.values[0]) / (mean * self.num_outputs),
            "median_to_mean": self.density.quantile(0.5) / mean,
        }


def spectrum(
    module: nn.Module,
    points: Float[Tensor, "n d"],
    *,
    statistics: Statistics = "batch",
    route: Route | Literal["auto"] = "auto",
    backend: Backend = "auto",
    dtype: torch.dtype = torch.float64,
    estimate: Estimate | None = None,
    tracker: Tracker = silent,
) -> Spectrum:
    """The spectrum of a module at points.

    Args:
        module: from [n, d] points to [n, ...] outputs. It is copied, and keeps its statistics.
        points: distinct points.
        statistics: which statistics the norms over the batch use (see `Statistics`).
        route: by default by the smaller of the two matrices, or without a matrix if it does not fit into
            memory.
        backend: how the Jacobian is computed; by default chosen by the sizes.
        dtype: precision of the computation.
        estimate: how the matrix-free route estimates.
        tracker: shows progress.

    Raises:
        UserError: as `jacobian` does, or the route does not fit into memory.
    """
    start = time.perf_counter()
    found = jacobian(module, points, statistics=statistics, backend=backend, dtype=dtype, tracker=tracker)
    chosen = choose_route(need_of(found, dtype), route, available_bytes(points.device))
    estimated = None
    if chosen == "matrix-free":
        how = estimate or Estimate()
        operator = kernel_operator(found)
        values = largest(operator, how.top, how.seed)
        estimated = density(operator, how.steps, how.probes, how.seed, tracker)
    else:
        values = _all_eigenvalues(found, chosen)
    seconds = time.perf_counter() - start
    return Spectrum(values, chosen, found.num_outputs, found.num_parameters, seconds, estimated)


def eigenvalues(
    module: nn.Module,
    points: Float[Tensor, "n d"],
    *,
    statistics: Statistics = "batch",
    route: Literal["auto", "kernel", "gram"] = "auto",
    backend: Backend = "auto",
    dtype: torch.dtype = torch.float64,
    tracker: Tracker = silent,
) -> Float[np.ndarray, " m"]:
    """All eigenvalues of a spectrum, where an estimate is of no use; it takes the arguments of `spectrum`.

    Raises:
        UserError: as `spectrum` does, or only the matrix-free route would fit.
    """
    found = jacobian(module, points, statistics=statistics, backend=backend, dtype=dtype, tracker=tracker)
    chosen = choose_route(need_of(found, dtype), route, available_bytes(points.device))
    if chosen == "matrix-free":
        raise UserError(
            f"all eigenvalues over {found.num_outputs:,} points x outputs do not fit into memory: take fewer "
            "points, or the density by --route matrix-free"
        )
    return _all_eigenvalues(found, chosen)


def _all_eigenvalues(found: Jacobian, route: Route) -> Float[np.ndarray, " m"]:
    """All m eigenvalues of a Jacobian's kernel by an exact route, the largest first, clamped at zero."""
    matrix = found.kernel() if route == "kernel" else found.gram()
    values = torch.linalg.eigvalsh(matrix).clamp_min_(0).flip(0).cpu().numpy()
    result = np.zeros(found.num_outputs)
    kept = min(len(values), found.num_outputs)  # the eigenvalues beyond these are zero, by either route
    result[:kept] = values[:kept]
    return result
