"""Adam for a CPU, without `torch.optim`, whose first use imports torch's compiler, which takes 1.5 seconds.

It is meant for fits of a few seconds. A step calls torch's own fused kernel; tests compare it with
`torch.optim.Adam`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class FusedAdam:
    """Adam (Kingma & Ba 2015) of real parameters on a CPU; a step passes over each parameter once.

    Args:
        parameters: the parameters to optimise.
        lr: learning rate; it can be changed by `param_groups[0]["lr"]`, as in `torch.optim`.
        betas: shares of the first and of the second moment that a step keeps.
        eps: added to the root of the second moment.
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        self._parameters = list(parameters)
        self._betas, self._eps = betas, eps
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros(()) for _ in self._parameters]
        self.param_groups: list[dict[str, Any]] = [{"params": self._parameters, "lr": lr}]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step of the parameters that have gradients."""
        rows = zip(self._parameters, self._first, self._second, self._steps, strict=True)
        with_gradients = [(p, p.grad, *state) for p, *state in rows if p.grad is not None]
        if not with_gradients:
            return
        parameters, gradients, first, second, steps = (list(one) for one in zip(*with_gradients, strict=True))
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            lr=self.param_groups[0]["lr"],
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        for parameter in self._parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Moments and numbers of steps of all parameters."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the moments and numbers of steps of a checkpoint.

        Raises:
            KeyError: the state is of another optimizer.
            ValueError: the state is of other parameters.
        """
        for name, ours in self.state_dict().items():
            for mine, theirs in zip(ours, state[name], strict=True):
                mine.copy_(theirs)
