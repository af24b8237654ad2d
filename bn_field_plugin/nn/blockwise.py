"""Training passes of batch-normalised networks on a CPU, block by block of samples.

Layer by layer, the activations of a large batch go out to memory and come back several times in a step. Here
a block of samples that fits a core's cache goes through all that can be done before the statistics of the
next layer are known: norm, ReLU, product, and the product's moments. Only the products before the norm are
kept for the backward pass, or every second one of them where they are large; it forms all else again.
`python -m benchmarks.layer_routes` times both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from bn_field_plugin.nn.batch_linear import plain_batch_norm_linear
from bn_field_plugin.nn.batch_moments import BatchMoments, merged_moments
from bn_field_plugin.nn.blas import can_multiply, each_block
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.double_backward import gradients_by_torch

BLOCK_BYTES = 2**19
"""Activations of one layer that a block holds: about half of a core's L2 cache."""

FEWEST_IN_BLOCK = 1024
"""Samples of a block of wide layers, whose products are slow for fewer."""

FEWEST_SAMPLES = 8192
"""Samples of a batch from which on blocks are faster than layers."""

KEPT_BYTES = 2**28
"""Bytes of all products up to which they are kept; of more, the backward pass makes every second again."""

_Norm: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]

NOTHING = np.zeros((0, 0), np.float32)
"""Given to a kernel in the place of a matrix that it need not fill."""

NO_NORM: _Norm = (NOTHING[0:0].reshape(-1),) * 3
"""Stands for a norm's mean, scale and shift where there is none."""


class Hidden(NamedTuple):
    """A hidden layer: product, batch norm, ReLU."""

    weight: Float[Tensor, "c d"]
    gamma: Float[Tensor, " c"]
    beta: Float[Tensor, " c"]
    eps: float


def serves(tensors: list[Tensor]) -> bool:
    """Whether a batch can go this way: large enough, fp32 on a CPU, and numba and MKL at hand.

    Args:
        tensors: the samples, then the parameters of the network.
    """
    return (
        tensors[0].shape[0] >= FEWEST_SAMPLES
        and torch.is_grad_enabled()
        and can_multiply(tensors)
        and kernels() is not None
    )


def network(
    x: Float[Tensor, "n d"],
    hidden: list[Hidden],
    weight: Float[Tensor, "o c"],
    bias: Float[Tensor, " o"],
) -> tuple[Float[Tensor, "n o"], list[BatchMoments]]:
    """Outputs of hidden layers and a linear one after them, where `serves` says that they can be had here.

    Differentiable in all tensors, any number of times: gradients that are to be differentiated again are
    taken by torch operations.

    Args:
        x: samples.
        hidden: the hidden layers.
        weight: the output layer's.
        bias: the output layer's.

    Returns:
        The outputs, and the detached moments of each hidden layer's product.
    """
    moments: list[BatchMoments] = []
    flat = [part for layer in hidden for part in layer[:3]]
    y: Tensor = _Network.apply(moments, [layer.eps for layer in hidden], x, weight, bias, *flat)
    return y, moments


class _Network(torch.autograd.Function):
    """Forward and backward pass; the forward pass appends to the list `moments`, as a second result."""

    @staticmethod
    def forward(ctx: Any, moments: list[BatchMoments], eps: list[float], *tensors: Tensor) -> Tensor:
        x, weight, bias, *flat = (t.detach().contiguous() for t in tensors)
        hidden = _layers(flat, eps)
        passed = _Passed(x, hidden)
        moments += [passed.add(layer) for layer in hidden]
        kept = {index: z for index, z in enumerate(passed.products) if z is not None}
        ctx.save_for_backward(*tensors, *kept.values())
        ctx.eps, ctx.statistics, ctx.kept, ctx.spare = eps, passed.statistics, list(kept), passed.spare
        return passed.outputs(weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        count = 3 + 3 * len(ctx.eps)
        tensors, wants = ctx.saved_tensors[:count], ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *gradients_by_torch([_by_torch(tensors, ctx.eps)], [grad], tensors, wants)
        x, weight, _, *flat = (t.detach().contiguous() for t in tensors)
        hidden = _layers(flat, ctx.eps)
        passed = _Passed(x, hidden)
        kept = dict(zip(ctx.kept, ctx.saved_tensors[count:], strict=True))
        passed.products, passed.statistics = [kept.get(index) for index in range(len(hidden))], ctx.statistics
        passed.spare, ctx.spare = ctx.spare, []
        return None, None, *_gradients(passed, hidden, weight, grad.contiguous(), wants[0])


def _layers(flat: list[Tensor], eps: list[float]) -> list[Hidden]:
    parts = zip(flat[::3], flat[1::3], flat[2::3], eps, strict=True)
    return [Hidden(*layer) for layer in parts]


def _by_torch(tensors: tuple[Tensor, ...], eps: list[float]) -> Float[Tensor, "n o"]:
    """The outputs, computed again by torch operations, which can be differentiated twice."""
    y, weight, bias, *flat = tensors
    for layer in _layers(flat, eps):
        y, _ = plain_batch_norm_linear(y, *layer, None, True)
    return F.linear(y, weight, bias)


class _Statistics(NamedTuple):
    """What a layer's product is normalised with, as arrays for the compiled loops."""

    mean: np.ndarray
    scale: np.ndarray
    """Gamma divided by the standard deviation."""
    shift: np.ndarray
    inverse_std: Float64[Tensor, " c"]

    @property
    def norm(self) -> _Norm:
        """Mean, scale and shift: ReLU is applied to (product - mean) * scale + shift."""
        return self[:3]


class _Passed:
    """A batch on its way through hidden layers.

    Args:
        x: samples.
        hidden: all hidden layers.

    Attributes:
        products: of the layers that it has passed, before the norm; None for those that are not kept.
        statistics: of the same layers.
        spare: matrices for products to come. They are handed on here, because small pieces of whatever comes
            between would be cut out of memory that is freed, and leave no room for the next product.
    """

    def __init__(self, x: Float[Tensor, "n d"], hidden: list[Hidden]) -> None:
        self.x = x
        self.num = x.shape[0]
        self.hidden = hidden
        self.products: list[Float[Tensor, "n c"] | None] = []
        self.statistics: list[_Statistics] = []
        self.spare: list[Tensor] = []
        widths = [layer.weight.shape[0] for layer in hidden]
        fitting = 2 ** int(math.log2(max(BLOCK_BYTES / (4 * max(widths)), 1)))
        self.block = max(fitting, FEWEST_IN_BLOCK)
        self.blocks = -(-self.num // self.block)
        self.every = 1 if 4 * self.num * sum(widths) <= KEPT_BYTES else 2

    def each_block(self, kernel: Callable[..., None], *given: object) -> None:
        """Call a kernel for all blocks (see `blas.each_block`)."""
        each_block(kernel, given, self.blocks, self.block)

    def row_per_block(self, c: int) -> np.ndarray:
        """Zeros `[blocks, c]`, for a number that each block computes for each of `c` features."""
        return np.zeros((self.blocks, c), np.float32)

    def behind(self, layers: int) -> tuple[np.ndarray, _Norm, bool]:
        """Outputs of the first `layers` hidden layers, as the kernels take what comes into the next one."""
        if not layers:
            return self.x.numpy(), NO_NORM, False
        return self.product(layers - 1).numpy(), self.statistics[layers - 1].norm, True

    def product(self, index: int) -> Float[Tensor, "n c"]:
        """Product of a hidden layer that has been passed, made again if it was not kept."""
        z = self.products[index]
        if z is None:
            weight = self.hidden[index].weight
            self.products[index] = z = self.linear(index, weight, weight.new_zeros(weight.shape[0]))
        return z

    def forget(self, index: int) -> None:
        """Let go of a layer's product, unless it is one of those that are kept: the last, or all of them."""
        z = self.products[index]
        if z is not None and (len(self.hidden) - 1 - index) % self.every:
            self.spare.append(z)
            self.products[index] = None

    def room(self, columns: int) -> Float[Tensor, "n c"]:
        """A matrix for numbers of all samples, with any content."""
        for index, one in enumerate(self.spare):
            if one.shape[1] == columns:
                return self.spare.pop(index)
        return self.x.new_empty(self.num, columns)

    def add(self, layer: Hidden) -> BatchMoments:
        """Take the batch through the next layer.

        Returns:
            The moments of the layer's product.
        """
        z = self.room(layer.weight.shape[0])
        means, squares = self.row_per_block(z.shape[1]), self.row_per_block(z.shape[1])
        into = self.behind(len(self.products))
        self.each_block(kernels().forward, *into, layer.weight.numpy(), z.numpy(), means, squares)
        blocks = torch.from_numpy(means), torch.from_numpy(squares)
        mean, var = merged_moments(*blocks, self.num, self.block)
        inverse_std = torch.rsqrt(var + layer.eps)
        center, scale, shift = (p.float().numpy() for p in (mean, layer.gamma * inverse_std, layer.beta))
        if self.products:
            self.forget(len(self.products) - 1)
        self.products.append(z)
        self.statistics.append(_Statistics(center, scale, shift, inverse_std))
        return BatchMoments(mean.float(), var.float(), z.new_tensor(float(self.num)))

    def outputs(self, weight: Float[Tensor, "o c"], bias: Float[Tensor, " o"]) -> Float[Tensor, "n o"]:
        """Outputs of a linear layer that follows all hidden layers."""
        return self.linear(len(self.hidden), weight, bias)

    def linear(
        self, layers: int, weight: Float[Tensor, "o c"], bias: Float[Tensor, " o"]
    ) -> Float[Tensor, "n o"]:
        """What a linear layer gives behind the first `layers` hidden layers."""
        out = self.room(weight.shape[0])
        into = self.behind(layers)
        self.each_block(kernels().output, *into, weight.numpy(), bias.numpy(), out.numpy())
        return out


def _gradients(
    passed: _Passed,
    hidden: list[Hidden],
    weight: Float[Tensor, "o c"],
    grad: Float[Tensor, "n o"],
    wants_x: bool,
) -> list[Tensor | None]:
    """Gradients of samples, output weight and bias, and of each layer's weight, gamma and beta."""
    n, above = passed.num, grad
    back: tuple[np.ndarray, np.ndarray] | None = None
    found: list[Tensor | None] = []
    for layers in range(len(hidden), 0, -1):
        # A hidden layer's block reads what is above before it writes below, which can take its place.
        columns = hidden[layers - 1].weight.shape[0]
        below = above if back is not None and above.shape[1] == columns else passed.room(columns)
        grad_weight, grad_gamma, grad_beta = _one_layer(passed, layers, weight, above, back, below)
        if layers < len(hidden):
            passed.forget(layers)
        layer, inverse_std = hidden[layers - 1], passed.statistics[layers - 1].inverse_std
        share = layer.gamma * inverse_std / n
        var_back, mean_back = share * inverse_std * grad_gamma, share * grad_beta
        back = var_back.float().numpy(), mean_back.float().numpy()
        found = [grad_weight, grad_gamma.float(), grad_beta.float(), *found]
        weight, above = layer.weight, below
    grad_x = torch.empty_like(passed.x) if wants_x else None
    first, *_ = _one_layer(passed, 0, weight, above, back, grad_x)
    # Each weight was found with the norm below it: the last one belongs to the output.
    *inner, output = [first, *found[::3]]
    norms = [part for pair in zip(inner, found[1::3], found[2::3], strict=True) for part in pair]
    return [grad_x, output, grad.sum(0), *norms]


def _one_layer(
    passed: _Passed,
    layers: int,
    weight: Float[Tensor, "o c"],
    above: Float[Tensor, "n o"],
    back: tuple[np.ndarray, np.ndarray] | None,
    below: Float[Tensor, "n c"] | None,
) -> tuple[Float[Tensor, "o c"], Float64[Tensor, " c"], Float64[Tensor, " c"]]:
    """Gradients of a layer's weight, and of the norm's gamma and beta below it.

    Args:
        passed: the batch.
        layers: hidden layers below.
        weight: the layer's.
        above: gradients of what comes out of the layer.
        back: what variance and mean of its product send back to each sample; None for the output layer.
        below: filled with the gradients of what comes into the layer.
    """
    matrix = above.numpy()
    own: tuple[object, ...] = matrix, NO_NORM, NO_NORM[:2], False
    if back is not None:
        own = passed.product(layers).numpy(), passed.statistics[layers].norm, back, True
    partial = weight.new_empty(passed.blocks, *weight.shape)
    totals, dots = passed.row_per_block(weight.shape[1]), passed.row_per_block(weight.shape[1])
    found = partial.numpy(), NOTHING if below is None else below.numpy(), totals, dots
    passed.each_block(kernels().gradients, matrix, *own, *passed.behind(layers), weight.numpy(), *found)
    grad_weight = partial.sum(0, dtype=torch.float64).float()
    grad_beta, dot = (torch.from_numpy(part).sum(0, dtype=torch.float64) for part in (totals, dots))
    inverse_std = passed.statistics[layers - 1].inverse_std if layers else torch.zeros_like(dot)
    return grad_weight, dot * inverse_std, grad_beta


def kernels() -> Any:
    """The compiled loops; None where numba does not work."""
    return load_compiled("bn_field_plugin.nn.blockwise_kernels")
