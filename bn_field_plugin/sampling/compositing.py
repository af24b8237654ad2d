"""Colours and opacities of rays from packed samples: emission and absorption (Max 1995; NeRF's eq. 3)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import products
from bn_field_plugin.nn.compiled import load_compiled
from bn_field_plugin.nn.double_backward import gradients_by_torch
from bn_field_plugin.nn.workers import run_blocks
from bn_field_plugin.sampling.packed import PackedSamples

BLOCK = 512
"""Rays that a thread takes at a time."""

OPAQUE = 0.5
"""The median depth of a ray is where this share of its light has been absorbed."""

OPAQUE_DEPTH = 1e3
"""An optical depth from which on no light gets through: exp(-1000) is zero in every dtype."""


class Composite(NamedTuple):
    """What rays see."""

    color: Float[Tensor, "r c"]
    """Sum of the samples' colours by their weights: without any background."""
    accumulation: Float[Tensor, " r"]
    """Sum of the weights, in [0, 1]."""
    weights: Float[Tensor, " n"]
    """Share of a ray's light that comes from each sample."""


def sample_weights(
    density: Float[Tensor, " n"], samples: PackedSamples
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Weights of samples, and how much light gets to each from its ray's origin, by torch; differentiable."""
    depth = density * samples.length
    dtype = depth.dtype
    # The cumulative sum runs over the samples of all rays. After a very opaque sample it would be so large
    # that the depths of later samples are lost in rounding; hence the bound.
    depth = depth.double().clamp_max(OPAQUE_DEPTH)
    total = torch.nn.functional.pad(depth.cumsum(0), (1, 0))
    light = torch.exp(-(total[:-1] - total[samples.first[:-1]][samples.ray])).to(dtype)
    return light * -torch.expm1(-depth).to(dtype), light


@torch.no_grad()
def light_along(
    density: Float[Tensor, " n"], samples: PackedSamples, light: Float[Tensor, " r"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " r"]]:
    """How much light gets to each sample, and how much is left of it behind the last sample of each ray.

    Args:
        density: of each sample.
        samples: where they lie.
        light: how much light gets to the first sample of each ray.
    """
    kernels = _kernels(density, light)
    if kernels is None:
        return light_along_by_torch(density, samples, light)
    here, behind = torch.empty_like(density), torch.empty_like(light)
    told = density.contiguous(), samples.length, samples.first
    _each_block(kernels.light, len(light), *told, light.contiguous(), here, behind)
    return here, behind


def light_along_by_torch(
    density: Float[Tensor, " n"], samples: PackedSamples, light: Float[Tensor, " r"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " r"]]:
    """The route for any device, and the oracle of the compiled one."""
    weights, here = sample_weights(density, samples)
    lost = torch.zeros_like(light).index_add_(0, samples.ray, weights)
    return here * light[samples.ray], light * (1 - lost)


def composite(density: Float[Tensor, " n"], color: Float[Tensor, "n c"], samples: PackedSamples) -> Composite:
    """Colour and opacity of rays; differentiable in densities and colours.

    Args:
        density: of each sample, at least 0, in 1 / unit of length.
        color: of each sample.
        samples: where they lie.
    """
    kernels = _kernels(density, color)
    if kernels is None:
        return composite_by_torch(density, color, samples)
    return Composite(*_Compiled.apply(density.contiguous(), color.contiguous(), samples))


def composite_by_torch(
    density: Float[Tensor, " n"], color: Float[Tensor, "n c"], samples: PackedSamples
) -> Composite:
    """The route for any device, and the oracle of the compiled one."""
    weights, _ = sample_weights(density, samples)
    rays = samples.first.shape[0] - 1
    parts = weights[:, None] * color
    sums = parts.new_zeros(rays, color.shape[1]).index_add(0, samples.ray, parts)
    accumulation = weights.new_zeros(rays).index_add(0, samples.ray, weights)
    return Composite(sums, accumulation, weights)


def median_depth(weights: Float[Tensor, " n"], samples: PackedSamples) -> Float[Tensor, " r"]:
    """Distance at which half of each ray's light has been absorbed; infinite where less than half is."""
    total = torch.nn.functional.pad(weights.double().cumsum(0), (1, 0))
    opacity = total[1:] - total[samples.first[:-1]][samples.ray]
    middle = torch.where(opacity >= OPAQUE, samples.middle, torch.inf)
    rays = samples.first.shape[0] - 1
    return middle.new_full((rays,), torch.inf).scatter_reduce(0, samples.ray, middle, "amin")


class _Compiled(torch.autograd.Function):
    """Compositing by compiled loops, which take one ray after the other."""

    @staticmethod
    def forward(
        ctx: Any, density: Tensor, color: Tensor, samples: PackedSamples
    ) -> tuple[Tensor, Tensor, Tensor]:
        rays = samples.first.shape[0] - 1
        sums, accumulation = color.new_empty(rays, color.shape[1]), color.new_empty(rays)
        weights = torch.empty_like(density)
        kernels = _kernels(density, color)
        told = density, color, samples.length, samples.first
        _each_block(kernels.forward, rays, *told, sums, accumulation, weights)
        ctx.save_for_backward(density, color)
        ctx.samples = samples
        return sums, accumulation, weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        density, color = ctx.saved_tensors
        samples: PackedSamples = ctx.samples
        if torch.is_grad_enabled():
            everything = composite_by_torch(density, color, samples)
            # The weights do not depend on the colours, so they may need no gradient when the colours do.
            found = gradients_by_torch(everything, grads, (density, color), ctx.needs_input_grad[:2])
            return *found, None
        grad_density, grad_color = torch.empty_like(density), torch.empty_like(color)
        rays = samples.first.shape[0] - 1
        given = [grad.contiguous() for grad in grads]
        kernels = _kernels(density, color)
        told = density, color, samples.length, samples.first
        _each_block(kernels.backward, rays, *told, *given, grad_density, grad_color)
        return grad_density, grad_color, None


def _each_block(kernel: Any, rays: int, *tensors: Tensor) -> None:
    """Run a kernel block by block of rays."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    run_blocks(partial(kernel, *arrays), rays, BLOCK)


def _kernels(*tensors: Tensor) -> Any:
    """The compiled loops; None where torch has to do it: not on a CPU, not in fp32, or while torch traces."""
    if any(x.device.type != "cpu" or x.dtype != torch.float32 for x in tensors) or products.is_traced():
        return None
    return load_compiled("bn_field_plugin.sampling.compositing_kernels")
