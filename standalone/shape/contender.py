"""A network fitted to a shape and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trimesh

from standalone.fitting import Callback, CheckpointOptions
from standalone.networks import Variant
from standalone.shape.fitted import FittedShape
from standalone.shape.inputs import ShapeInput
from standalone.shape.rehearsal import MEASURING_SHARE, MeasuringTimes
from standalone.shape.task import FitOptions, MeasureOptions, fit_shape, measure
from standalone.time_limit import TimeLimit


@dataclass(frozen=True)
class Contender:
    """One network, fitted and measured."""

    variant: Variant
    """The network as it was trained."""
    shape: FittedShape
    """What it became."""
    surface: trimesh.Trimesh | None
    """Its surface in the box; None where it has none."""
    metrics: dict[str, Any]
    """What `measure` found, with `steps`, `seconds` and `sampling_share`."""
    history: list[dict[str, float]]
    """Held-out IoU over steps and seconds."""


def contend(
    shape: ShapeInput,
    options: FitOptions,
    measuring: MeasureOptions,
    *,
    checkpoint: CheckpointOptions | None = None,
    callbacks: Sequence[Callback] = (),
    limit: TimeLimit | None = None,
) -> Contender:
    """Fit one network and measure it.

    Args:
        shape: what to fit.
        options: how.
        measuring: how the result is measured.
        checkpoint: where to keep the state, and whether to go on from there.
        callbacks: more to do between steps.
        limit: when all of this must have ended, in which case less may be measured; without it, the run's
            time limit is that of the steps alone.

    Raises:
        UserError: options out of range, or a loss that is not finite.
        FitInterrupted: Ctrl-C.
    """
    if limit is not None:
        network = options.network.build(3, 1, options.run.seed).to(options.run.torch_device())
        times = MeasuringTimes.of(shape, network, options.sampling.points)
        measuring = times.within(measuring, MEASURING_SHARE * limit.left)
        limit = limit.reserving(times.statistics + times.seconds(measuring))
    fitted, state, spent = fit_shape(shape, options, checkpoint=checkpoint, callbacks=callbacks, limit=limit)
    surface = fitted.surface(measuring.resolution)
    metrics = {**measure(shape, fitted, surface, measuring), "steps": state.step, **spent}
    return Contender(options.network.variant, fitted, surface, metrics, state.history)
