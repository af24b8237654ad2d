"""Networks for the tests of laws, whose norms, scales and statistics are far from the defaults."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from bn_field_plugin.nn import (
    CoordinateMLP,
    CoordinateMLPConfig,
    EncodingConfig,
    GaussianEncodingConfig,
    NoEncoding,
    PositionalEncodingConfig,
    running_norms,
)
from bn_field_plugin.nn.norms import NORMS, Norm, keeps_statistics

RUNNING = tuple(filter(keeps_statistics, NORMS))
"""Names of the norms that keep running statistics."""
NORMED = tuple(name for name, kind in NORMS.items() if kind is not None)
"""Names of all norms."""
CENTRED = ("batch", "layer", "global", "cross")
"""Names of the norms that take away a shift common to all features, by a mean; not every norm does."""
ENCODINGS: dict[str, EncodingConfig] = {
    "bare": NoEncoding(),
    "positional": PositionalEncodingConfig(num_frequencies=3),
    "gaussian": GaussianEncodingConfig(num_features=8, scale=1.0),
}
"""One encoding of each kind, by name."""


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normally distributed numbers, equal in every dtype up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def coordinates(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Coordinates in [-1, 1]."""
    return draw(*shape, seed=seed, dtype=dtype).clamp(-2, 2) / 2


def vary(module: nn.Module, seed: int = 1) -> nn.Module:
    """Give every norm in `module` its own scale, shift and running statistics."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return (
            torch.empty(like.shape, dtype=torch.float64)
            .uniform_(low, high, generator=generator)
            .to(like.dtype)
        )

    with torch.no_grad():
        for norm in (m for m in module.modules() if isinstance(m, Norm)):
            norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
            norm.bias.copy_(uniform(norm.bias, -0.5, 0.5))
        for norm in running_norms(module):
            norm.running_mean.copy_(uniform(norm.running_mean, -0.5, 0.5))
            norm.running_var.copy_(uniform(norm.running_var, 0.5, 2.0))
            if hasattr(norm, "running_count"):
                norm.running_count.fill_(100)
    return module


def network(
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    encoding: str = "bare",
    varied: bool = True,
    **options,
) -> CoordinateMLP:
    """A small network for 3 coordinates and 2 outputs."""
    settings = {"in_dim": 3, "out_dim": 2, "width": 8, "depth": 3, "omega": 3.0} | options
    config = CoordinateMLPConfig(encoding=ENCODINGS[encoding], **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mlp = CoordinateMLP(config)
    return (vary(mlp) if varied else mlp).to(dtype)


def statistics(module: nn.Module) -> list[Tensor]:
    """Copies of all statistics in `module`."""
    return [buffer.clone() for norm in running_norms(module) for buffer in norm.buffers()]


def unchanged(module: nn.Module, before: list[Tensor]) -> bool:
    """Whether the statistics of `module` are bit for bit those of `before`."""
    after = statistics(module)
    return len(after) == len(before) and all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def combinations(norms: tuple[str, ...] = ("none", *NORMED)) -> list:
    """All norms, placements, activations, skips and encodings, as keyword arguments of `network`."""
    return [
        pytest.param(
            {
                "norm": norm,
                "placement": placement,
                "activation": activation,
                "skips": skips,
                "encoding": encoding,
            },
            id="-".join([norm, placement, activation, "skip" if skips else "straight", encoding]),
        )
        for norm, placement, activation, skips, encoding in itertools.product(
            norms, ("before", "after"), ("relu", "sine"), ((), (1, 2)), ENCODINGS
        )
    ]
