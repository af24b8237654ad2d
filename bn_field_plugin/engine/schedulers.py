"""Learning rate schedules for nerfstudio: a warmup, then a cosine or an exponential decay.

nerfstudio's schedules put numpy scalars into the checkpoint, which `torch.load` refuses. The schedules here
consist of plain numbers, scale with the length of the run, and go on from a checkpoint as if the run had not
been stopped: the whole schedule is saved with its state, so a resumed run keeps the old one
(`--load-scheduler False` begins anew).
"""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import math
from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.schedule import cosine_decay, warmup


class WarmupThenDecay:
    """Factor of the learning rate as a function of the step; its attributes go into the checkpoint.

    The warmup is linear. The factor is 1 at its end, `final_fraction` at `max_steps`, and stays there.
    """

    def __init__(self, warmup_steps: int, max_steps: int, final_fraction: float) -> None:
        """Set up the schedule.

        Args:
            warmup_steps: steps until the factor is 1, at least 0.
            max_steps: steps until the factor is `final_fraction`, more than `warmup_steps`.
            final_fraction: the last factor, in (0, 1].

        Raises:
            UserError: a number out of its range.
        """
        if not 0 <= warmup_steps < max_steps:
            raise UserError(
                f"the schedule's warmup_steps ({warmup_steps}) must be less than its max_steps "
                f"({max_steps}): change either in the optimizer's scheduler, or raise --max-num-iterations"
            )
        if not 0 < final_fraction <= 1:
            raise UserError(f"the schedule's final_fraction is {final_fraction}: choose it in (0, 1]")
        self.warmup_steps = int(warmup_steps)
        self.max_steps = int(max_steps)
        self.final_fraction = float(final_fraction)

    def __call__(self, step: int) -> float:
        """Factor of the learning rate at a step, in (0, 1]."""
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps)
        progress = (step - self.warmup_steps) / (self.max_steps - self.warmup_steps)
        return self.decay(min(progress, 1.0))

    def decay(self, progress: float) -> float:
        """Factor after the warmup, from 1 at progress 0 to `final_fraction` at progress 1."""
        raise NotImplementedError


class CosineDecay(WarmupThenDecay):
    """Half a cosine wave."""

    def decay(self, progress: float) -> float:
        """Factor after the warmup."""
        return cosine_decay(progress, self.final_fraction)


class ExponentialDecay(WarmupThenDecay):
    """Decreases the learning rate by a constant factor at every step, as NeRF does."""

    def decay(self, progress: float) -> float:
        """Factor after the warmup."""
        return math.pow(self.final_fraction, progress)


@dataclass
class CosineDecayConfig(SchedulerConfig):
    """Linear warmup, then half a cosine wave down to a fraction of the learning rate."""

    _target: type = field(default_factory=lambda: DecayScheduler)
    """target class to instantiate"""
    warmup_steps: int = 0
    """Steps of the linear warmup."""
    final_fraction: float = 0.02
    """Last learning rate, as a fraction of the optimizer's."""
    max_steps: int | None = None
    """Step at which the last learning rate is reached; None for the last step, --max-num-iterations."""

    def curve(self, max_steps: int) -> WarmupThenDecay:
        """Factor of the learning rate by step."""
        return CosineDecay(self.warmup_steps, max_steps, self.final_fraction)


@dataclass
class ExponentialDecayConfig(CosineDecayConfig):
    """Linear warmup, then an exponential decay down to a fraction of the learning rate."""

    def curve(self, max_steps: int) -> WarmupThenDecay:
        """Factor of the learning rate by step."""
        return ExponentialDecay(self.warmup_steps, max_steps, self.final_fraction)


class DecayScheduler(Scheduler):
    """Makes torch's scheduler from a config."""

    config: CosineDecayConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """The scheduler of an optimizer.

        Args:
            optimizer: holds the initial learning rate.
            lr_init: the initial learning rate, which nerfstudio passes; unused.

        Returns:
            The scheduler, whose state consists of plain numbers.

        Raises:
            UserError: `max_steps` is neither given nor filled in by the trainer, or a number is out of range.
        """
        if self.config.max_steps is None:
            raise UserError("the schedule's max_steps is None: give a number, or train with BNTrainer")
        return LambdaLR(optimizer, self.config.curve(self.config.max_steps))
