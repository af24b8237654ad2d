"""Fitting one image with one network."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Shaped

from bn_field_plugin.nn import CoordinateMLP, NormName, UserError
from standalone.fitting import Budget, Callback, CheckpointOptions, fit
from standalone.image.images import Picture
from standalone.image.metrics import psnr
from standalone.image.task import ImageTask
from standalone.networks import Variant
from standalone.optimization import OptimizationConfig, count_parameters
from standalone.progress import FitProgress

DEFAULT_STEPS = 1000
"""Steps of a fit where neither steps nor a time limit are given."""


@dataclass(frozen=True)
class NetworkOptions:
    """The network."""

    network: str = "pemlp-5"
    """mlp, pemlp-K (K octaves of positional encoding), fourier, fourier-SCALE, or siren."""
    norm: NormName = "batch"
    """Norm of the hidden layers."""
    width: int = 64
    """Units of each hidden layer."""
    depth: int = 5
    """Number of hidden layers."""
    placement: Literal["before", "after"] = "before"
    """Norm before or after the activation."""

    @property
    def variant(self) -> Variant:
        """Network and norm by name."""
        return Variant(self.network, self.norm)

    def build(self, channels: int, seed: int) -> CoordinateMLP:
        """Make the network; the global generator is left alone.

        Args:
            channels: channels of the image.
            seed: seed of the initial weights.
        """
        config = self.variant.config(2, channels, self.width, self.depth, placement=self.placement)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CoordinateMLP(config)


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    steps: int | None = None
    """Optimisation steps; 1000 unless a time limit is given."""
    time_limit: float | None = None
    """Seconds of optimisation, evaluations apart; the schedule follows it."""
    batch_size: int | None = None
    """Pixels of a step; by default all of them up to 512 x 512, else 65536."""
    eval_every: int = 50
    """Steps between two evaluations on the way (PSNR, error by frequency band)."""
    seed: int = 0
    """Seed of the initial weights and of the order of the pixels."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto is CUDA where it is present."""
    compile: bool = False
    """Run training passes through torch.compile; needs a C++ compiler and takes a while to begin."""

    def budget(self) -> Budget:
        """Steps or seconds to spend.

        Raises:
            UserError: a number out of its range.
        """
        if self.eval_every < 1:
            raise UserError(f"--eval-every is {self.eval_every}: it must be at least 1")
        default = DEFAULT_STEPS if self.time_limit is None else None
        return Budget(self.steps if self.steps is not None else default, self.time_limit)

    def torch_device(self) -> torch.device:
        """The device to compute on.

        Raises:
            UserError: CUDA is asked for and absent.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: there is no CUDA device here; use --device cpu")
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(auto if self.device == "auto" else self.device)


@dataclass(frozen=True)
class ImageFit:
    """A fitted image."""

    network: CoordinateMLP
    """The final network, with exact statistics, folded, in evaluation mode."""
    pixels: Shaped[np.ndarray, "h w c"]
    """Its reconstruction, at the picture's depth."""
    psnr: float
    """PSNR in dB of the reconstruction on 8-bit clamped output."""
    parameters: int
    """Numbers that the network learned."""
    steps: int
    """Steps taken."""
    seconds: float
    """Time they took, evaluations apart."""
    history: list[dict[str, float]]
    """Evaluations on the way: `step`, `seconds`, `loss`, `psnr` and `band ...`."""


def fit_image(
    picture: Picture,
    network: NetworkOptions,
    run: RunOptions,
    optimization: OptimizationConfig,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> ImageFit:
    """Fit a picture with a fresh network.

    Args:
        picture: the picture.
        network: the network.
        run: budget, batches, seed and device.
        optimization: optimizers and schedule.
        checkpoint: file to keep the state in.
        resume: go on from that file, where it exists.
        show_progress: show a bar.

    Raises:
        UserError: options out of their ranges, a diverging fit, a checkpoint of another fit.
        FitInterrupted: Ctrl-C; the checkpoint has been written.
    """
    options = None
    if checkpoint is not None:
        identity = _identity(picture, network, run, optimization)
        options = CheckpointOptions(checkpoint, resume=resume, identity=identity)
    mlp = network.build(picture.channels, run.seed)
    label = network.variant.label if show_progress else None
    return fit_network(picture, mlp, run, optimization, checkpoint=options, label=label)


def fit_network(
    picture: Picture,
    mlp: CoordinateMLP,
    run: RunOptions,
    optimization: OptimizationConfig,
    *,
    checkpoint: CheckpointOptions | None = None,
    label: str | None = None,
) -> ImageFit:
    """Fit a picture with a given network, which is changed.

    Args:
        picture: the picture.
        mlp: the network.
        run: budget, batches, seed and device.
        optimization: optimizers and schedule.
        checkpoint: where to keep the state, and whether to go on from there.
        label: what the progress bar calls it; None for no bar.

    Raises:
        UserError: options out of their ranges, a diverging fit, a checkpoint of another fit.
        FitInterrupted: Ctrl-C; the checkpoint has been written.
    """
    budget, device = run.budget(), run.torch_device()
    task = ImageTask(picture, device)
    mlp.to(device)
    state = fit(
        mlp,
        task.sampler(run.batch_size, run.seed),
        task.loss,
        optimization,
        budget,
        callbacks=[Callback(task.evaluation(), run.eval_every)],
        checkpoint=checkpoint,
        compiled=run.compile,
        progress=FitProgress(label, {"psnr": "dB"}) if label is not None else None,
    )
    final = task.finished(mlp)
    pixels = task.reconstruct(final)
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
    picture: Picture, network: NetworkOptions, run: RunOptions, optimization: OptimizationConfig
) -> dict[str, str | int | float | bool | None]:
    """What a checkpoint must share with the fit that resumes from it: all but the length of the run."""
    return {
        "image": hashlib.sha256(picture.pixels.tobytes()).hexdigest()[:16],
        "size": f"{picture.width}x{picture.height}x{picture.channels}",
        **dataclasses.asdict(network),
        **dataclasses.asdict(optimization),
        "batch_size": run.batch_size,
        "seed": run.seed,
    }
