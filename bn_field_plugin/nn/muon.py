"""Muon: momentum whose matrices are orthogonalised before the step (Jordan et al. 2024), batched.

`torch.optim.Muon` is the oracle. It orthogonalises one matrix after another, in bfloat16: on a CPU without
bfloat16 units that is up to fifty times slower than float32, and on a GPU it launches some twenty kernels
for every matrix. Here all matrices of one shape go through the Newton-Schulz iteration together, in float32
unless asked otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from jaxtyping import Inexact
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.mlp import CoordinateMLP

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration X <- a X + (b G + c G^2) X, with G = X X^H: steep at 0, about 1 elsewhere."""

LrScale = Literal["match_rms_adamw", "original"]

Precision = Literal["auto", "float32", "bfloat16"]

SETTINGS = (*("lr", "weight_decay", "momentum", "nesterov", "eps", "ns_steps", "adjust_lr_fn", "precision"),)
"""Settings of a step; a group of parameters holds further ones, those of torch and of schedulers."""


def hidden_matrices(mlp: CoordinateMLP, with_output: bool = False) -> list[Tensor]:
    """The matrices that suit Muon: those between hidden layers and, if asked, that of the output layer."""
    linears = mlp.linears[1:] if with_output else mlp.linears[1:-1]
    return [p for linear in linears for p in linear.parameters() if p.ndim == 2]


def orthogonalize(
    matrices: Inexact[Tensor, "k m n"], steps: int = 5, eps: float = 1e-7
) -> Inexact[Tensor, "k m n"]:
    """Replace each matrix by its nearest (semi-)orthogonal one, roughly: all singular values come near 1.

    Args:
        matrices: k matrices of one shape, real or complex, in the precision to compute in.
        steps: Newton-Schulz steps, at least 1; with 5, singular values from 1% of the Frobenius norm up
            end between 0.7 and 1.2.
        eps: smallest Frobenius norm that a matrix is divided by; a zero matrix stays zero.

    Returns:
        The orthogonalised matrices, in the same precision.
    """
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mH if tall else matrices  # the Gram matrix on the short side
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mH
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mH if tall else x


def step_matrices(
    parameters: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    nesterov: bool = True,
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: LrScale = "match_rms_adamw",
    precision: Precision = "auto",
) -> None:
    """Take a step of Muon with matrices of one shape, device and precision; without gradients enabled.

    Args:
        parameters: the matrices, which are changed.
        grads: their gradients.
        buffers: their momenta, which are changed; zeros before the first step.
        lr: learning rate; this and the others as in `Muon`.
        weight_decay: decoupled weight decay.
        momentum: share of a momentum that the step keeps.
        nesterov: look one step ahead.
        eps: smallest Frobenius norm that an update is divided by.
        ns_steps: Newton-Schulz steps.
        adjust_lr_fn: how the length of a step depends on the shape.
        precision: of the iteration.
    """
    torch._foreach_lerp_(buffers, grads, 1 - momentum)
    ahead = torch._foreach_lerp(grads, buffers, momentum) if nesterov else buffers
    parameter = parameters[0]
    stack = torch.stack(ahead).to(_precision(precision, parameter))
    updates = orthogonalize(stack, ns_steps, eps).to(parameter.dtype)
    rows, columns = parameter.shape
    if adjust_lr_fn == "match_rms_adamw":
        scale = 0.2 * math.sqrt(max(rows, columns))
    else:
        scale = math.sqrt(max(1.0, rows / columns))
    torch._foreach_mul_(parameters, 1 - lr * weight_decay)
    torch._foreach_add_(parameters, list(updates.unbind()), alpha=-lr * scale)


def of_one_kind(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Groups of the parameters that have gradients, by shape, device and precision."""
    kinds: dict[tuple[torch.Size, torch.device, torch.dtype], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault((parameter.shape, parameter.device, parameter.dtype), []).append(parameter)
    return list(kinds.values())


class Muon(torch.optim.Optimizer):
    """Muon for the matrices between hidden layers.

    Every other parameter (biases, norms, first and last layers) belongs to another optimizer.
    Same arguments, defaults and state as `torch.optim.Muon`, but for the precision of the iteration.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: LrScale = "original",
        precision: Precision = "auto",
    ) -> None:
        """Set up the optimizer.

        Args:
            params: matrices to optimize, or parameter groups of matrices.
            lr: learning rate, at least 0.
            weight_decay: decoupled weight decay, at least 0.
            momentum: share of the momentum buffer that a step keeps, in [0, 1).
            nesterov: look one step ahead.
            eps: smallest Frobenius norm that an update is divided by.
            ns_steps: Newton-Schulz steps, at least 1.
            adjust_lr_fn: "match_rms_adamw" scales a step by 0.2 sqrt(max(m, n)), which gives it the root mean
                square of Adam's, so that Adam's learning rates fit; "original" by sqrt(max(1, m / n)).
            precision: of the iteration. "auto" is that of the matrices, at least float32; bfloat16 is for
                real matrices on CUDA, where nothing has run yet.

        Raises:
            UserError: a number out of its range, or a parameter that is not a matrix.
        """
        if not (lr >= 0 and weight_decay >= 0 and 0 <= momentum < 1 and ns_steps >= 1):
            raise UserError(
                "Muon needs lr >= 0, weight_decay >= 0, 0 <= momentum < 1 and ns_steps >= 1; "
                f"got {lr}, {weight_decay}, {momentum} and {ns_steps}"
            )
        if adjust_lr_fn not in ("match_rms_adamw", "original"):
            raise UserError(f"Muon's adjust_lr_fn is match_rms_adamw or original, not {adjust_lr_fn}")
        if precision not in ("auto", "float32", "bfloat16"):
            raise UserError(f"Muon's precision is auto, float32 or bfloat16, not {precision}")
        given = lr, weight_decay, momentum, nesterov, eps, ns_steps, adjust_lr_fn, precision
        super().__init__(params, dict(zip(SETTINGS, given, strict=True)))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise UserError(
                        f"Muon optimizes matrices only, not a parameter of shape {tuple(parameter.shape)}: "
                        "give that one to Adam"
                    )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: recomputes the loss, as in every torch optimizer.

        Returns:
            The closure's loss, or None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in of_one_kind(group["params"]):
                self._step_together(group, parameters)
        return loss

    def _step_together(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Step parameters of one shape, device and precision."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        step_matrices(parameters, grads, buffers, **{name: group[name] for name in SETTINGS})


def _precision(name: Precision, parameter: Tensor) -> torch.dtype:
    """Precision of the iteration for a parameter."""
    if parameter.is_complex():  # at least complex64: no shorter complex numbers can be multiplied
        return torch.promote_types(parameter.dtype, torch.complex64)
    if name == "bfloat16":
        return torch.bfloat16
    return torch.promote_types(parameter.dtype, torch.float32) if name == "auto" else torch.float32
