"""Norms of hidden layers: a file for each, and a row in one table.

Global and cross norm are those of the follow-up to Cai et al. (arXiv 2407.17834). Features are last; all
leading dimensions are samples and are flattened before normalising.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.norms.batch_norm import BatchNorm
from bn_field_plugin.nn.norms.cross_norm import CrossNorm
from bn_field_plugin.nn.norms.global_norm import GlobalNorm
from bn_field_plugin.nn.norms.layer_norm import LayerNorm
from bn_field_plugin.nn.norms.norm import Norm
from bn_field_plugin.nn.norms.running_norm import (
    AffineNorm,
    RunningNorm,
    StatisticsCollectedError,
    StatisticsMode,
)

NormName = Literal["none", "batch", "layer", "global", "cross"]

NORMS: Mapping[str, type[Norm] | None] = {
    "none": None,
    "batch": BatchNorm,
    "layer": LayerNorm,
    "global": GlobalNorm,
    "cross": CrossNorm,
}
"""The norm of each name; None for no norm."""


def keeps_statistics(name: str) -> bool:
    """Whether the norm of a name takes statistics of the batch, which couple its samples."""
    kind = NORMS[name]
    return kind is not None and issubclass(kind, RunningNorm)


def folds(name: str) -> bool:
    """Whether a network with the norm of a name can be folded into one without."""
    kind = NORMS[name]
    return kind is None or issubclass(kind, AffineNorm)


def build_norm(
    name: str, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1, synchronize: bool = True
) -> Norm | None:
    """Make a norm by name.

    Raises:
        UserError: an unknown name.
    """
    if name not in NORMS:
        raise UserError(f"norm is {name!r}: choose one of {', '.join(NORMS)}")
    kind = NORMS[name]
    if kind is None:
        return None
    if issubclass(kind, RunningNorm):
        return kind(num_features, eps, momentum, synchronize)
    return kind(num_features, eps)


__all__ = [
    "NORMS",
    "AffineNorm",
    "BatchNorm",
    "CrossNorm",
    "GlobalNorm",
    "LayerNorm",
    "Norm",
    "NormName",
    "RunningNorm",
    "StatisticsCollectedError",
    "StatisticsMode",
    "build_norm",
    "folds",
    "keeps_statistics",
]
