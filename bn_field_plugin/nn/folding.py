"""Inference without norms: batch and global norm are affine in evaluation, so they fold away."""

from __future__ import annotations

import copy
import dataclasses

import torch

from bn_field_plugin.nn.mlp import CoordinateMLP, folded_weights
from bn_field_plugin.nn.norms import AffineNorm
from bn_field_plugin.nn.precision import without_autocast


@torch.no_grad()
def fold_norm(mlp: CoordinateMLP) -> CoordinateMLP:
    """A copy of `mlp` in evaluation mode with its affine norms folded into the weights.

    Folded and unfolded outputs agree to rounding. Layer and cross norm depend on the sample: a network
    with one of them comes back as an unchanged copy.

    Args:
        mlp: network with running statistics that are exact enough (see `calibrate`).

    Returns:
        A network without norm (its config says so), on the same device, with its parameters detached.
    """
    if not any(isinstance(layer.norm, AffineNorm) for layer in mlp.hidden_layers):
        return copy.deepcopy(mlp).eval()
    # Weights are drawn and then replaced, which should not advance torch's random numbers.
    with torch.random.fork_rng(devices=[]):
        folded = CoordinateMLP(dataclasses.replace(mlp.config, norm="none"))
    folded.to(device=mlp.output.weight.device, dtype=mlp.output.weight.dtype)
    folded.encoding = copy.deepcopy(mlp.encoding)
    with without_autocast(mlp.output.weight.device):
        weights = folded_weights(mlp)
    for linear, (weight, bias) in zip(folded.linears, weights, strict=True):
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return folded.eval()
