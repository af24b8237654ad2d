"""Backward passes of the norms row by row, with the statistics as variables of their own.

A norm over the batch couples the samples through its statistics only. With the statistics held, each row
(sample) has gradients of its own: in its input, in scale and shift, and in the statistics. All of them are
torch.func's, over the norms' formulas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.norms import AffineNorm, BatchNorm, CrossNorm, GlobalNorm, Norm, RunningNorm

COUPLING = (BatchNorm, GlobalNorm, CrossNorm)
"""Norms over the batch whose statistics are the mean and variance of each column, or of all entries."""


class NormGradients(NamedTuple):
    """Gradients of k quantities of each row."""

    input: Float[Tensor, "n k c"]
    weight: Float[Tensor, "n k c"]
    bias: Float[Tensor, "n k c"]
    statistics: Float[Tensor, "n k s"] | None
    """Gradients in the means, then in the biased variances; None if `RowNorm.through_affine` gives them, or
    if the norm has no statistics of the batch."""


class RowNorm:
    """One norm at given inputs.

    Args:
        norm: the norm; if it is over the batch, one of `COUPLING`.
        inputs: values that it normalises.
        with_batch: use the statistics of these inputs, not the running statistics.
    """

    num_statistics = 0
    """Number of means and variances together; 0 if the norm does not couple samples."""
    pooled = False
    """Whether one mean and one variance serve all features."""

    def __init__(self, norm: Norm, inputs: Float[Tensor, "n c"], with_batch: bool) -> None:
        self.norm = norm
        self.inputs = inputs
        self._pulled: slice | None = None
        self._bare = copy.deepcopy(norm)
        """The norm without its scale and shift, whose gradients are the same for all norms."""
        torch.nn.init.ones_(self._bare.weight)
        torch.nn.init.zeros_(self._bare.bias)
        if not isinstance(norm, RunningNorm):
            return
        self.pooled = isinstance(norm, GlobalNorm)
        if with_batch:
            self.mean, self.var, self.count = norm._moments(inputs, None)
            self.num_statistics = 2 * self.mean.shape[0]
        else:
            self.mean, self.var, self.count = norm.running_mean, norm.running_var, norm._running_count()

    def sources(self) -> Float[Tensor, "2 n c"]:
        """Derivatives of the statistics in the inputs, first of the means, then of the variances.

        Entry [t, j, c] is the derivative in `inputs[j, c]` of statistic t of feature c, or of a pooled norm.
        """
        n = self.inputs.shape[0] * (self.inputs.shape[1] if self.pooled else 1)
        return torch.stack([torch.full_like(self.inputs, 1 / n), (self.inputs - self.mean) * (2 / n)])

    def backward(self, cotangent: Float[Tensor, "b k c"], rows: slice) -> NormGradients:
        """Gradients in inputs, scale, shift and statistics, from gradients in the outputs of some rows."""
        if self._pulled != rows:
            self._normal, self._pull = cast(Any, torch.func.vjp(self._formula(), *self._variables(rows)))
            self._pulled = rows
        by_input, *by_statistics = torch.func.vmap(self._pull, in_dims=1, out_dims=1)(
            cotangent * self.norm.weight
        )
        statistics = torch.cat(by_statistics, dim=-1) if by_statistics else None
        weight = cotangent * self._normal[:, None, :]
        return NormGradients(by_input.contiguous(), weight, cotangent, statistics)

    def through_affine(
        self, weight: Float[Tensor, "*rows c"], bias: Float[Tensor, "*rows c"]
    ) -> Float[Tensor, "*rows s"] | None:
        """Gradients in the statistics from those in scale and shift; None if the norm is not affine.

        The mean acts as a shift, and the variance as a scale. The map is linear, so it can be applied to sums
        over samples.
        """
        if not isinstance(self.norm, AffineNorm):
            return None
        inverse = torch.rsqrt(self.var + self.norm.eps)
        parts = [bias * (-inverse * self.norm.weight), weight * (inverse.square() * self.norm.weight / -2)]
        return torch.cat([p.sum(-1, keepdim=True) for p in parts] if self.pooled else parts, dim=-1)

    @property
    def _has_own_statistics(self) -> bool:
        """Whether there are gradients in the statistics that `through_affine` does not give."""
        return bool(self.num_statistics) and not isinstance(self.norm, AffineNorm)

    def _variables(self, rows: slice) -> list[Tensor]:
        """Inputs of some rows, and a copy of the statistics for each row where `_has_own_statistics`."""
        inputs = self.inputs[rows]
        if not self._has_own_statistics:
            return [inputs]
        return [inputs, *(s.expand(len(inputs), -1) for s in (self.mean, self.var))]

    def _formula(self) -> Callable[..., Tensor]:
        """The norm without scale and shift, as a function of `_variables`."""
        bare = self._bare
        if not isinstance(bare, RunningNorm):
            return bare
        if self._has_own_statistics:
            return lambda inputs, mean, var: bare._normalize(inputs, mean, var, self.count)
        return lambda inputs: bare._normalize(inputs, self.mean, self.var, self.count)
