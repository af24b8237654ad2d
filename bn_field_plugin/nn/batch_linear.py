"""A linear layer followed by batch normalisation, as one differentiable function.

Two routes to one result. `plain` forms the product and takes its statistics: the oracle. `moments`
takes mean and covariance of the layer's *input*, derives the statistics of the product from them, and
normalises the weights before multiplying.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class BatchMoments(NamedTuple):
    """Statistics of one batch: what the running statistics are updated with."""

    mean: Float[Tensor, " c"]
    """Mean of each feature."""
    var: Float[Tensor, " c"]
    """Biased variance of each feature."""
    count: Float[Tensor, ""]
    """Number of samples, over all processes."""


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient is summed likewise, on any backend."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        ctx.group = group
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad = grad.clone()
        dist.all_reduce(grad, group=ctx.group)
        return grad, None


def all_reduce_sum(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Differentiable sum of `x` over the processes of `group`; `x` itself where `group` is None."""
    return x if group is None else _AllReduceSum.apply(x, group)


def batch_moments(x: Float[Tensor, "n c"], group: dist.ProcessGroup | None = None) -> BatchMoments:
    """Mean and biased variance of each feature over the joined batch of all processes.

    Two passes, the second around the mean, so that a large mean does not cancel the variance.

    Args:
        x: samples, features last; at least fp32.
        group: processes that share the batch; None for this one alone.
    """
    n = x.new_tensor(float(x.shape[0]))
    if group is None:
        var, mean = torch.var_mean(x, dim=0, correction=0)
        return BatchMoments(mean, var, n)
    total = all_reduce_sum(torch.cat([x.sum(0), n[None]]), group)
    count = total[-1].detach()
    mean = total[:-1] / count
    var = all_reduce_sum((x - mean).square().sum(0), group) / count
    return BatchMoments(mean, var, count)


def batch_norm_linear(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
    group: dist.ProcessGroup | None = None,
    relu: bool = False,
) -> tuple[Float[Tensor, "n c"], BatchMoments]:
    """`gamma * (z - mean(z)) / sqrt(var(z) + eps) + beta` for `z = x @ weight.T`, then ReLU if asked.

    Statistics are those of this batch, in fp32 or better; the layer has no bias, since the mean takes it
    away. Differentiable in `x`, `weight`, `gamma` and `beta`.

    Args:
        x: samples, features last.
        weight: the layer's matrix.
        gamma: scale after normalisation.
        beta: shift after normalisation.
        eps: added to the variance.
        group: processes over which the batch is joined; None for this one alone.
        relu: apply ReLU to the result.

    Returns:
        The normalised product, in the dtype of the product, and the detached moments of `z`.
    """
    z = F.linear(x, weight)
    wide = z if z.dtype == torch.float64 else z.float()
    with torch.autocast(z.device.type, enabled=False):
        moments = batch_moments(wide, group)
        scale = gamma * torch.rsqrt(moments.var + eps)
        y = (wide - moments.mean) * scale + beta
    y = y.to(z.dtype)
    if relu:
        y = F.relu(y)
    return y, BatchMoments(moments.mean.detach(), moments.var.detach(), moments.count)
