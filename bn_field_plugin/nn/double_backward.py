"""Gradients that are to be differentiated again, for functions with compiled backward passes.

Compiled loops give gradients as plain numbers. Where a backward pass is itself recorded (as for an eikonal
loss), the function's twin in torch operations is differentiated instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients_by_torch(
    outputs: Sequence[Tensor], grads: Sequence[Tensor], inputs: Sequence[Tensor], needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of inputs; None for inputs whose gradient is not needed.

    They can be differentiated where gradients are enabled.

    Args:
        outputs: what torch operations made of the inputs. Those that need no gradient are left out.
        grads: gradients of the outputs.
        inputs: the inputs.
        needed: whether the gradient of each input is needed, as `ctx.needs_input_grad` tells.
    """
    wanted = [tensor for tensor, is_needed in zip(inputs, needed, strict=True) if is_needed]
    pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out.requires_grad]
    differentiable, their_grads = zip(*pairs, strict=True)
    found = iter(
        torch.autograd.grad(differentiable, wanted, their_grads, create_graph=torch.is_grad_enabled())
    )
    return tuple(next(found) if is_needed else None for is_needed in needed)
