"""How far running statistics are from exact ones."""

from __future__ import annotations

import torch
from torch import nn

from bn_field_plugin.nn.norms import RunningNorm


@torch.no_grad()
def norm_drift(running: RunningNorm, exact: RunningNorm) -> float:
    """Root mean square change of a norm's normalised values if exact statistics replace its running ones.

    The mean is over features, and over the samples of which the exact statistics (mean m, variance s^2) were
    taken. With running mean r and running variance v:

        drift^2 = mean of (m - r)^2 / (v + eps) + s^2 (1 / sqrt(v + eps) - 1 / sqrt(s^2 + eps))^2

    Args:
        running: the norm as it is.
        exact: the same norm with exact statistics.

    Returns:
        The drift, at least 0, in standard deviations. For cross norm, it is computed from the mean and
        variance of each feature.
    """
    mean, var = exact.running_mean.double(), exact.running_var.double()
    held = running.running_var.double() + running.eps
    offset = (mean - running.running_mean.double()).square() / held
    stretch = var * (held.rsqrt() - (var + running.eps).rsqrt()).square()
    return float((offset + stretch).mean().sqrt())


def drifts(running: nn.Module, exact: nn.Module) -> dict[str, float]:
    """Drift of each norm of a model, by the norm's name.

    Args:
        running: the model as it is.
        exact: the same model with exact statistics.
    """
    norms = {name: module for name, module in exact.named_modules() if isinstance(module, RunningNorm)}
    return {
        name: norm_drift(module, norms[name])
        for name, module in running.named_modules()
        if isinstance(module, RunningNorm)
    }
