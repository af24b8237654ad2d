"""Batch normalisation of a matrix of samples on a CPU, by compiled loops over blocks of samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from bn_field_plugin.nn import products
from bn_field_plugin.nn.batch_moments import merged_moments
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.workers import run_blocks

BLOCK = products.BLOCK
"""Number of samples that the compiled loops take at a time, so that their features fit in a core's cache."""


def kernels() -> Any:
    """The compiled loops; None where numba does not work."""
    return load_compiled("bn_field_plugin.nn.batch_norm_kernels")


@torch.no_grad()
def moments(z: Float[Tensor, "n c"]) -> tuple[Float64[Tensor, " c"], Float64[Tensor, " c"]]:
    """Mean and biased variance of each feature: sums are in fp32 within a block of samples, in fp64 above."""
    n, c = z.shape
    means, squares = (z.new_empty(-(-n // BLOCK), c) for _ in range(2))
    _each_block(kernels().moments, n, z, per_block=(means, squares))
    return merged_moments(means, squares, n, BLOCK)


class Normalisation(NamedTuple):
    """Batch norm with known statistics, then ReLU if asked."""

    mean: Float[Tensor, " c"]
    scale: Float[Tensor, " c"]
    """Gamma divided by the standard deviation."""
    shift: Float[Tensor, " c"]
    inverse_std: Float64[Tensor, " c"]
    relu: bool

    @staticmethod
    def of(
        mean: Float64[Tensor, " c"],
        var: Float64[Tensor, " c"],
        gamma: Float[Tensor, " c"],
        beta: Float[Tensor, " c"],
        eps: float,
        relu: bool,
    ) -> Normalisation:
        """The normalisation by a batch's mean and biased variance."""
        inverse_std = torch.rsqrt(var + eps)
        return Normalisation(
            mean.float(), (gamma * inverse_std).float(), beta.detach().clone(), inverse_std, relu
        )

    def apply(self, z: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Normalised samples."""
        y = torch.empty_like(z)
        _each_block(kernels().normalize, len(z), z, *self[:3], self.relu, y)
        return y

    def gradients(
        self, grad: Float[Tensor, "n c"], z: Float[Tensor, "n c"], gamma: Float[Tensor, " c"]
    ) -> tuple[Float[Tensor, "n c"], Float64[Tensor, " c"], Float64[Tensor, " c"]]:
        """Gradients of samples, gamma and beta, through the statistics too, which are those of `z`.

        Args:
            grad: of the result of `apply`.
            z: the samples.
            gamma: scale after normalisation.
        """
        (n, c), loops = z.shape, kernels()
        totals, dots = (z.new_empty(-(-n // BLOCK), c) for _ in range(2))
        told = grad.contiguous(), z, *self[:3], self.relu
        _each_block(loops.sums, n, *told, per_block=(totals, dots))
        grad_beta, product = (part.sum(0, dtype=torch.float64) for part in (totals, dots))
        grad_gamma = product * self.inverse_std
        share = gamma * self.inverse_std / n
        through = share * self.inverse_std * grad_gamma, share * grad_beta
        grad_z = torch.empty_like(z)
        _each_block(loops.backward, n, *told, *(part.to(z.dtype) for part in through), grad_z)
        return grad_z, grad_gamma, grad_beta


def _each_block(
    kernel: Any, n: int, *given: Tensor | bool, per_block: tuple[Float[Tensor, "b c"], ...] = ()
) -> None:
    """Run a kernel over blocks of samples; each block is given its own row of each matrix in `per_block`."""
    known = [part.detach().numpy() if isinstance(part, Tensor) else part for part in given]
    rows = [part.numpy() for part in per_block]

    def work(first: int, last: int) -> None:
        kernel(*known, *(part[first // BLOCK] for part in rows), first, last)

    run_blocks(work, n, BLOCK)
