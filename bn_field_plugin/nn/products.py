"""Products and sums over very many samples on a CPU: what large batches of small layers spend their time on.

Each function equals a line of plain torch; the spelling here is the one that measures fastest, or rounds
best, for tens of thousands of samples and tens to hundreds of features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Inexact
from torch import Tensor

from bn_field_plugin.nn.scripting import is_recording

BLOCK = 1024
"""Samples that are added up in the dtype of the samples; sums over blocks are then added in fp64."""

GROUP = 64
"""A batch whose size is a multiple of this is expected to come again with the same size (see `linear`)."""


def linear(
    x: Inexact[Tensor, "n d"],
    weight: Inexact[Tensor, "c d"],
    bias: Inexact[Tensor, " c"] | None = None,
    relu: bool = False,
) -> Inexact[Tensor, "n c"]:
    """`x @ weight.T + bias`, then ReLU if asked, as a new tensor without a gradient.

    On a CPU in fp32 this is one pass of oneDNN, the kernel that torch.compile takes too: bias and ReLU are
    applied while the product is in registers, where F.linear and F.relu pass over the result twice more.
    oneDNN compiles a kernel for each number of samples: where that differs from call to call (rays end at
    other samples at each step), it takes several times as long as the product. So it serves whole `GROUP`s.
    """
    with torch.no_grad():
        if x.shape[0] % GROUP == 0 and _has_fused_linear(x):
            attribute = "relu" if relu else "none"
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, weight.contiguous(), bias, attribute, [], ""
            )
            return fused
        y = F.linear(x, weight, bias)
        return y.relu_() if relu else y


def sum_of_rows(x: Float[Tensor, "n d"]) -> Float64[Tensor, " d"]:
    """`x.sum(0)`, rounded to the dtype of `x` only within blocks of `BLOCK` samples."""
    blocks, rest = _split(x)
    if blocks is None:
        return rest.sum(0, dtype=torch.float64)
    total = torch.matmul(x.new_ones(BLOCK), blocks).sum(0, dtype=torch.float64)
    return total if rest.shape[0] == 0 else total + rest.sum(0, dtype=torch.float64)


def sum_of_outer_products(a: Float[Tensor, "n c"], b: Float[Tensor, "n d"]) -> Float64[Tensor, "c d"]:
    """`a.T @ b`, rounded to the dtype of `a` only within blocks of `BLOCK` samples.

    A batch of short products is up to 1.8 times as fast as the one long product, and ten times as exact.
    """
    (blocks_a, rest_a), (blocks_b, rest_b) = _split(a), _split(b)
    if blocks_a is None or blocks_b is None:
        return (rest_a.T @ rest_b).double()
    total = torch.bmm(blocks_a.mT, blocks_b).sum(0, dtype=torch.float64)
    return total if rest_a.shape[0] == 0 else total + rest_a.T @ rest_b


def _split(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "k b d"] | None, Float[Tensor, "r d"]]:
    """Whole blocks of samples, None where there are too few, and the rest."""
    whole = x.shape[0] // BLOCK * BLOCK
    blocks = x[:whole].view(-1, BLOCK, x.shape[1]) if whole else None
    return blocks, x[whole:]


def is_traced() -> bool:
    """Whether somebody looks on who does not see into special kernels.

    That is a tracer, torch.compile, torch.func, or a mode that sees each operation, such as a counter.
    """
    return (
        torch.compiler.is_compiling()
        or is_recording()
        or bool(torch._C._are_functorch_transforms_active())
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _has_fused_linear(x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not is_traced()
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
