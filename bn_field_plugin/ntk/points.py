"""Points at which a kernel is taken: grids, random points, points of a file; and a check of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bn_field_plugin.errors import UserError


def grid(side: int, dim: int = 2) -> Float64[Tensor, "n dim"]:
    """Centres of the `side^dim` equal cells of [-1, 1]^dim; the last coordinate changes fastest.

    Raises:
        UserError: fewer than two points.
    """
    if side < 1 or dim < 1 or side**dim < 2:
        raise UserError(
            f"a grid of side {side} in {dim} dimensions has too few points: take at least 2 a side"
        )
    axis = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
    return torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"), dim=-1).reshape(-1, dim)


def random_points(n: int, dim: int = 2, seed: int = 0) -> Float64[Tensor, "n dim"]:
    """`n` points, uniform in [-1, 1]^dim.

    Raises:
        UserError: fewer than two points.
    """
    if n < 2:
        raise UserError(f"{n} points are too few for a spectrum: take at least 2")
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, dim, generator=generator, dtype=torch.float64) * 2 - 1


def read_points(path: Path) -> Float64[Tensor, "n dim"]:
    """Points of a file: `.npy`, or text with one point a line (`.csv` with commas, others with blanks).

    Raises:
        UserError: the file is missing, or holds no table of numbers.
    """
    if not path.is_file():
        raise UserError(f"--points {path}: no such file; give .npy, .csv or .txt with one point a line")
    try:
        if path.suffix == ".npy":
            table = np.load(path, allow_pickle=False)
        else:
            table = np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None, ndmin=2)
        points = torch.from_numpy(np.asarray(table, dtype=np.float64))
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"--points {path} holds no table of numbers ({error}): one point a line") from error
    return points


def check_points(points: Float[Tensor, "..."]) -> None:
    """Make sure that points are finite and distinct: equal points give equal rows, hence zero eigenvalues.

    Raises:
        UserError: the points are no [n, dim] table, fewer than two, not finite, or some are equal.
    """
    if points.ndim != 2 or points.shape[0] < 2:
        raise UserError(f"points have shape {tuple(points.shape)}: give a table of at least two, one a row")
    if not bool(points.isfinite().all()):
        raise UserError("points hold values that are not finite: remove them")
    distinct = torch.unique(points, dim=0).shape[0]
    if distinct < points.shape[0]:
        raise UserError(
            f"{points.shape[0] - distinct} of the {points.shape[0]} points are duplicates, each a zero "
            "eigenvalue: remove them (torch.unique(points, dim=0))"
        )
