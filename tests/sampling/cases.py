"""Cases for the tests of sampling: rays through random cells, and samples on some of the rays."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bn_field_plugin.sampling import Cells, PackedSamples, Rays
from bn_field_plugin.sampling.marching import blocks_of


def cells(resolution: int = 5, share: float = 0.3, seed: int = 0) -> Cells:
    """A box of random cells, longer along one axis."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand((resolution,) * 3, generator=generator) < share
    low, high = torch.tensor([-1.0, -0.5, -2.0]), torch.tensor([1.0, 1.5, 0.25])
    return Cells(occupied, low, high, blocks_of(occupied))


def rays(n: int, seed: int = 0) -> Rays:
    """Rays from around and inside the box: some are parallel to axes or faces, some miss the box."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    origins, directions = uniform(n, 3) * 4 - 2, uniform(n, 3) * 2 - 1
    flat = uniform(n, 3) < 0.2
    flat[flat.all(dim=-1)] = False
    directions = F.normalize(directions.masked_fill(flat, 0.0), dim=-1)
    nears = uniform(n) * 0.5
    fars = nears + uniform(n) * 4
    fars = torch.where(uniform(n) < 0.15, nears - uniform(n).round(), fars)
    return Rays(origins, directions, nears, fars)


def pack(counts: list[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> PackedSamples:
    """Samples of random lengths, a given number on each ray, without gaps."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [torch.rand(count, generator=generator, dtype=torch.float64) * 0.2 + 0.01 for count in counts]
    middles = [1 + length.cumsum(0) - length / 2 for length in lengths]
    number = torch.tensor(counts, dtype=torch.int64)
    return PackedSamples(
        torch.arange(len(counts)).repeat_interleave(number),
        torch.cat([*middles, torch.empty(0, dtype=torch.float64)]).to(dtype),
        torch.cat([*lengths, torch.empty(0, dtype=torch.float64)]).to(dtype),
        F.pad(number.cumsum(0), (1, 0)),
    )
