"""Cross norm (arXiv 2407.17834): each entry over its row and its column."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments
from bn_field_plugin.nn.norms.running_norm import RunningNorm


class CrossNorm(RunningNorm):
    """Normalises each entry over its cross: the entries of its row (sample) and column (feature).

    The published code computes the variance of the cross and then divides by another one; this is the
    definition itself, with both moments over the n + c - 1 entries of the cross.
    """

    title: ClassVar[str] = "CN"

    running_count: Tensor

    def _register_statistics(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        super()._register_statistics(device, dtype)
        # An integer, which module.half() leaves alone; 1 makes a fresh norm finite for any size.
        self.register_buffer("running_count", torch.tensor(1, dtype=torch.long, device=device))

    def reset_running_stats(self) -> None:
        """Begin the running statistics anew."""
        super().reset_running_stats()
        self.running_count.fill_(1)

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        return batch_moments(x, group)

    def _running_count(self) -> Tensor:
        # A copy, because a training pass may change the count before gradients are taken of this pass.
        return self.running_count.clone()

    def _update_count(self, sound: Tensor, count: Tensor | float) -> None:
        self.running_count.copy_(torch.where(sound, count, self.running_count))

    def _normalize(
        self, x: Float[Tensor, "n c"], mean: Tensor, var: Tensor, count: Tensor
    ) -> Float[Tensor, "n c"]:
        c = self.num_features
        row_var, row_mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        total = count + (c - 1)
        cross_mean = (count * mean + c * row_mean - x) / total
        # The sum of squares around the mean of a cross is that of its column, plus that of its row, less the
        # square of the entry that lies in both.
        column = count * (var + (mean - cross_mean).square())
        row = c * (row_var + (row_mean - cross_mean).square())
        cross_var = ((column + row - (x - cross_mean).square()) / total).clamp_min(0)
        return (x - cross_mean) * torch.rsqrt(cross_var + self.eps) * self.weight + self.bias
