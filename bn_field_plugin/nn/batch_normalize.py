"""Batch normalisation of given samples, as one differentiable function: of a norm behind an activation."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn import compiled_batch_norm, products
from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments
from bn_field_plugin.nn.double_backward import gradients_by_torch

LARGE = 2**16
"""Least numbers in a batch for the compiled loops: for fewer, loading numba is not worth its time."""


def serves(x: Float[Tensor, "n c"], *parameters: Tensor) -> bool:
    """Whether the compiled loops can normalise a batch: large enough, fp32 on a CPU, and numba works."""
    tensors = (x, *parameters)
    return (
        x.numel() >= LARGE
        and x.shape[0] > 1
        and not products.is_traced()
        and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
        and all(forward_ad.unpack_dual(t).tangent is None for t in tensors)
        and compiled_batch_norm.kernels() is not None
    )


def batch_normalize(
    x: Float[Tensor, "n c"], gamma: Float[Tensor, " c"], beta: Float[Tensor, " c"], eps: float
) -> tuple[Float[Tensor, "n c"], BatchMoments]:
    """`gamma * (x - mean(x)) / sqrt(var(x) + eps) + beta`, by the compiled loops, where `serves` allows it.

    Differentiable in all three, any number of times: gradients that are to be differentiated again are taken
    by torch operations.

    Args:
        x: samples, features last.
        gamma: scale after normalisation.
        beta: shift after normalisation.
        eps: added to the variance.

    Returns:
        The normalised samples, and the detached moments of `x`.
    """
    mean, var = compiled_batch_norm.moments(x.detach().contiguous())
    y: Tensor = _BatchNormalize.apply(x, gamma, beta, eps, mean, var)
    return y, BatchMoments(mean.float(), var.float(), x.new_tensor(float(len(x))))


class _BatchNormalize(torch.autograd.Function):
    """The passes; mean and variance are those of `x`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float, mean: Tensor, var: Tensor
    ) -> Tensor:
        ctx.norm = compiled_batch_norm.Normalisation.of(mean, var, gamma, beta, eps, relu=False)
        ctx.save_for_backward(x, gamma, beta)
        ctx.eps = eps
        normed: Tensor = ctx.norm.apply(x.contiguous())
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta = ctx.saved_tensors
        if torch.is_grad_enabled():
            moments = batch_moments(x)
            y = (x - moments.mean) * (gamma * torch.rsqrt(moments.var + ctx.eps)) + beta
            found = gradients_by_torch([y], [grad], (x, gamma, beta), ctx.needs_input_grad[:3])
            return *found, None, None, None
        grad_x, grad_gamma, grad_beta = ctx.norm.gradients(grad, x.contiguous(), gamma)
        return grad_x, grad_gamma.float(), grad_beta.float(), None, None, None
