"""Norms of a coordinate network: batch, layer, global and cross.

Batch norm is Ioffe & Szegedy's; global and cross norm are those of the follow-up to Cai et al.
(arXiv 2407.17834). Features are last; all leading dimensions are samples and are flattened before
normalising.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.batch_linear import BatchMoments, batch_moments, batch_norm_linear
from bn_field_plugin.nn.precision import without_autocast
from bn_field_plugin.nn.scripting import recorded

NormName = Literal["none", "batch", "layer", "global", "cross"]


class StatisticsMode(enum.Enum):
    """Which statistics a norm normalises with, and whether it learns from the batch."""

    AUTO = "auto"
    """Training passes with gradients: the batch's, which update the running ones. All others: running."""
    FROZEN = "frozen"
    """The running statistics; nothing changes."""
    BATCH = "batch"
    """The batch's own; nothing changes."""
    COLLECT = "collect"
    """Add the batch to the exact moments being collected, and stop the forward pass (see `calibrate`)."""


class StatisticsCollectedError(Exception):
    """Ends a forward pass as soon as the layer being calibrated has seen its input."""


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class Norm(nn.Module):
    """Base: a learned scale and shift of each feature after some normalisation.

    Args:
        num_features: number of features C.
        eps: added to the variance, above 0.
        device: where the parameters are; torch's default if None.
        dtype: of the parameters; torch's default if None.

    Raises:
        UserError: an eps that is not above 0.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise UserError(f"norm_eps is {eps}: it must be above 0, or constant features divide by 0")
        self.num_features = num_features
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))

    def __prepare_scriptable__(self) -> nn.Module:
        return recorded(self, self.num_features)

    def extra_repr(self) -> str:
        """Show the size and eps."""
        return f"{self.num_features}, eps={self.eps}"


def _is_transformed() -> bool:
    """Whether a transform of `torch.func` or forward mode is at work, beyond what torch.compile traces."""
    if torch.compiler.is_compiling():
        return False
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


class LayerNorm(Norm):
    """Normalises each sample over its features; no statistics are kept.

    Under `torch.func` and forward mode it is made of plain operations: torch 2.14's own layer norm has wrong
    second derivatives there.
    """

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        """Normalise each sample."""
        if _is_transformed():
            var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
            return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias
        return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.eps)


class UpdateBnSign(_BatchNorm):
    """A batch norm that a norm of ours has in it for torch's `update_bn` to find, and that is never called.

    `update_bn` resets each of torch's batch norms and takes its momentum away for a pass over the data,
    without gradients. Ours are told by what it does to this one. They are none of torch's themselves:
    other tools would put torch's in their place (`convert_sync_batchnorm`) or take their statistics away.
    """

    def __init__(self) -> None:
        super().__init__(1, affine=False, track_running_stats=False)
        self.is_reset = False

    def reset_running_stats(self) -> None:
        """Note that statistics are to begin anew."""
        self.is_reset = True

    @property
    def is_updating(self) -> bool:
        """Whether `update_bn` is at work."""
        return self.momentum is None


class RunningNorm(Norm):
    """Base of the norms that normalise with statistics of the batch and keep running ones.

    A non-finite batch never enters the running statistics. With `torch.distributed` initialised, the
    batch of a module in training mode is the joined batch of all processes; in evaluation mode each process
    is on its own, since one may evaluate while the others do not.

    Args:
        num_features: number of features C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics, in [0, 1]; None for a cumulative
            average.
        synchronize: join the batches of all processes.
        device: where parameters and statistics are.
        dtype: of both.

    Raises:
        UserError: an eps or a momentum out of its range.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        synchronize: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, device, dtype)
        if momentum is not None and not 0 <= momentum <= 1:
            raise UserError(f"momentum is {momentum}: choose it from 0 to 1, or None for the mean of all")
        self.momentum = momentum
        self.synchronize = synchronize
        self.mode = StatisticsMode.AUTO
        size = self._num_statistics()
        self.register_buffer("running_mean", torch.zeros(size, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(size, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device))
        self._collected: _ExactMoments | None = None
        self._is_calibrated = False
        self.holds_statistics = False  # see `held_statistics`
        self._held: BatchMoments | None = None
        self.update_bn_sign = UpdateBnSign()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def reset_running_stats(self) -> None:
        """Begin the running statistics anew."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def _num_statistics(self) -> int:
        """Number of means and of variances that are kept."""
        return self.num_features

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        """Moments of a batch, as the running statistics keep them."""
        raise NotImplementedError

    def _normalize(
        self, x: Float[Tensor, "n c"], mean: Tensor, var: Tensor, count: Tensor
    ) -> Float[Tensor, "n c"]:
        """Normalise with given statistics of `count` samples, then scale and shift."""
        return (x - mean) * (self.weight * torch.rsqrt(var + self.eps)) + self.bias

    @property
    def group(self) -> dist.ProcessGroup | None:
        """Processes over which the batch is joined, or None."""
        if not (self.synchronize and self.training and dist.is_available() and dist.is_initialized()):
            return None
        return dist.group.WORLD if dist.get_world_size() > 1 else None

    @property
    def normalizes_with_batch(self) -> bool:
        """Whether the next forward pass uses the batch's own statistics."""
        if self.mode is StatisticsMode.AUTO:
            return self.training and (torch.is_grad_enabled() or self.update_bn_sign.is_updating)
        return self.mode is StatisticsMode.BATCH

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        """Normalise `x` with the statistics that the mode asks for.

        Raises:
            UserError: a training batch of one sample.
        """
        if x.numel() == 0 and self.group is None:
            return x * self.weight + self.bias  # of no rows: all gradients are zero, as in torch
        flat = x.reshape(-1, x.shape[-1])
        with without_autocast(x.device):
            wide = _wide(flat)
            if self.mode is StatisticsMode.COLLECT and not self._is_calibrated:
                self._collect(wide)
            if self.normalizes_with_batch:
                moments = self._held
                if moments is None:
                    self._check_batch(flat.shape[0], self.group)
                    moments = self._moments(wide, self.group)
                    self.learn(moments)
                if self.holds_statistics:
                    self._held = moments
                y = self._normalize(wide, *moments)
            else:
                running = _wide(self.running_mean), _wide(self.running_var)
                y = self._normalize(wide, *running, self._running_count())
        return y.to(x.dtype).reshape(x.shape)

    def _running_count(self) -> Tensor:
        """Number of samples that the running statistics stand for, where the norm needs it."""
        return self.num_batches_tracked

    def _check_batch(self, n: int, group: dist.ProcessGroup | None) -> None:
        if n == 1 and group is None:
            raise UserError(
                "a batch of one sample has no variance, so batch statistics cannot normalise it: "
                "raise the number of rays, samples or points per step to 2 or more, "
                "or use norm 'none' or 'layer'"
            )

    @torch.no_grad()
    def learn(self, moments: BatchMoments) -> None:
        """Move the running statistics towards a batch's, unless frozen or the batch is not finite."""
        if self.mode is not StatisticsMode.AUTO:
            return
        sign = self.update_bn_sign
        if sign.is_updating and sign.is_reset:
            self.reset_running_stats()
            sign.is_reset = False
        mean, var, count = (m.detach() for m in moments)
        var = var * (count / (count - 1).clamp_min(1))
        mean, var = mean.to(self.running_mean.dtype), var.to(self.running_var.dtype)
        sound = mean.isfinite().all() & var.isfinite().all() & (count > 0)
        self.num_batches_tracked += sound.to(self.num_batches_tracked.dtype)
        batches = self.num_batches_tracked.clamp_min(1).to(count.dtype)  # 1 / integer would be fp32
        step = 1.0 / batches if self.momentum is None or sign.is_updating else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.copy_(torch.where(sound, running + step * (new - running), running))
        self._update_count(sound, count)

    def _collect(self, x: Float[Tensor, "n c"]) -> None:
        if self._collected is None:
            self._collected = _ExactMoments()
        self._collected.add(self._moments(x.double(), None))
        raise StatisticsCollectedError

    def _finish_collecting(self) -> bool:
        """Take the collected moments as running statistics; False where nothing was collected."""
        if self._collected is None:
            return False
        mean, var, count = self._collected.result()
        self._collected = None
        self._is_calibrated = True
        if mean.isfinite().all() and var.isfinite().all() and count > 0:
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)  # biased: what a training pass over the same samples divides by
            self._update_count(torch.ones_like(self.num_batches_tracked, dtype=torch.bool), count)
        return True

    def _update_count(self, sound: Tensor, count: Tensor | float) -> None:
        """Keep the number of samples of a sound batch, where the norm needs it at evaluation."""


class _ExactMoments:
    """Moments of many batches, merged in fp64 (Chan et al. 1983), independent of how they are split."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean: Tensor | float = 0.0
        self.sum_of_squares: Tensor | float = 0.0

    def add(self, moments: BatchMoments) -> None:
        n = float(moments.count)
        if n == 0:
            return
        total = self.count + n
        delta = moments.mean - self.mean
        self.mean = self.mean + delta * (n / total)
        self.sum_of_squares = (
            self.sum_of_squares + moments.var * n + delta.square() * (self.count * n / total)
        )
        self.count = total

    def result(self) -> tuple[Tensor, Tensor, float]:
        mean = torch.as_tensor(self.mean)
        var = torch.as_tensor(self.sum_of_squares) / max(self.count, 1.0)
        return mean, var, self.count


class AffineNorm(RunningNorm):
    """Base of the norms that are affine at evaluation, and so can be folded into a linear layer."""

    def affine(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Scale and shift that the norm amounts to with its running statistics."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale.expand(self.num_features), self.bias - self.running_mean * scale


class BatchNorm(AffineNorm):
    """Normalises each feature over the samples."""

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        return batch_moments(x, group)

    @property
    def is_fused(self) -> bool:
        """Whether the next forward pass may be one with its product (`linear`)."""
        return self.normalizes_with_batch and not self.holds_statistics

    def linear(
        self, x: Float[Tensor, "n d"], weight: Float[Tensor, "c d"], relu: bool
    ) -> Float[Tensor, "n c"]:
        """Normalised product `x @ weight.T` with the batch's statistics, by the faster route.

        Raises:
            UserError: a training batch of one sample.
        """
        group = self.group
        if x.shape[0] == 0 and group is None:
            return F.linear(x, weight) * self.weight + self.bias
        self._check_batch(x.shape[0], group)
        y, moments = batch_norm_linear(x, weight, self.weight, self.bias, self.eps, group, relu)
        self.learn(moments)
        return y


class GlobalNorm(AffineNorm):
    """Normalises with one mean and one variance, over samples and features together."""

    def _num_statistics(self) -> int:
        return 1

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        # One column of n*c samples: a sum over all entries, joined over processes like any other.
        return batch_moments(x.reshape(-1, 1), group)


class CrossNorm(RunningNorm):
    """Normalises each entry over its cross: the entries of its row (sample) and column (feature).

    The published code computes the variance of the cross and then divides by another one; this is the
    definition itself, with both moments over the n + c - 1 entries of the cross.
    """

    running_count: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        synchronize: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, synchronize, device, dtype)
        # An integer, which module.half() leaves alone; 1 makes a fresh norm finite for any size.
        self.register_buffer("running_count", torch.tensor(1, dtype=torch.long, device=device))

    def reset_running_stats(self) -> None:
        """Begin the running statistics anew."""
        super().reset_running_stats()
        self.running_count.fill_(1)

    def _moments(self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None) -> BatchMoments:
        return batch_moments(x, group)

    def _running_count(self) -> Tensor:
        # A copy: a graph that holds it may be derived after a training pass has changed the count.
        return self.running_count.clone()

    def _update_count(self, sound: Tensor, count: Tensor | float) -> None:
        self.running_count.copy_(torch.where(sound, count, self.running_count))

    def _normalize(
        self, x: Float[Tensor, "n c"], mean: Tensor, var: Tensor, count: Tensor
    ) -> Float[Tensor, "n c"]:
        c = self.num_features
        row_var, row_mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        total = count + (c - 1)
        cross_mean = (count * mean + c * row_mean - x) / total
        # Sums of squares around the mean of the cross: its column's, its row's, less the entry in both.
        column = count * (var + (mean - cross_mean).square())
        row = c * (row_var + (row_mean - cross_mean).square())
        cross_var = ((column + row - (x - cross_mean).square()) / total).clamp_min(0)
        return (x - cross_mean) * torch.rsqrt(cross_var + self.eps) * self.weight + self.bias


NORMS: Mapping[str, type[Norm] | None] = {
    "none": None,
    "batch": BatchNorm,
    "layer": LayerNorm,
    "global": GlobalNorm,
    "cross": CrossNorm,
}
"""The norm of each name; None for no norm."""


def build_norm(
    name: str, num_features: int, *, eps: float = 1e-5, momentum: float | None = 0.1, synchronize: bool = True
) -> Norm | None:
    """Make a norm by name.

    Raises:
        UserError: an unknown name.
    """
    if name not in NORMS:
        raise UserError(f"norm is {name!r}: choose one of {', '.join(NORMS)}")
    kind = NORMS[name]
    if kind is None:
        return None
    if issubclass(kind, RunningNorm):
        return kind(num_features, eps, momentum, synchronize)
    return kind(num_features, eps)


__all__ = [
    "NORMS",
    "AffineNorm",
    "BatchNorm",
    "CrossNorm",
    "GlobalNorm",
    "LayerNorm",
    "Norm",
    "NormName",
    "RunningNorm",
    "StatisticsCollectedError",
    "StatisticsMode",
    "build_norm",
]
