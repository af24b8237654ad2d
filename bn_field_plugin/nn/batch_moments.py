"""Moments of a batch: of one process or of several, of one block of samples or of several."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64
from torch import Tensor


class BatchMoments(NamedTuple):
    """Statistics of one batch, with which the running statistics are updated."""

    mean: Float[Tensor, " c"]
    """Mean of each feature."""
    var: Float[Tensor, " c"]
    """Biased variance of each feature."""
    count: Float[Tensor, ""]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """Number of samples, over all processes."""


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient is summed likewise, on any backend."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(grad, ctx.group), None


def all_reduce_sum(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Differentiable sum of `x` over the processes of `group`; `x` itself where `group` is None."""
    return x if group is None else _AllReduceSum.apply(x, group)


def batch_moments(x: Float[Tensor, "n c"], group: dist.ProcessGroup | None = None) -> BatchMoments:
    """Mean and biased variance of each feature over the joined batch of all processes; zero without samples.

    Two passes, the second around the mean, so that a large mean does not cancel the variance.

    Args:
        x: samples, features last; at least fp32.
        group: processes that share the batch; None for this one alone.
    """
    n = x.new_tensor(float(x.shape[0]))
    # On a GPU, var_mean is one kernel. On a CPU it reads the columns one by one, which is many times slower.
    if group is None and x.device.type != "cpu" and x.shape[0] > 0:
        var, mean = torch.var_mean(x, dim=0, correction=0)
        return BatchMoments(mean, var, n)
    total = all_reduce_sum(torch.cat([x.sum(0), n[None]]), group)
    count = total[-1].detach()
    mean = total[:-1] / count.clamp_min(1)
    var = all_reduce_sum((x - mean).square().sum(0), group) / count.clamp_min(1)
    return BatchMoments(mean, var, count)


def merged_moments(
    means: Float[Tensor, "b c"], squares: Float[Tensor, "b c"], n: int, block: int
) -> tuple[Float64[Tensor, " c"], Float64[Tensor, " c"]]:
    """Mean and biased variance of samples from those of their blocks, in fp64 (Chan et al. 1983).

    Args:
        means: of each block.
        squares: sums of squares around them.
        n: samples of all blocks.
        block: samples of each block but the last.
    """
    counts = torch.full((len(means), 1), float(block), dtype=torch.float64)
    counts[-1] = n - block * (len(means) - 1)
    wide = means.double()
    mean = (wide * counts).sum(0) / n
    return mean, (squares.sum(0, dtype=torch.float64) + (counts * (wide - mean).square()).sum(0)) / n
