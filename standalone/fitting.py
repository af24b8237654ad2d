"""The fitting loop of all tasks: a coordinate network, batches, a loss and a budget.

A fit that was stopped, by Ctrl-C or by force, can go on from its last checkpoint. With a budget in steps, on
the same machine and with as many threads, it then ends with exactly the network of a fit that was not
stopped.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.errors import UserError, tell
from bn_field_plugin.nn import CoordinateMLP, calibrate, fold_norm
from standalone.checkpoints import load_checkpoint, save_checkpoint
from standalone.interrupts import FitInterrupted, Interrupts, deferred_interrupts
from standalone.optimization import RATES_AT, OptimizationConfig, ScheduledOptimizers
from standalone.progress import FitProgress
from standalone.sampling import Sampler
from standalone.time_limit import TimeLimit

Loss = Callable[[Float[Tensor, "n o"], Float[Tensor, "n o"]], Float[Tensor, ""]]
"""Function that gives a scalar loss from outputs and targets."""

STEPS_BETWEEN_READS = 20
"""Steps between two reads of the loss from a GPU, which make it wait; on a CPU the loss is read at each
step."""

UNKNOWN_SHARE = 0.02
"""Share of a time up to which nothing is concluded from it about the number of steps."""

CALLBACKS_SHARE = 0.05
"""Share of the time so far that callbacks during the fit may take, where a whole command has a time limit."""


@dataclass(frozen=True)
class Budget:
    """How long to fit: a number of steps, of seconds, or until a time; whichever is reached first.

    Raises:
        UserError: none of them is given, or one is not above 0.
    """

    steps: int | None = None
    """Optimisation steps."""
    seconds: float | None = None
    """Seconds for the steps themselves, without evaluations."""
    limit: TimeLimit | None = None
    """Time by which the fit must have ended, with all its callbacks, also those after the last step."""

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None and self.limit is None:
            raise UserError("no budget: give --steps or --time-limit")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps is {self.steps}: it must be at least 1")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"--time-limit is {self.seconds}: it must be a number of seconds above 0")

    def progress(self, step: int, seconds: float) -> float:
        """Share of steps or seconds that is spent, the larger one; 1 or more at the end. Ignores `limit`."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = seconds / self.seconds if self.seconds is not None else 0.0
        return max(by_steps, by_time)


@dataclass(frozen=True)
class Callback:
    """Something to do between two steps. Its time counts within the fit's limit, but not as its seconds."""

    function: Callable[[FitState], Mapping[str, float]]
    """Called with the state; the numbers that it returns are put into the history and the progress line."""
    every: int
    """Steps between two calls; it is also called after the last step. If the budget has a limit, calls that
    would take more than `CALLBACKS_SHARE` of the time so far are left out."""
    seconds: float = 0.0
    """Expected seconds of a call, for use until one has been timed."""


@dataclass(frozen=True)
class CheckpointOptions:
    """Where and how often a fit saves its state."""

    path: Path
    """The file; each save replaces it."""
    every_seconds: float = 30.0
    """Least seconds between two saves; the state is also saved at the end and at an interrupt."""
    resume: bool = False
    """Whether to go on from the file, if it exists."""
    identity: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """The options that define the fit: a checkpoint with other ones is refused."""


@dataclass
class FitState:
    """The state of a fit between two steps."""

    network: CoordinateMLP
    """The network, in training mode."""
    step: int = 0
    """Number of steps taken."""
    seconds: float = 0.0
    """Seconds that the steps took, without callbacks and checkpoints."""
    loss: float = math.nan
    """The latest loss that was read."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row for each step with callbacks: `step`, `seconds`, `loss` and what the callbacks returned."""


def fit(
    network: CoordinateMLP,
    sampler: Sampler,
    loss: Loss,
    optimization: OptimizationConfig,
    budget: Budget,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: CheckpointOptions | None = None,
    compiled: bool = False,
    progress: FitProgress | None = None,
) -> FitState:
    """Fit a network in place.

    Args:
        network: the network, on its device.
        sampler: gives the batches, on the same device.
        loss: loss of a batch's outputs and targets.
        optimization: optimizers and schedule; the schedule ends with the budget.
        budget: steps, seconds or a limit; at least one step is taken, however short the limit is.
        callbacks: actions at given steps, such as evaluations.
        checkpoint: where to save the state, and whether to go on from there.
        compiled: whether to run the training passes through torch.compile.
        progress: shows how far the fit is.

    Returns:
        The final state. The running statistics of `network` are not exact for its final weights: see
        `finished`.

    Raises:
        UserError: the loss is not finite, or the checkpoint belongs to another fit.
        FitInterrupted: Ctrl-C was pressed; the checkpoint has been written.
    """
    run = _Run(network, sampler, loss, optimization, budget, checkpoint, callbacks)
    if checkpoint is not None and checkpoint.resume and checkpoint.path.exists():
        run.restore(checkpoint)
    forward = torch.compile(network, dynamic=False) if compiled else network
    with progress or nullcontext(), deferred_interrupts() as interrupts:
        run.loop(forward, progress, interrupts)
    return run.state


def finished(
    network: CoordinateMLP,
    batches: Iterable[Any],
    forward: Callable[[CoordinateMLP, Any], Any] = CoordinateMLP.__call__,
) -> CoordinateMLP:
    """A folded copy for inference, with statistics that are exact over given points; keeps `network`.

    Args:
        network: the network as it was trained.
        batches: all training points, in any split.
        forward: function that applies a network to a batch; by default it just calls the network.
    """
    network = copy.deepcopy(network)
    calibrate(network, batches, lambda batch: forward(network, batch))
    return fold_norm(network)


class _LimitClock:
    """Measures how much of a time limit is spent, leaving time for the callbacks after the last step.

    Without a limit, the share that is spent is always 0.

    Args:
        limit: time by which all must have ended, or None.
        callbacks: called during the fit, and once more after the last step.

    Attributes:
        began: value of `elapsed` before the first step.
        step: seconds that the latest step took.
    """

    def __init__(self, limit: TimeLimit | None, callbacks: Sequence[Callback]) -> None:
        self._limit = limit
        self._costs = [callback.seconds for callback in callbacks]
        self._spent = 0.0
        self._earlier = 0.0
        self.began = self.elapsed
        self.step = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the command began, and those of earlier commands that the fit resumed."""
        return 0.0 if self._limit is None else self._earlier + self._limit.clock()

    @property
    def progress(self) -> float:
        """Share of the time for steps that is spent: 1 or more if the next step would end too late."""
        if self._limit is None:
            return 0.0
        end = self._limit.end - sum(self._costs) - self.step / 2
        return (self.elapsed - self.began) / (end - self.began) if end > self.began else 1.0

    def has_time_for(self, index: int) -> bool:
        """Whether callbacks so far, with one more call of this one, stay within `CALLBACKS_SHARE`."""
        if self._limit is None:
            return True
        return self._spent + self._costs[index] <= CALLBACKS_SHARE * (self.elapsed - self.began)

    def note(self, index: int, seconds: float) -> None:
        """Note how many seconds a call of a callback took."""
        self._costs[index] = seconds
        self._spent += seconds

    def go_on(self, elapsed: float, began: float) -> None:
        """Count the time of earlier commands, whose checkpoint the fit resumes."""
        if self._limit is not None:
            self._earlier, self.began = elapsed, began


class _Run:
    """One fit: its changing state, the parts that a step needs, and its checkpoint."""

    def __init__(
        self,
        network: CoordinateMLP,
        sampler: Sampler,
        loss: Loss,
        optimization: OptimizationConfig,
        budget: Budget,
        checkpoint: CheckpointOptions | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.state = FitState(network)
        self.clock = _LimitClock(budget.limit, callbacks)
        self.callbacks = callbacks
        self.sampler, self.loss, self.budget, self.checkpoint = sampler, loss, budget, checkpoint
        self.optimization = optimization
        self.optimizers = ScheduledOptimizers(network, optimization)
        self.device = next(network.parameters()).device
        self.reads_every_step = self.device.type == "cpu"

    @property
    def progress(self) -> float:
        spent = self.budget.progress(self.state.step, self.state.seconds)
        return max(spent, self.clock.progress)

    @property
    def expected_steps(self) -> float:
        """Steps that the whole fit will take: those of the budget, or as many as its time allows so far."""
        if self.budget.steps is not None:
            return self.budget.steps
        return self.state.step / self.progress if self.progress > UNKNOWN_SHARE else RATES_AT

    def loop(
        self,
        forward: Callable[[Tensor], Tensor],
        progress: FitProgress | None,
        interrupts: Interrupts,
    ) -> None:
        state = self.state
        state.network.train()
        if state.step == 0 and self.clock.progress >= 1:
            tell("the time limit leaves no time for steps, so only one is taken: give more (--time-limit)")
        saved_at = time.perf_counter()
        while self.progress < 1 or state.step == 0:
            start = time.perf_counter()
            self.step(forward)
            self.clock.step = time.perf_counter() - start
            state.seconds += self.clock.step
            metrics = self.call()
            if progress is not None:
                progress.update(state.step, min(self.progress, 1.0), state.seconds, state.loss, metrics)
            if interrupts.requested:
                self.save()
                raise FitInterrupted(f"stopped after step {state.step}")
            if self.checkpoint and time.perf_counter() - saved_at > self.checkpoint.every_seconds:
                self.save()
                saved_at = time.perf_counter()
        self.save()

    def step(self, forward: Callable[[Tensor], Tensor]) -> None:
        """Take one step; if the loss is read and is not finite, raise and leave the network unchanged."""
        state = self.state
        factor = self.optimization.factor(state.step, self.progress, self.budget.steps)
        coordinates, targets = self.sampler.next_batch()
        value = self.loss(forward(coordinates), targets)
        value.backward()
        if self.reads_every_step or (state.step + 1) % STEPS_BETWEEN_READS == 0 or state.step == 0:
            state.loss = float(value.detach())
            if not math.isfinite(state.loss):
                raise UserError(
                    f"the loss is {state.loss} at step {state.step + 1}: lower the learning rates "
                    "(--lr, --hidden-lr) or choose a norm (--norm batch)"
                )
        self.optimizers.step(factor, self.expected_steps)
        state.step += 1

    def call(self) -> dict[str, float]:
        """Call the callbacks that are due (at the end all of them), and note their numbers in the history."""
        state, every = self.state, list(enumerate(self.callbacks))
        due = [i for i, one in every if state.step % one.every == 0 and self.clock.has_time_for(i)]
        metrics = self.take(due)
        if self.progress >= 1:  # the fit ends here, perhaps because the calls took the rest of the time
            rest = [i for i, _ in every if i not in due]
            metrics |= self.take(rest)
            due += rest
        if due:
            state.network.train()
            row = {"step": state.step, "seconds": state.seconds, "loss": state.loss}
            state.history.append(row | {name: float(value) for name, value in metrics.items()})
        return metrics

    def take(self, due: Sequence[int]) -> dict[str, float]:
        """Call and time the callbacks with the given indices; returns all numbers that they return."""
        metrics: dict[str, float] = {}
        for index in due:
            start = time.perf_counter()
            metrics |= self.callbacks[index].function(self.state)
            self.clock.note(index, time.perf_counter() - start)
        return metrics

    def save(self) -> None:
        """Write the checkpoint, if one is kept."""
        if self.checkpoint is None:
            return
        state = self.state
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        save_checkpoint(
            self.checkpoint.path,
            {
                "identity": dict(self.checkpoint.identity),
                "step": state.step,
                "seconds": state.seconds,
                "elapsed": self.clock.elapsed,
                "began": self.clock.began,
                "loss": state.loss,
                "history": state.history,
                "network": state.network.state_dict(),
                "optimizers": self.optimizers.state_dict(),
                "sampler": self.sampler.state_dict(),
                "rng": rng,
            },
        )

    def restore(self, options: CheckpointOptions) -> None:
        """Set the state to that of a checkpoint.

        Raises:
            UserError: the checkpoint belongs to another fit, or cannot be read.
        """
        saved = load_checkpoint(options.path, self.device)
        theirs, ours = saved.get("identity", {}), dict(options.identity)
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise UserError(
                    f"the checkpoint {options.path} is of another fit ({name} was {theirs.get(name)}, now "
                    f"{ours.get(name)}): resume with the options it began with, or fit into another folder"
                )
        state = self.state
        try:
            state.network.load_state_dict(saved["network"])
            self.optimizers.load_state_dict(saved["optimizers"])
            self.sampler.load_state_dict(saved["sampler"])
            state.step, state.seconds = int(saved["step"]), float(saved["seconds"])
            state.loss, state.history = float(saved["loss"]), list(saved["history"])
            self.clock.go_on(float(saved.get("elapsed", 0.0)), float(saved.get("began", 0.0)))
            torch.set_rng_state(saved["rng"]["cpu"].cpu())
            if "cuda" in saved["rng"] and self.device.type == "cuda":
                torch.cuda.set_rng_state(saved["rng"]["cuda"].cpu(), self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the checkpoint {options.path} does not fit this network ({reason})") from error
