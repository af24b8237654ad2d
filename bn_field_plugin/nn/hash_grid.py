"""The multiresolution hash grid (Müller et al. 2022) as an encoding: features learned at corners of grids.

There are two routes to the same result: by torch, on any device and differentiable any number of times, and
by loops that numba compiles, for fp32 on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import forward_ad

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import products
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.double_backward import gradients_by_torch
from bn_field_plugin.nn.encodings import Encoding
from bn_field_plugin.nn.workers import run_blocks, run_pieces

PRIMES = (1, 2654435761, 805459861)
"""Factors of the spatial hash, one for each axis (Teschner et al. 2003)."""

BLOCK = 4096
"""Samples that a thread takes at a time."""


@dataclass(frozen=True)
class HashGridEncodingConfig:
    """Features at the corners of ever finer grids, interpolated and concatenated (Müller et al. 2022)."""

    num_levels: int = 8
    """Number of grids."""
    features_per_level: int = 4
    """Features at each corner."""
    base_resolution: int = 16
    """Cells along each axis of the coarsest grid, at least 2."""
    finest_resolution: int = 512
    """Cells along each axis of the finest grid; those between grow by a constant factor."""
    log2_table_size: int = 17
    """Most rows of a grid's table, as a power of two: a grid with more corners shares rows by a hash."""
    init_scale: float = 1e-4
    """The features are drawn uniformly between minus this and plus this."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for `in_dim` coordinates.

        Raises:
            UserError: not 2 or 3 coordinates, or a number out of its range.
        """
        return HashGridEncoding(in_dim, self)


class Level(NamedTuple):
    """One of the grids."""

    resolution: int
    """Cells along each axis."""
    row: int
    """Its first row in the tables."""
    rows: int
    """Number of its rows."""
    is_dense: bool
    """Whether each corner has a row of its own."""

    @property
    def mask(self) -> np.uint32:
        """Bits of a hash that are its row: a hashed grid has a power of two of rows. 0 for a dense grid."""
        return np.uint32(0 if self.is_dense else self.rows - 1)


def levels_of(config: HashGridEncodingConfig, dim: int) -> list[Level]:
    """The grids that a config describes in `dim` dimensions.

    Raises:
        UserError: a number out of its range.
    """
    _check(config, dim)
    growth = 1.0
    if config.num_levels > 1:
        growth = (config.finest_resolution / config.base_resolution) ** (1 / (config.num_levels - 1))
    levels, row = [], 0
    for index in range(config.num_levels):
        # Rounding may leave a power that should be a whole number a little below it, hence the small number.
        resolution = math.floor(config.base_resolution * growth**index + 1e-6)
        corners = (resolution + 1) ** dim
        is_dense = corners <= 2**config.log2_table_size
        rows = corners if is_dense else 2**config.log2_table_size
        levels.append(Level(resolution, row, rows, is_dense))
        row += rows
    return levels


def _check(config: HashGridEncodingConfig, dim: int) -> None:
    if dim not in (2, 3):
        raise UserError(f"in_dim is {dim}: a hash grid takes 2 or 3 coordinates")
    for name, least, most in (
        ("num_levels", 1, 64),
        ("features_per_level", 1, 64),
        ("base_resolution", 2, 2**20),
        ("finest_resolution", config.base_resolution, 2**20),
        ("log2_table_size", 4, 30),
    ):
        value = getattr(config, name)
        if not least <= value <= most:
            raise UserError(f"{name} of the hash grid is {value}: choose it from {least} to {most}")
    if not 0 <= config.init_scale < math.inf:
        raise UserError(f"init_scale of the hash grid is {config.init_scale}: it must be at least 0")


class HashGridEncoding(Encoding):
    """Features of coordinates in [-1, 1], interpolated linearly in each grid; coarse grids first.

    Outside, the values at the border hold. Features have the dtype of the tables, also under autocast.

    Args:
        in_dim: 2 or 3.
        config: the grids.

    Attributes:
        tables: the features of all corners, `[rows, features_per_level]`.
        levels: the grids.

    Raises:
        UserError: not 2 or 3 coordinates, or a number out of its range.
    """

    def __init__(self, in_dim: int, config: HashGridEncodingConfig) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.config = config
        self.levels = levels_of(config, in_dim)
        self.out_dim = config.num_levels * config.features_per_level
        tables = torch.empty(self.levels[-1].row + self.levels[-1].rows, config.features_per_level)
        self.tables = nn.Parameter(tables.uniform_(-config.init_scale, config.init_scale))

    def extra_repr(self) -> str:
        """Show the resolutions."""
        sizes = ", ".join(f"{level.resolution}{'' if level.is_dense else '#'}" for level in self.levels)
        return f"{self.in_dim}, resolutions {sizes} (#: hashed), {tuple(self.tables.shape)}"

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch f"]:
        """Features of coordinates, which are located in fp32 or better.

        Features are NaN where a coordinate is. Autocast changes no operation in here.
        """
        at_least = torch.promote_types(self.tables.dtype, torch.float32)
        flat = x.reshape(-1, self.in_dim).to(at_least)
        out: Tensor
        if _is_compiled_for(flat, self.tables):
            out = _Compiled.apply(flat.contiguous(), self.tables, self.levels, None)
        else:
            out = interpolate(flat, self.tables, self.levels)
        return out.reshape(*x.shape[:-1], self.out_dim)

    def with_gradients(self, x: Float[Tensor, "n d"], features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Features with gradients, where they are known from a pass without: no table is read again on a CPU.

        Args:
            x: coordinates.
            features: what the encoding gave there, with the same tables.
        """
        found: Tensor
        if _is_compiled_for(x, self.tables):
            found = _Compiled.apply(x.contiguous(), self.tables, self.levels, features)
        else:
            found = self(x)
        return found


def interpolate(
    x: Float[Tensor, "n d"], tables: Float[Tensor, "rows f"], levels: list[Level]
) -> Float[Tensor, "n lf"]:
    """Features of coordinates by torch: the route for any device, and the oracle of the compiled one."""
    features = []
    for level in levels:
        scaled = (x * 0.5 + 0.5) * level.resolution
        # On the border itself, the gradient is that of the inside. clamp() would give that or zero, depending
        # on torch's version.
        held = scaled.detach().clamp(0, level.resolution)
        scaled = torch.where((scaled < 0) | (scaled > level.resolution), held, scaled)
        # NaN becomes an arbitrary integer, which may be negative; hence the lower bound.
        cell = scaled.detach().long().clamp(0, level.resolution - 1)
        weights = corner_weights(scaled - cell).to(tables.dtype)
        rows = F.embedding(corner_rows(cell, level) + level.row, tables)
        features.append((rows * weights[..., None]).sum(dim=-2, dtype=tables.dtype))
    return torch.cat(features, dim=-1)


def corner_rows(cell: Int[Tensor, "n d"], level: Level) -> Int[Tensor, "n k"]:
    """Rows of the corners of cells in the level's table, the first axis running fastest."""
    dim = cell.shape[-1]
    axes = torch.arange(dim, device=cell.device)
    # Divided and not shifted: ONNX has no shifts of tensors.
    offsets = torch.arange(2**dim, device=cell.device)[:, None] // 2**axes % 2
    corners = cell[:, None, :] + offsets
    if level.is_dense:
        return (corners * (level.resolution + 1) ** axes).sum(dim=-1)
    hashed = corners[..., 0]
    for axis in range(1, dim):
        hashed = hashed ^ (corners[..., axis] * PRIMES[axis])
    return hashed & (level.rows - 1)


def corner_weights(place: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """Weights of a cell's corners at places in it, in [0, 1]^d: they are positive and sum to one."""
    weights = torch.ones_like(place[:, :1])
    for axis in range(place.shape[-1]):
        here = place[:, axis, None]
        weights = torch.cat([weights * (1 - here), weights * here], dim=-1)
    return weights


class _Compiled(torch.autograd.Function):
    """Interpolation by compiled loops; gradients that are to be differentiated again are torch's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tables: Tensor, levels: list[Level], known: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, tables)
        ctx.levels = levels
        if known is not None:
            return known.view_as(known)
        out = x.new_empty(x.shape[0], len(levels) * tables.shape[1])
        _each_level_and_block(_kernels(x, tables).forward, _descriptions(x, tables, levels), x, tables, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, tables = ctx.saved_tensors
        wants_x, wants_tables = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            y = interpolate(x, tables, ctx.levels)
            return *gradients_by_torch([y], [grad], (x, tables), (wants_x, wants_tables)), None, None
        grad, described = grad.contiguous(), _descriptions(x, tables, ctx.levels)
        grad_x = grad_tables = None
        if wants_x:
            grad_x = torch.zeros_like(x)
            _each_block(_kernels(x, tables).backward_positions, described, x, tables, grad, grad_x)
        if wants_tables:
            grad_tables = torch.zeros_like(tables)
            _each_level(_kernels(x, tables).backward_tables, described, x, grad, grad_tables)
        return grad_x, grad_tables, None, None


def _descriptions(x: Tensor, tables: Tensor, levels: list[Level]) -> list[tuple[Any, ...]]:
    """The arguments that describe each level to the kernels; they follow the arrays."""
    features = tables.shape[1]
    axes, columns = (0,) * x.shape[1], (0,) * features
    return [
        (axes, columns, index * features, level.resolution, level.row, level.mask)
        for index, level in enumerate(levels)
    ]


def _each_block(kernel: Any, described: list[tuple[Any, ...]], *tensors: Tensor) -> None:
    """Run a kernel block by block of samples, all levels of a block by one thread."""
    arrays = [tensor.detach().numpy() for tensor in tensors]

    def work(first: int, last: int) -> None:
        for description in described:
            kernel(*arrays, *description, first, last)

    run_blocks(work, len(arrays[0]), BLOCK)


def _each_level_and_block(kernel: Any, described: list[tuple[Any, ...]], *tensors: Tensor) -> None:
    """Run a kernel block by block, one level after the other: all threads read one table at a time."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    n = len(arrays[0])
    blocks = -(-n // BLOCK)

    def work(index: int) -> None:
        level, block = divmod(index, blocks)
        kernel(*arrays, *described[level], block * BLOCK, min((block + 1) * BLOCK, n))

    run_pieces(work, blocks * len(described))


def _each_level(kernel: Any, described: list[tuple[Any, ...]], *tensors: Tensor) -> None:
    """Run a kernel over all samples; one thread takes a whole level, so that no two add to the same row."""
    arrays = [tensor.detach().numpy() for tensor in tensors]

    def work(index: int) -> None:
        # The finest levels take longest, so they come first.
        kernel(*arrays, *described[-1 - index], 0, len(arrays[0]))

    run_pieces(work, len(described))


def _is_compiled_for(x: Tensor, tables: Tensor) -> bool:
    """Whether the compiled loops can be used: fp32 on a CPU, and no transformation of torch at work."""
    return (
        x.device.type == "cpu"
        and x.dtype == tables.dtype == torch.float32
        and tables.is_contiguous()
        and not products.is_traced()
        and forward_ad.unpack_dual(x).tangent is None
        and forward_ad.unpack_dual(tables).tangent is None
        and _kernels(x, tables) is not None
    )


def _kernels(x: Tensor, tables: Tensor) -> Any:
    """The compiled loops; None where numba does not work."""
    return load_compiled("bn_field_plugin.nn.hash_kernels", x.shape[1], tables.shape[1])
