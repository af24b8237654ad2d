"""Linear layers and activations on a CPU, block by block of samples: all layers between two norms.

A block goes through the layers while it is in a core's cache, forward and back. Activations are kept for the
backward pass; where they are large, it passes the layers again instead. Norms that scale and shift by fixed
numbers are folded into the weights by whoever calls this. For batch norm behind an activation, the outputs
come with their mean and variance, through which gradients flow back too.
`python -m benchmarks.layer_routes` times this beside torch's layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.nn.activations.finer import Finer
from bn_field_plugin.nn.activations.relu import Relu
from bn_field_plugin.nn.activations.sine import Sine
from bn_field_plugin.nn.batch_moments import BatchMoments, batch_moments, merged_moments
from bn_field_plugin.nn.blas import can_multiply, each_block
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.double_backward import gradients_by_torch
from bn_field_plugin.nn.products import is_traced

BLOCK_BYTES = 2**19
"""Activations of one layer that a block holds: about half of a core's L2 cache."""

FEWEST_IN_BLOCK, MOST_IN_BLOCK = 512, 1024
"""Samples of a block."""

FEWEST_SAMPLES = 2048
"""Samples of a batch from which on blocks are faster than layers."""

KEPT_BYTES = 2**28
"""Bytes of activations up to which they are kept."""

IDENTITY, RELU, SINE, FINER = range(4)
"""Numbers by which the compiled loops know activations."""

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

NOTHING: FloatArray = np.zeros((0, 1), np.float32)
"""Given to a kernel in the place of a matrix that it need not fill."""

NO_ROW: FloatArray = np.zeros(0, np.float32)
"""Given to a kernel in the place of a vector."""

Layer: TypeAlias = tuple[Tensor, Tensor]
"""Weight `[o, d]` and bias `[o]`."""


class Activated(NamedTuple):
    """An activation as the compiled loops know it."""

    kind: int
    """One of `RELU`, `SINE`, `FINER`; `IDENTITY` for none."""
    omega: float
    """Frequency of sines."""

    def apply(self, z: Tensor) -> Tensor:
        """The activation, by torch operations."""
        if self.kind == IDENTITY:
            return z
        if self.kind == RELU:
            return F.relu(z)
        return torch.sin(self.omega * ((z.abs() + 1) * z if self.kind == FINER else z))


def known(activations: Iterable[nn.Module]) -> Activated | None:
    """The one activation of all layers as the compiled loops know it; None for others, and for several."""
    found = {_known(activation) for activation in activations}
    return found.pop() if len(found) == 1 else None


def _known(activation: nn.Module) -> Activated | None:
    # Of their exact types: a subclass may compute something else.
    if type(activation) in (nn.ReLU, Relu):
        return Activated(RELU, 1.0)
    if isinstance(activation, Sine | Finer) and type(activation) in (Sine, Finer):
        omega = activation.omega
        kind = FINER if isinstance(activation, Finer) else SINE
        return Activated(kind, omega) if isinstance(omega, float | int) else None
    return None


def serves(x: Float[Tensor, "n d"], parameters: list[Tensor]) -> bool:
    """Whether a batch can go this way: large enough, fp32 on a CPU, and numba and MKL at hand."""
    return can_multiply([x, *parameters]) and x.shape[0] >= FEWEST_SAMPLES and _kernels() is not None


def network(x: Float[Tensor, "n d"], layers: list[Layer], activation: Activated) -> Float[Tensor, "n o"]:
    """Outputs of linear layers with an activation between them, where `serves` says that it can be done.

    Differentiable in all tensors, any number of times: gradients that are to be differentiated again are
    taken by torch operations.

    Args:
        x: samples.
        layers: weights and biases, the output layer's last.
        activation: between two layers.
    """
    return _passed(_Plan.of(layers, activation, is_activated=False), x, layers)[0]


def hidden_layers(
    x: Float[Tensor, "n d"], layers: list[Layer], activation: Activated
) -> tuple[Float[Tensor, "n o"], BatchMoments]:
    """As `network`, with the activation behind the last layer too, and with the outputs' moments.

    Gradients flow through mean and variance too.

    Args:
        x: samples.
        layers: weights and biases.
        activation: behind each layer.
    """
    y, mean, var = _passed(_Plan.of(layers, activation, is_activated=True), x, layers)
    return y, BatchMoments(mean, var, y.new_tensor(float(len(y))))


class _Plan(NamedTuple):
    """All of a pass but the numbers."""

    sizes: tuple[tuple[int, int], ...]
    """Numbers of outputs and inputs of each layer."""
    activation: Activated
    last: Activated
    """Activation behind the last layer."""

    @classmethod
    def of(cls, layers: list[Layer], activation: Activated, is_activated: bool) -> _Plan:
        sizes = tuple((weight.shape[0], weight.shape[1]) for weight, _ in layers)
        return cls(sizes, activation, activation if is_activated else Activated(IDENTITY, 1.0))

    @property
    def has_moments(self) -> bool:
        """Whether the outputs' moments are wanted."""
        return self.last.kind != IDENTITY

    def blocks(self, n: int) -> tuple[int, int]:
        """Samples of a block, and number of blocks."""
        widest = max(max(size) for size in self.sizes)
        block = min(max(BLOCK_BYTES // (4 * widest), FEWEST_IN_BLOCK), MOST_IN_BLOCK)
        return block, -(-n // block)

    def given(self, x: Float[Tensor, "n d"], numbers: Float[Tensor, " p"], kept: Tensor) -> tuple[Any, ...]:
        """What all kernels take first."""
        kinds = self.activation.kind, np.float32(self.activation.omega), self.last.kind
        return x.numpy(), np.array(self.sizes), numbers.numpy(), *kinds, kept.numpy()

    def room(self, x: Float[Tensor, "n d"], is_wanted: bool) -> Float[Tensor, "l m"]:
        """Room for the activations that the backward pass needs; none if it is to pass the layers again."""
        activated = self.sizes if self.has_moments else self.sizes[:-1]
        if not (is_wanted and activated):
            return x.new_empty(0, 1)
        # Each layer's begin at a multiple of 64 bytes, where BLAS rounds as it does when they are made again.
        numbers = -(-len(x) * max(outputs for outputs, _ in activated) // 16) * 16
        is_kept = 4 * len(activated) * numbers <= KEPT_BYTES
        return x.new_empty(len(activated), numbers) if is_kept else x.new_empty(0, 1)

    def forward(
        self, x: Float[Tensor, "n d"], numbers: Float[Tensor, " p"], kept: Tensor
    ) -> tuple[Float[Tensor, "n o"], Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Outputs, and their mean and variance: m = o numbers where they are wanted, else none."""
        out = x.new_empty(len(x), self.sizes[-1][0])
        block, blocks = self.blocks(len(x))
        means, squares = out.new_zeros(2, blocks if self.has_moments else 0, out.shape[1])
        found = out.numpy(), means.numpy(), squares.numpy()
        each_block(_kernels().forward, (*self.given(x, numbers, kept), *found), blocks, block)
        if not self.has_moments:
            return out, out.new_empty(0), out.new_empty(0)
        mean, var = merged_moments(means, squares, len(x), block)
        return out, mean.float(), var.float()

    def gradients(
        self,
        x: Float[Tensor, "n d"],
        numbers: Float[Tensor, " p"],
        kept: Tensor,
        grad: Float[Tensor, "n o"],
        moments: tuple[FloatArray, FloatArray, FloatArray],
        wants: Sequence[bool],
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of samples and of numbers, those that are wanted."""
        block, blocks = self.blocks(len(x))
        partial = numbers.new_empty(blocks if wants[1] else 0, len(numbers))
        grad_x = torch.empty_like(x) if wants[0] else None
        found = partial.numpy(), NOTHING if grad_x is None else grad_x.numpy()
        given = *self.given(x, numbers, kept), grad.contiguous().numpy(), *moments
        each_block(_kernels().gradients, (*given, *found), blocks, block)
        return grad_x, partial.sum(0, dtype=torch.float64).float() if wants[1] else None

    def by_torch(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        """Outputs and wanted moments by torch operations, which can be differentiated twice."""
        parts = numbers.split([count for size in self.sizes for count in (size[0] * size[1], size[0])])
        for index, size in enumerate(self.sizes):
            behind = self.last if index == len(self.sizes) - 1 else self.activation
            x = behind.apply(F.linear(x, parts[2 * index].view(size), parts[2 * index + 1]))
        return (x, *batch_moments(x)[:2]) if self.has_moments else (x,)


def _passed(plan: _Plan, x: Float[Tensor, "n d"], layers: list[Layer]) -> tuple[Tensor, Tensor, Tensor]:
    numbers = torch.cat([part.reshape(-1) for layer in layers for part in layer])
    if torch.is_grad_enabled() and (x.requires_grad or numbers.requires_grad):
        y, mean, var = _Dense.apply(x, numbers, plan)
        return y, mean, var
    return plan.forward(x.detach().contiguous(), numbers.detach(), plan.room(x, is_wanted=False))


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, numbers: Tensor, plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
        kept = plan.room(x, is_wanted=True)
        y, mean, var = plan.forward(x.detach().contiguous(), numbers.detach(), kept)
        ctx.save_for_backward(x, numbers, kept, mean)
        ctx.plan = plan
        if not plan.has_moments:
            ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, to_mean: Tensor, to_var: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        x, numbers, kept, mean = ctx.saved_tensors
        wants = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or is_traced() or _holds_many(grad):
            with torch.enable_grad():
                outputs = plan.by_torch(x, numbers)
            grads = [grad, to_mean, to_var][: len(outputs)]
            return *gradients_by_torch(outputs, grads, (x, numbers), wants), None
        moments = NO_ROW, NO_ROW, NO_ROW
        if plan.has_moments:
            moments = mean.numpy(), (to_mean / len(x)).numpy(), (to_var * (2 / len(x))).numpy()
        samples = x.detach().contiguous()
        return *plan.gradients(samples, numbers.detach(), kept, grad, moments, wants), None


def _holds_many(grad: Tensor) -> bool:
    """Whether many gradients are taken at once (`is_grads_batched`), which have no numbers of their own."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(grad))


def _kernels() -> Any:
    """The compiled loops; None where numba does not work."""
    return load_compiled("bn_field_plugin.nn.dense_kernels")
