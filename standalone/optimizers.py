"""Adam and Muon without `torch.optim`, whose first use imports torch's compiler: 1.5 seconds and 150 MB.

A step calls the same functions as those of `torch.optim` and `bn_field_plugin.nn.muon`, which the tests
compare with these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bn_field_plugin.nn.muon import of_one_kind, step_matrices


class Lean(ABC):
    """What a fit asks of an optimizer; rates are changed by `param_groups[0]["lr"]`, as in `torch.optim`.

    Args:
        parameters: the parameters to optimise.
        lr: learning rate.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        self._parameters = list(parameters)
        self.param_groups: list[dict[str, Any]] = [{"params": self._parameters, "lr": lr}]

    @abstractmethod
    def step(self) -> None:
        """Take one step of the parameters that have gradients."""

    @abstractmethod
    def state_dict(self) -> dict[str, list[Tensor]]:
        """What a step remembers of those before it: tensors for each parameter, by name."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        for parameter in self._parameters:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Take the state of a checkpoint.

        Raises:
            KeyError: the state is of another optimizer.
            ValueError: the state is of other parameters.
        """
        for name, ours in self.state_dict().items():
            for mine, theirs in zip(ours, state[name], strict=True):
                mine.copy_(theirs)


class FusedAdam(Lean):
    """Adam (Kingma & Ba 2015) of real parameters; a step passes over each parameter once.

    Args:
        parameters: the parameters to optimise.
        lr: learning rate.
        betas: shares of the first and of the second moment that a step keeps.
        eps: added to the root of the second moment.
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(parameters, lr)
        self._betas, self._eps = betas, eps
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]

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

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Moments and numbers of steps of all parameters."""
        return {"first": self._first, "second": self._second, "steps": self._steps}


class LeanMuon(Lean):
    """Muon of real matrices, without weight decay, at the lengths of Adam's steps.

    Args:
        parameters: the matrices to optimise.
        lr: learning rate.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        super().__init__(parameters, lr)
        self._momenta = [torch.zeros_like(p) for p in self._parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step of the matrices that have gradients."""
        momenta = dict(zip(map(id, self._parameters), self._momenta, strict=True))
        for matrices in of_one_kind(self._parameters):
            grads = [matrix.grad for matrix in matrices if matrix.grad is not None]
            step_matrices(matrices, grads, [momenta[id(p)] for p in matrices], lr=self.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Momenta of all matrices."""
        return {"momenta": self._momenta}
