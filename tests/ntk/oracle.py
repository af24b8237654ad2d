"""The kernel by brute force: torch.func.jacrev of the whole batch's function."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bn_field_plugin.nn import batch_statistics, calibrate, frozen_statistics


def jacobian_by_jacrev(module: nn.Module, points: Tensor, statistics: str = "batch") -> Tensor:
    """Rows by point, then output; columns in the order of the parameters."""
    module = copy.deepcopy(module)
    if statistics == "frozen":
        calibrate(module, [points])
    mode = batch_statistics if statistics == "batch" else frozen_statistics
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def outputs(values: dict[str, Tensor]) -> Tensor:
        with mode(module):
            return torch.func.functional_call(module, values, (points,)).reshape(-1)

    found = torch.func.jacrev(outputs)(parameters)
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1)


def distance(ours: Tensor, truth: Tensor) -> float:
    """Largest difference, relative to the largest entry of the truth."""
    return float((ours - truth).abs().max() / truth.abs().max())
