"""Derivatives of a normalised network by its coordinates, for each sample without those of other samples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn.mlp import CoordinateMLP
from bn_field_plugin.nn.statistics import held_statistics

BLOCK_POINTS = 2**14
"""Points whose activations a pass without gradients of parameters keeps at a time, on a CPU."""


def value_and_gradient(
    mlp: CoordinateMLP, x: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "n o"], Float[Tensor, "n d"]]:
    """Outputs of a network, and the gradient of the first one by each sample's own coordinates.

    Through the statistics of a batch every output depends on every sample, and autograd would give the sum of
    all outputs' derivatives by a sample. So a training pass is made twice: the first takes the statistics of
    the batch (and updates the running ones), the second normalises with them as constants. Outputs are those
    of batch norm, the gradient is that of the function which evaluation renders with the same statistics, and
    both can be differentiated by the parameters, through the statistics too. Without gradients enabled, one
    pass with the running statistics gives the derivative of evaluation.

    Args:
        mlp: the network.
        x: coordinates; no gradient flows into them.

    Returns:
        Outputs and gradient; constants where gradients are not enabled.

    Raises:
        UserError: a training batch of one sample.
    """
    with_graph = torch.is_grad_enabled()
    x = x.detach()
    with held_statistics(mlp) as needs_pass:
        if needs_pass:
            mlp(x)
        in_blocks = not with_graph and x.device.type == "cpu"
        blocks = x.split(BLOCK_POINTS) if in_blocks else (x,)
        parts = [_differentiate(mlp, block, with_graph) for block in blocks]
    values, gradients = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(gradients)


def _differentiate(
    mlp: CoordinateMLP, x: Float[Tensor, "n d"], with_graph: bool
) -> tuple[Float[Tensor, "n o"], Float[Tensor, "n d"]]:
    with torch.enable_grad():
        x = x.requires_grad_()
        y = mlp(x)
        (gradient,) = torch.autograd.grad(y[:, 0].sum(), x, create_graph=with_graph)
    return (y, gradient) if with_graph else (y.detach(), gradient)
