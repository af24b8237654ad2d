"""A linear layer followed by batch normalisation, as one differentiable function.

Four routes to one result:

- `plain` forms the product and takes its statistics, in torch operations: the oracle, and what
  torch.compile fuses.
- `moments` takes mean and covariance of the layer's *input*, derives the statistics of the product from
  them, and normalises the weights before multiplying: no pass over the product, nothing kept but input and
  output, and only d + d^2 numbers to join across processes.
- `compiled` is our own loops after the product, by numba on a CPU, with ReLU in the same pass.
- `native` is torch's batch-norm kernels after the product, with ReLU in place: where numba does not work.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd import forward_ad

from bn_field_plugin.nn import compiled_batch_norm, products
from bn_field_plugin.nn.batch_moments import BatchMoments, all_reduce_sum, batch_moments
from bn_field_plugin.nn.double_backward import gradients_by_torch
from bn_field_plugin.nn.precision import is_autocast, without_autocast

Route = Literal["plain", "moments", "compiled", "native"]

MANY_SAMPLES = 65536
"""Processes that join their batches have to take the same route. So each of them chooses the route for this
number of samples, however many it holds."""

CANCELLATION_LIMIT = 1024
"""Largest factor by which a variance may magnify the rounding errors of the input's moments. In fp32 they
then stay below 1e-4 of the variance.
"""

NATIVE_LIMIT = 16
"""Largest |mean| / std of a feature for which the variances of torch's kernels are exact enough."""


def choose_route(
    n: int, d: int, c: int, device: torch.device, dtype: torch.dtype, joined: bool = False
) -> Route:
    """The fastest route for `n` samples from `d` to `c` features.

    Only `moments` and `plain` can join the batches of several processes.

    The route `moments` costs two more products of n d^2 operations each and about 60 small operations. The
    other routes cost two more passes over the n c numbers of the product. `python -m benchmarks.layer_routes`
    times all of them; its table is in benchmarks/results.

    The routes have not been measured on CUDA. There, `plain` is taken: it never makes the CPU wait for a
    result of the device, and torch.compile can fuse it.
    """
    if device.type != "cpu" or dtype not in (torch.float32, torch.float64):
        return "plain"
    is_large = n * c >= 2**18
    if is_large and (4 * d <= c or (joined and d * d <= 64 * c)):
        return "moments"
    if joined:
        return "plain"
    # `kernels` loads numba the first time, which takes too long for a small batch.
    if is_large and dtype == torch.float32 and compiled_batch_norm.kernels() is not None:
        return "compiled"
    # Torch's kernels are slow where the features do not fill the processor's vectors.
    return "moments" if is_large and c % 16 and d * d <= 64 * c else "native"


def batch_norm_linear(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
    group: dist.ProcessGroup | None = None,
    relu: bool = False,
    route: Literal["auto"] | Route = "auto",
) -> tuple[Float[Tensor, "n c"], BatchMoments]:
    """`gamma * (z - mean(z)) / sqrt(var(z) + eps) + beta` for `z = x @ weight.T`, then ReLU if asked.

    Statistics are those of this batch, in fp32 or better; the layer has no bias, since the mean takes it
    away. Differentiable in `x`, `weight`, `gamma` and `beta`, any number of times: gradients that are to be
    differentiated again are taken by the plain route. Without samples the result is empty, the moments zero.

    Args:
        x: samples, features last.
        weight: the layer's matrix.
        gamma: scale after normalisation.
        beta: shift after normalisation.
        eps: added to the variance.
        group: processes over which the batch is joined; None for this one alone. All must call with the same
            `d`, `c` and route; their numbers of samples may differ, and may be zero.
        relu: apply ReLU to the result.
        route: "auto" takes the fastest that serves: `plain` under autocast, in half precision, under
            torch.compile and in forward-mode or functional differentiation. A named route is taken where it
            can be; `moments` hands over where the variance would lose too many digits (see
            `CANCELLATION_LIMIT`), `compiled` and `native` where there is a group or a single sample, and
            `compiled` to `native` where numba does not work. It needs fp32, the others fp32 or fp64.

    Returns:
        The normalised product, in the dtype of the product, and the detached moments of `z`.
    """
    if route == "auto":
        route = _fastest_route(x, weight, gamma, beta, group)
    if route == "plain":
        return plain_batch_norm_linear(x, weight, gamma, beta, eps, group, relu)
    with without_autocast(x.device):
        if route == "moments":
            moments = _product_moments(x.detach(), weight.detach(), eps, group)
            if moments is not None:
                y = _MomentsRoute.apply(x, weight, gamma, beta, eps, group, relu, moments)
                return y, BatchMoments(*(m.to(x.dtype) for m in (moments.mean, moments.var, moments.samples)))
        if group is None and x.shape[0] > 1:
            if route == "compiled" and x.dtype == torch.float32 and compiled_batch_norm.kernels() is not None:
                return _compiled(x, weight, gamma, beta, eps, relu)
            result = _native(x, weight, gamma, beta, eps, relu)
            if result is not None:
                return result
        return plain_batch_norm_linear(x, weight, gamma, beta, eps, group, relu)


def _fastest_route(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, group: dist.ProcessGroup | None
) -> Route:
    inputs = (x, weight, gamma, beta)
    if (
        any(t.dtype != x.dtype for t in inputs)
        or is_autocast(x.device)
        or products.is_traced()
        or any(forward_ad.unpack_dual(t).tangent is not None for t in inputs)
    ):
        return "plain"
    if group is None and x.shape[0] < 2:
        return "plain"
    # Processes that join may hold any number of samples, but have to take the same route.
    n = x.shape[0] if group is None else MANY_SAMPLES
    return choose_route(n, x.shape[1], weight.shape[0], x.device, x.dtype, group is not None)


def plain_batch_norm_linear(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
    group: dist.ProcessGroup | None,
    relu: bool,
) -> tuple[Float[Tensor, "n c"], BatchMoments]:
    """The `plain` route: torch operations, on any device and in any dtype (see `batch_norm_linear`)."""
    z = F.linear(x, weight)
    wide = z if z.dtype == torch.float64 else z.float()
    with without_autocast(z.device):
        moments = batch_moments(wide, group)
        scale = gamma * torch.rsqrt(moments.var + eps)
        y = (wide - moments.mean) * scale + beta
    y = y.to(z.dtype)
    if relu:
        y = F.relu(y)
    return y, BatchMoments(moments.mean.detach(), moments.var.detach(), moments.count)


def _plain_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the saved `x, weight, gamma, beta`, which can themselves be differentiated."""
    x, weight, gamma, beta, *_ = ctx.saved_tensors
    y, _ = plain_batch_norm_linear(x, weight, gamma, beta, ctx.eps, ctx.group, ctx.relu)
    return gradients_by_torch([y], [grad], (x, weight, gamma, beta), ctx.needs_input_grad[:4])


def _native(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
    relu: bool,
) -> tuple[Float[Tensor, "n c"], BatchMoments] | None:
    """The layer by torch's kernels; None where they would lose too many digits of the mean."""
    n = x.shape[0]
    # torch.native_batch_norm updates running statistics: with a momentum of 1 they become those of the batch.
    mean, var = torch.zeros_like(beta), torch.zeros_like(beta)
    y, _, inverse_std = torch.native_batch_norm(
        F.linear(x, weight), gamma, beta, mean, var, training=True, momentum=1.0, eps=eps
    )
    with torch.no_grad():
        # Torch's kernels add up the samples one by one in the samples' own dtype, and so lose digits when the
        # mean is far from zero.
        if bool((mean.abs() * inverse_std > NATIVE_LIMIT).any()):
            return None
        var = var * ((n - 1) / n)
    # ReLU may overwrite the result, because torch's batch norm keeps only its input for the backward pass.
    return y.relu_() if relu else y, BatchMoments(mean, var, mean.new_tensor(float(n)))


def _compiled(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    gamma: Float[Tensor, " c"],
    beta: Float[Tensor, " c"],
    eps: float,
    relu: bool,
) -> tuple[Float[Tensor, "n c"], BatchMoments]:
    """The layer by our own compiled loops: sums are in fp32 within a block of samples, in fp64 above."""
    with torch.no_grad():
        z = F.linear(x, weight)
        mean, var = compiled_batch_norm.moments(z)
    y = _CompiledRoute.apply(x, weight, gamma, beta, eps, relu, z, mean, var)
    return y, BatchMoments(mean.to(z.dtype), var.to(z.dtype), z.new_tensor(float(len(z))))


class _CompiledRoute(torch.autograd.Function):
    """Batch norm and ReLU, by compiled loops, of a product `z` that the caller has formed.

    The product comes without gradients, so the backward pass goes through batch norm and product at once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        relu: bool,
        z: Tensor,
        mean: Tensor,
        var: Tensor,
    ) -> Tensor:
        norm = compiled_batch_norm.Normalisation.of(mean, var, gamma, beta, eps, relu)
        ctx.save_for_backward(x, weight, gamma, beta, z)
        ctx.norm, ctx.eps, ctx.group, ctx.relu = norm, eps, None, relu
        return norm.apply(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rest = (None,) * 5
        if torch.is_grad_enabled():
            return *_plain_gradients(ctx, grad), *rest
        x, weight, gamma, _, z = ctx.saved_tensors
        grad_z, grad_gamma, grad_shift = ctx.norm.gradients(grad, z, gamma)
        with torch.autocast("cpu", enabled=False):
            grad_x = grad_z @ weight if ctx.needs_input_grad[0] else None
            grad_weight = products.sum_of_outer_products(grad_z, x).to(x.dtype)
        return grad_x, grad_weight, grad_gamma.to(x.dtype), grad_shift.to(x.dtype), *rest


class _ProductMoments(NamedTuple):
    """What the moments route knows before it forms the product, in fp64."""

    input_mean: Float64[Tensor, " d"]
    """Mean of each feature of the input."""
    weight: Float64[Tensor, "c d"]
    """The layer's matrix."""
    scatter: Float64[Tensor, "c d"]
    """Covariance of product and input, times the number of samples."""
    mean: Float64[Tensor, " c"]
    """Mean of each feature of the product."""
    var: Float64[Tensor, " c"]
    """Biased variance of each feature of the product."""
    samples: Float64[Tensor, ""]
    """Number of samples, over all processes."""


@torch.no_grad()
def _product_moments(
    x: Float[Tensor, "n d"], weight: Float[Tensor, "c d"], eps: float, group: dist.ProcessGroup | None
) -> _ProductMoments | None:
    """Moments of `x @ weight.T` from those of `x`; None where the variances would lose too many digits.

    Let r_i be the root mean square of the input's feature i, and u the relative rounding error of a sum. The
    mean of x_i x_j is at most r_i r_j, and its rounding error at most u r_i r_j. The error of a product's
    variance is then at most u (|w| . r)^2 <= u d (w^2 . r^2). If the mean of the input is far from zero, or
    the input hardly varies in the direction of w, the variance (plus eps) may be smaller than this error:
    then the moments cannot be used.
    """
    d = x.shape[1]
    gram = products.sum_of_outer_products(x, x)
    total = products.sum_of_rows(x)
    samples = total.new_tensor(float(x.shape[0]))
    if group is not None:
        joined = torch.cat([gram.flatten(), total, samples[None]])
        dist.all_reduce(joined, group=group)
        gram, total, samples = joined[: d * d].view(d, d), joined[d * d : -1], joined[-1]
    input_mean = total / samples  # NaN where there are no samples, which the check below refuses
    wide = weight.double()
    scatter = wide @ torch.addr(gram, input_mean, total, alpha=-1)
    var = (scatter * wide).sum(1) / samples
    limit = CANCELLATION_LIMIT * torch.finfo(x.dtype).eps * d
    is_exact = (var + eps >= wide.square() @ (gram.diagonal() * (limit / samples))).all()
    # All processes should come to the same answer, but if a single one did not, it would wait for the others
    # for ever.
    if group is not None:
        votes = is_exact.to(torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MIN, group=group)
        is_exact = votes > 0
    if not is_exact:
        return None
    return _ProductMoments(input_mean, wide, scatter, wide @ input_mean, var.clamp_min_(0), samples)


class _MomentsRoute(torch.autograd.Function):
    """`x @ (scale * weight).T + shift`, where scale and shift follow from the moments of the product."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        group: dist.ProcessGroup | None,
        relu: bool,
        moments: _ProductMoments,
    ) -> Tensor:
        inverse_std = torch.rsqrt(moments.var + eps)
        scale = gamma * inverse_std
        shift = torch.addcmul(beta, scale, moments.mean, value=-1)
        scaled_weight = (scale[:, None] * moments.weight).to(x.dtype)
        y = products.linear(x, scaled_weight, shift.to(x.dtype), relu)
        ctx.save_for_backward(x, weight, gamma, beta, y, inverse_std, scale, scaled_weight)
        ctx.eps, ctx.group, ctx.relu, ctx.moments = eps, group, relu, moments
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rest = (None, None, None, None)
        if torch.is_grad_enabled():
            return *_plain_gradients(ctx, grad), *rest
        x, _, _, _, y, inverse_std, scale, scaled_weight = ctx.saved_tensors
        moments: _ProductMoments = ctx.moments
        with without_autocast(x.device):
            if ctx.relu:
                grad = torch.ops.aten.threshold_backward(grad, y, 0)
            grad_shift = products.sum_of_rows(grad)
            # The gradient of scale * weight, through shift = beta - scale * weight @ input_mean too.
            outer = products.sum_of_outer_products(grad, x)
            grad_scaled = torch.addr(outer, grad_shift, moments.input_mean, alpha=-1)
            grad_gamma = (grad_scaled * moments.weight).sum(1) * inverse_std
            # The gradient of the variance times 2 / samples, which a mean of squares brings; with the -1/2 of
            # the derivative of (var + eps)^(-1/2), the factor is -1 / samples.
            grad_var = grad_gamma * scale * inverse_std / -moments.samples
            grad_weight = torch.addcmul(grad_var[:, None] * moments.scatter, scale[:, None], grad_scaled)
            grad_x = None
            if ctx.needs_input_grad[0]:
                all_shift = grad_shift
                # The moments depend on the samples of all processes, so their gradients are summed over all.
                if ctx.group is not None:
                    grad_var, all_shift = all_reduce_sum(torch.stack([grad_var, grad_shift]), ctx.group)
                through_var = (moments.weight.T * grad_var) @ moments.weight
                grad_mean = -(grad_var * moments.mean + all_shift * scale / moments.samples) @ moments.weight
                grad_x = products.linear(x, through_var.to(x.dtype), grad_mean.to(x.dtype))
                grad_x.addmm_(grad, scaled_weight)
        return grad_x, grad_weight.to(x.dtype), grad_gamma.to(x.dtype), grad_shift.to(x.dtype), *rest
