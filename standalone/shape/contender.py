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
    """The fitted shape."""
    surface: trimesh.Trimesh | None
    """The fitted shape's surface in the box; None if it has none."""
    metrics: dict[str, Any]
    """The metrics of `measure`, with `steps`, `seconds` and `sampling_share`."""
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
        shape: the shape to fit.
        options: options of the fit.
        measuring: how the result is measured.
        checkpoint: where to save the state, and whether to go on from there.
        callbacks: further actions between steps.
        limit: time by which fit and measuring must have ended, for which measuring may be made coarser;
            without it, the run's time limit applies to the steps alone.

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
