"""Backward passes of the norms row by row, with the statistics as variables of their own.

A norm over the batch couples the samples through its statistics only. With those held, each row (sample)
has gradients of its own: in its input, in scale and shift, and in the statistics.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import CrossNorm, GlobalNorm, LayerNorm
from bn_field_plugin.nn.batch_linear import batch_moments
from bn_field_plugin.nn.norms import Norm, RunningNorm


class NormGradients(NamedTuple):
    """Gradients of k quantities of each row."""

    input: Float[Tensor, "n k c"]
    weight: Float[Tensor, "n k c"]
    bias: Float[Tensor, "n k c"]
    statistics: Float[Tensor, "n k s"] | None
    """In means, then biased variances; None where `RowNorm.through_affine` gives them, or none are."""


class RowNorm:
    """One norm at given inputs.

    Args:
        norm: the norm.
        inputs: what it normalises.
        with_batch: use the statistics of these inputs, not the running ones.
    """

    num_statistics = 0
    """Means and variances together; 0 where samples are not coupled."""
    pooled = False
    """Whether one mean and one variance serve all features."""

    def __init__(self, norm: Norm, inputs: Float[Tensor, "n c"], with_batch: bool) -> None:
        self.norm = norm
        self.inputs = inputs
        self.pooled = isinstance(norm, GlobalNorm)
        if not isinstance(norm, RunningNorm):
            return
        n = inputs.shape[0]
        if with_batch:
            self.mean, self.var, _ = batch_moments(inputs.reshape(-1, 1) if self.pooled else inputs)
            self.count = float(n)
            self.num_statistics = 2 * self.mean.shape[0]
        else:
            self.mean, self.var = norm.running_mean, norm.running_var
            self.count = float(norm.running_count) if isinstance(norm, CrossNorm) else float(n)

    def sources(self) -> Float[Tensor, "2 n c"]:
        """Derivatives of the statistics by the inputs: weights of mean and variance at each entry.

        Entry [t, j, c] belongs to the statistic t of feature c, or to the only one of a pooled norm.
        """
        n = self.inputs.shape[0] * (self.inputs.shape[1] if self.pooled else 1)
        return torch.stack([torch.full_like(self.inputs, 1 / n), (self.inputs - self.mean) * (2 / n)])

    def backward(self, cotangent: Float[Tensor, "b k c"], rows: slice) -> NormGradients:
        """Gradients from those in the outputs of some rows."""
        u = self.inputs[rows, None, :]
        if isinstance(self.norm, LayerNorm):
            return self._layer(u, cotangent)
        if isinstance(self.norm, CrossNorm):
            return self._cross(u, cotangent)
        return self._affine(u, cotangent)

    def _affine(self, u: Tensor, cotangent: Tensor) -> NormGradients:
        """Batch and global norm."""
        inverse = torch.rsqrt(self.var + self.norm.eps)
        normal = (u - self.mean) * inverse
        by_input = cotangent * (self.norm.weight * inverse)
        return NormGradients(by_input, cotangent * normal, cotangent, None)

    def through_affine(
        self, weight: Float[Tensor, "*rows c"], bias: Float[Tensor, "*rows c"]
    ) -> Float[Tensor, "*rows s"]:
        """Gradients in the statistics from those in scale and shift; not for cross norm.

        Linear, so sums over samples may go through: the mean acts as a shift, the variance as a scale.
        """
        inverse = torch.rsqrt(self.var + self.norm.eps)
        parts = [bias * (-inverse * self.norm.weight), weight * (inverse.square() * self.norm.weight / -2)]
        return torch.cat([p.sum(-1, keepdim=True) for p in parts] if self.pooled else parts, dim=-1)

    def _layer(self, u: Tensor, cotangent: Tensor) -> NormGradients:
        var, mean = torch.var_mean(u, dim=-1, correction=0, keepdim=True)
        inverse = torch.rsqrt(var + self.norm.eps)
        normal = (u - mean) * inverse
        by_normal = cotangent * self.norm.weight
        along = (by_normal * normal).mean(-1, keepdim=True)
        by_input = (by_normal - by_normal.mean(-1, keepdim=True) - normal * along) * inverse
        return NormGradients(by_input, cotangent * normal, cotangent, None)

    def _cross(self, u: Tensor, cotangent: Tensor) -> NormGradients:
        """Cross norm: the variance of a cross is stationary in the mean that it is taken around."""
        features, count = float(u.shape[-1]), self.count
        total = count + features - 1
        row_var, row_mean = torch.var_mean(u, dim=-1, correction=0, keepdim=True)
        center = (count * self.mean + features * row_mean - u) / total
        offset = u - center
        column_offset, row_offset = self.mean - center, row_mean - center
        column = count * (self.var + column_offset.square())
        cross_var = (column + features * (row_var + row_offset.square()) - offset.square()) / total
        inverse = torch.rsqrt(cross_var.clamp_min(0) + self.norm.eps)
        normal = offset * inverse

        by_normal = cotangent * self.norm.weight
        by_offset = by_normal * inverse
        by_var = (
            by_normal * normal * inverse.square() * (-1 / (2 * total))
        )  # times `total` the entries of the sum
        by_row_mean = ((by_offset * -features / total) + by_var * (2 * features) * row_offset).sum(
            -1, keepdim=True
        )
        by_row_var = (by_var * features).sum(-1, keepdim=True)
        by_input = by_offset * (1 + 1 / total) - by_var * 2 * offset
        by_input = by_input + (by_row_mean + by_row_var * 2 * (u - row_mean)) / features
        statistics = None
        if self.num_statistics:
            by_mean = by_offset * (-count / total) + by_var * (2 * count) * column_offset
            statistics = torch.cat([by_mean, by_var * count], dim=-1)
        return NormGradients(by_input, cotangent * normal, cotangent, statistics)
