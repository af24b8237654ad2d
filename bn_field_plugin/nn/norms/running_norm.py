"""Norms with statistics of the batch, which keep running ones for evaluation."""

from __future__ import annotations

import enum

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.batch_moments import BatchMoments
from bn_field_plugin.nn.norms.norm import Norm
from bn_field_plugin.nn.norms.update_bn import UpdateBnSign
from bn_field_plugin.nn.precision import without_autocast


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
    """Ends a forward pass as soon as the layer being calibrated has seen its input.

    Args:
        is_finite: whether all of the input's moments are finite.
    """

    def __init__(self, is_finite: bool) -> None:
        super().__init__()
        self.is_finite = is_finite


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


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
        self._register_statistics(device, dtype)
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

    def _register_statistics(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Make the buffers of the running statistics, which no batch has changed yet."""
        size = self._num_statistics()
        self.register_buffer("running_mean", torch.zeros(size, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(size, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device))

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

    def _normalize_with_batch(
        self, x: Float[Tensor, "n c"], group: dist.ProcessGroup | None
    ) -> tuple[Float[Tensor, "n c"], BatchMoments]:
        """Samples normalised with their own moments, and these moments."""
        moments = self._moments(x, group)
        return self._normalize(x, *moments), moments

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
            return x * self.weight + self.bias  # so that gradients exist, and are zero as in torch
        flat = x.reshape(-1, x.shape[-1])
        with without_autocast(x.device):
            wide = _wide(flat)
            if self.mode is StatisticsMode.COLLECT and not self._is_calibrated:
                self._collect(wide)
            if not self.normalizes_with_batch:
                running = _wide(self.running_mean), _wide(self.running_var)
                y = self._normalize(wide, *running, self._running_count())
            elif self._held is not None:
                y = self._normalize(wide, *self._held)
            else:
                self._check_batch(flat.shape[0], self.group)
                y, moments = self._normalize_with_batch(wide, self.group)
                self.learn(moments)
                if self.holds_statistics:
                    self._held = moments
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
        batches = self.num_batches_tracked.clamp_min(1).to(count.dtype)  # torch gives 1 / integer in fp32
        step = 1.0 / batches if self.momentum is None or sign.is_updating else self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.copy_(torch.where(sound, running + step * (new - running), running))
        self._update_count(sound, count)

    def _collect(self, x: Float[Tensor, "n c"]) -> None:
        if self._collected is None:
            self._collected = _ExactMoments()
        moments = self._moments(x.double(), None)
        self._collected.add(moments)
        raise StatisticsCollectedError(bool(moments.mean.isfinite().all() & moments.var.isfinite().all()))

    def _finish_collecting(self) -> bool | None:
        """Take the collected moments as running statistics.

        Returns:
            Whether they were taken, as only finite ones of at least one sample are; None where the norm was
            not reached.
        """
        if self._collected is None:
            return None
        mean, var, count = self._collected.result()
        self._collected = None
        self._is_calibrated = True
        is_sound = bool(mean.isfinite().all() and var.isfinite().all() and count > 0)
        if is_sound:
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)  # biased: what a training pass over the same samples divides by
            self._update_count(torch.ones_like(self.num_batches_tracked, dtype=torch.bool), count)
        return is_sound

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
        return self.affine_of(self.running_mean, self.running_var)

    def affine_of(self, mean: Tensor, var: Tensor) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """Scale and shift that the norm amounts to with given statistics."""
        # Gradients need nothing but new tensors: a training pass may change the running statistics before a
        # backward pass through these.
        inverse_std = torch.rsqrt(var + self.eps)
        scale = self.weight * inverse_std
        return scale.expand(self.num_features), self.bias - self.weight * (mean * inverse_std)
