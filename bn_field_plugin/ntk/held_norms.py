"""torch's own norms in a module: with the statistics of their inputs, or with statistics that are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.norms.update_bn import UpdateBnSign


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """torch's batch norms in a module by name, of any dimension, synchronised ones included."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and not isinstance(part, UpdateBnSign)
    }


def _tracking_instance_norms(module: nn.Module) -> list[_InstanceNorm]:
    """torch's instance norms that keep running statistics, which they use in evaluation."""
    return [part for part in module.modules() if isinstance(part, _InstanceNorm) and part.track_running_stats]


def take_from_batch(module: nn.Module) -> None:
    """Make torch's norms in a module use the statistics of their inputs in any mode, and record none."""
    for norm in (*batch_norms(module).values(), *_tracking_instance_norms(module)):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def hold_running(module: nn.Module) -> None:
    """Make torch's norms in a module use their running statistics.

    Raises:
        UserError: a batch norm has no running statistics.
    """
    for name, norm in batch_norms(module).items():
        if norm.running_mean is None or norm.running_var is None:
            raise UserError(f"the batch norm {name} has no running statistics: use --statistics batch")
        norm.eval()
    for instance_norm in _tracking_instance_norms(module):
        instance_norm.eval()


@torch.no_grad()
def hold_those_of(module: nn.Module, run: Callable[[], Any]) -> None:
    """Make torch's batch norms in a module use the exact statistics of one pass, from then on.

    Args:
        module: a module whose norms use the statistics of their inputs (`take_from_batch`).
        run: applies the module once.

    Raises:
        UserError: the pass uses a norm several times, each time with other statistics.
    """
    norms = batch_norms(module)
    if not norms:
        return
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def take(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if name in found:
                raise UserError(
                    f"the batch norm {name} is used more than once in a pass: its statistics cannot be frozen"
                )
            rows = inputs[0].transpose(0, 1).flatten(1)
            var, mean = torch.var_mean(rows, dim=1, correction=0)
            found[name] = (mean, var)

        return take

    hooks = [norm.register_forward_pre_hook(note(name)) for name, norm in norms.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    for name, norm in norms.items():
        if name in found:
            norm.running_mean, norm.running_var = found[name]
            norm.track_running_stats = True
            norm.eval()
