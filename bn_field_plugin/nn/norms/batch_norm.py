"""Batch norm (Ioffe & Szegedy 2015): each feature over the samples."""

from __future__ import annotations

from typing import ClassVar

import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import batch_normalize
from bn_field_plugin.nn.batch_linear import batch_norm_linear
from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments
from bn_field_plugin.nn.norms.running_norm import AffineNorm


class BatchNorm(AffineNorm):
    """Normalises each feature over the samples."""

    title: ClassVar[str] = "BN"

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        return batch_moments(x, group)

    def _normalize_with_batch(
        self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None
    ) -> tuple[Float[Tensor, "n c"], BatchMoments]:
        # Statistics that are held for further passes need a graph of their own.
        is_alone = group is None and not self.holds_statistics
        if is_alone and batch_normalize.serves(x, self.weight, self.bias):
            return batch_normalize.batch_normalize(x, self.weight, self.bias, self.eps)
        return super()._normalize_with_batch(x, group)

    @property
    def is_fused(self) -> bool:
        """Whether the next forward pass may be one with its product (`linear`)."""
        return self.normalizes_with_batch and not self.holds_statistics

    def linear(
        self, x: Float[Tensor, "n d"], weight: Float[Tensor, "c d"], relu: bool
    ) -> Float[Tensor, "n c"]:
        """Normalised product `x @ weight.T` with the batch's statistics, by the faster route.

        Raises:
            UserError: a training batch of one sample.
        """
        group = self.group
        if x.shape[0] == 0 and group is None:
            return F.linear(x, weight) * self.weight + self.bias
        self._check_batch(x.shape[0], group)
        y, moments = batch_norm_linear(x, weight, self.weight, self.bias, self.eps, group, relu)
        self.learn(moments)
        return y
