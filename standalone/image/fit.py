"""Fitting one image with one network."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from bn_field_plugin.allocator import release_freed_memory
from bn_field_plugin.nn import CoordinateMLP
from standalone.fitting import Callback, CheckpointOptions, fit
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.image.task import BATCH_SIZE, PREVIEW_PIXELS, Evaluation, ImageTask
from standalone.optimization import OptimizationConfig, count_parameters
from standalone.options import NetworkOptions, RunOptions
from standalone.progress import FitProgress
from standalone.time_limit import TimeLimit

DEFAULT_STEPS = 1000
"""Steps of a fit where neither steps nor a time limit are given."""


@dataclass(frozen=True)
class ImageRunOptions(RunOptions):
    """The run."""

    batch_size: int | Literal["full"] | None = None
    """Pixels of a step, or full; by default all of them up to 256 x 256 without a time limit, else 16384
    spread over the image."""

    @property
    def batch(self) -> int | Literal["full"] | None:
        """Pixels of a step: as given, or what serves a time limit; None for what serves the image's size.

        Many steps of few pixels come further in a given time than a few steps of all.
        """
        return BATCH_SIZE if self.batch_size is None and self.time_limit is not None else self.batch_size


@dataclass(frozen=True)
class ImageFit:
    """A fitted image."""

    network: CoordinateMLP
    """The final network, with exact statistics, folded, in evaluation mode."""
    pixels: Shaped[np.ndarray, "h w c"]
    """The network's reconstruction of the picture, at the picture's depth."""
    psnr: float
    """PSNR in dB of the reconstruction on 8-bit clamped output."""
    parameters: int
    """Number of parameters that the network learned."""
    steps: int
    """Number of steps taken."""
    seconds: float
    """Seconds that the steps took, without evaluations."""
    history: list[dict[str, float]]
    """Evaluations during the fit: `step`, `seconds`, `loss`, `psnr` and `band ...`."""


def fit_image(
    picture: Picture,
    network: NetworkOptions,
    run: ImageRunOptions,
    optimization: OptimizationConfig,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
    limit: TimeLimit | None = None,
) -> ImageFit:
    """Fit a picture with a fresh network.

    Args:
        picture: the picture.
        network: the network.
        run: budget, batches, seed and device.
        optimization: optimizers and schedule.
        checkpoint: file for the fit's state; None for none.
        resume: whether to go on from that file, if it exists.
        show_progress: whether to show a progress bar.
        limit: time by which fit and evaluations must have ended; without it, the run's time limit applies to
            the steps alone.

    Raises:
        UserError: options out of their ranges, a diverging fit, a checkpoint of another fit.
        FitInterrupted: Ctrl-C; the checkpoint has been written.
    """
    options = None
    if checkpoint is not None:
        identity = _identity(picture, network, run, optimization)
        options = CheckpointOptions(checkpoint, resume=resume, identity=identity)
    mlp = network.build(2, picture.channels, run.seed)
    label = network.variant.label if show_progress else None
    return fit_network(picture, mlp, run, optimization, checkpoint=options, label=label, limit=limit)


def fit_network(
    picture: Picture,
    mlp: CoordinateMLP,
    run: ImageRunOptions,
    optimization: OptimizationConfig,
    *,
    checkpoint: CheckpointOptions | None = None,
    label: str | None = None,
    limit: TimeLimit | None = None,
) -> ImageFit:
    """Fit a picture with a given network, which is changed.

    Args:
        picture: the picture.
        mlp: the network.
        run: budget, batches, seed and device.
        optimization: optimizers and schedule.
        checkpoint: where to keep the state, and whether to go on from there.
        label: words before the progress bar; None for no bar.
        limit: time by which fit and evaluations must have ended; without it, the run's time limit applies to
            the steps alone.

    Raises:
        UserError: options out of their ranges, a diverging fit, a checkpoint of another fit.
        FitInterrupted: Ctrl-C; the checkpoint has been written.
    """
    device = run.torch_device()
    task = ImageTask(picture, device)
    mlp.to(device)
    evaluation = Evaluation(task)
    seconds = 0.0
    if limit is not None:
        seconds = task.rehearse(mlp)
        if not evaluation.is_whole:
            limit = limit.reserving(seconds)
            seconds *= PREVIEW_PIXELS / task.grid.num_points
    task.prepare(mlp)
    state = fit(
        mlp,
        task.sampler(run.batch, run.seed),
        task.loss,
        optimization,
        run.budget(DEFAULT_STEPS, limit),
        callbacks=[Callback(evaluation, run.eval_every, seconds)],
        checkpoint=checkpoint,
        compiled=run.compile,
        progress=FitProgress(label, {"psnr": "dB"}) if label is not None else None,
    )
    release_freed_memory()  # memory of the steps is returned before the metrics need more
    final, pixels = evaluation.final(state)
    return ImageFit(
        network=final,
        pixels=pixels,
        psnr=psnr(task.to_8bit(picture.pixels), task.to_8bit(pixels)),
        parameters=count_parameters(mlp),
        steps=state.step,
        seconds=state.seconds,
        history=state.history,
    )


def _identity(
    picture: Picture, network: NetworkOptions, run: ImageRunOptions, optimization: OptimizationConfig
) -> dict[str, str | int | float | bool | None]:
    """The options that a fit and the checkpoint it resumes must share: all but the length of the run."""
    return {
        "image": hashlib.sha256(picture.pixels.tobytes()).hexdigest()[:16],
        "size": f"{picture.width}x{picture.height}x{picture.channels}",
        **dataclasses.asdict(network),
        **dataclasses.asdict(optimization),
        "batch_size": run.batch,
        "seed": run.seed,
    }
