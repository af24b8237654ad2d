"""Fit a shape: sampling, network, loss and metrics put together on the shared fitting loop."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import trimesh
from torch import Tensor
from torch.nn import functional

from bn_field_plugin.errors import UserError
from standalone.fitting import Callback, CheckpointOptions, FitState, finished, fit
from standalone.networks import Placement, Size, Variant
from standalone.optimization import OptimizationConfig, count_parameters
from standalone.options import NetworkOptions, RunOptions
from standalone.progress import FitProgress
from standalone.sampling import Sampler, ShuffledBatches
from standalone.shape import inference
from standalone.shape.fitted import FittedShape
from standalone.shape.inputs import ShapeInput
from standalone.shape.metrics import (
    F_SCORE_DISTANCE,
    SIGMA,
    SURFACE_POINTS,
    iou,
    surface_metrics,
    volume_metrics,
)
from standalone.shape.sampling import SamplingConfig, SolidSampler, voxel_batch
from standalone.shape.solids import VolumeSolid
from standalone.time_limit import TimeLimit

DEFAULT_STEPS = 2000
"""Steps of a fit where neither steps nor a time limit are given."""

CALIBRATION_BATCHES = 8
"""Number of batches over which the statistics are made exact at the end."""

HELD_OUT_POINTS = 2**15
"""Number of points at which a fit is evaluated while it runs."""


class LossKind(NamedTuple):
    """A loss of outputs and occupancies."""

    function: Callable[[Tensor, Tensor], Tensor]
    """The loss."""
    level: float
    """The network's output at the surface when trained with this loss."""


LOSSES = {
    "bce": LossKind(functional.binary_cross_entropy_with_logits, 0.0),
    "mse": LossKind(functional.mse_loss, 0.5),
}
"""Losses by name: binary cross-entropy of logits, squared error of occupancies."""


@dataclass(frozen=True)
class TargetOptions:
    """What is fitted."""

    loss: Literal["bce", "mse"] = "bce"
    """Binary cross-entropy of logits, or squared error of occupancies (WIRE)."""
    voxels: int | None = None
    """Fit the voxels of a grid with this many along the longest side, --points of them in a step, each once
    in an epoch (WIRE), instead of fresh points. A volume has its own."""


@dataclass(frozen=True)
class ShapeNetworkOptions(NetworkOptions):
    """The network."""

    placement: Placement | None = "after"
    """Norm before or after the activation; after it is better on shapes (`benchmarks.shape_networks`: in each
    of three networks on each of three shapes)."""

    usual_size: ClassVar[Size] = Size(128, 3)
    """Size where none is given and the network has none of its own."""


@dataclass(frozen=True)
class FitOptions:
    """All that defines a fit of a given shape."""

    network: NetworkOptions = field(default_factory=ShapeNetworkOptions)
    """The network."""
    target: TargetOptions = field(default_factory=TargetOptions)
    """Loss and kind of points."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Points of each step."""
    run: RunOptions = field(default_factory=RunOptions)
    """Budget, seed, device."""
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    """Optimizers and learning rates."""

    def check(self) -> None:
        """Find mistakes before anything is computed or written.

        Raises:
            UserError: an option that cannot be used.
        """
        self.run.budget(DEFAULT_STEPS)
        self.run.torch_device()
        self.optimization.check()
        self.sampling.check()
        if self.target.voxels is not None and self.target.voxels < 2:
            raise UserError(f"--voxels is {self.target.voxels}: it must be at least 2")
        self.network.build(3, 1, self.run.seed)

    def identity(self) -> dict[str, Any]:
        """The options that a fit and the checkpoint it resumes must share: all but the length of the run."""
        parts = (self.network, self.target, self.sampling, self.optimization)
        flat: dict[str, Any] = {}
        for part in parts:
            flat |= dataclasses.asdict(part)
        return {**flat, "seed": self.run.seed}


def fit_shape(
    shape: ShapeInput,
    options: FitOptions,
    *,
    checkpoint: CheckpointOptions | None = None,
    callbacks: Sequence[Callback] = (),
    limit: TimeLimit | None = None,
) -> tuple[FittedShape, FitState, dict[str, float]]:
    """Fit a network to a shape.

    Args:
        shape: the shape to fit; a volume (`voxelized`) if the options ask for voxels.
        options: options of the fit.
        checkpoint: where to save the state, and whether to go on from there.
        callbacks: further actions between steps.
        limit: time by which the steps must have ended; without it, the run's time limit applies to the steps.

    Returns:
        The fitted shape (statistics exact over fresh training points, norm folded away); the final state;
        `seconds`, and `sampling_share`: the share of them that drawing points took.

    Raises:
        UserError: options out of range, or a loss that is not finite.
        FitInterrupted: Ctrl-C.
    """
    run, device = options.run, options.run.torch_device()
    loss, level = LOSSES[options.target.loss]
    network = options.network.build(3, 1, run.seed).to(device)
    sampler = make_sampler(shape, options, run.seed)
    held_out = SolidSampler(shape.solid, SamplingConfig(HELD_OUT_POINTS), run.seed + 10_000).next_batch()
    points, inside = held_out[0].numpy(), held_out[1][:, 0].numpy() > 0.5

    def evaluate(state: FitState) -> dict[str, float]:
        return {"iou": iou(inside, inference.inside(state.network.eval(), points, level))}

    state = fit(
        network,
        sampler,
        loss,
        options.optimization,
        run.budget(DEFAULT_STEPS, limit),
        callbacks=[Callback(evaluate, run.eval_every), *callbacks],
        checkpoint=checkpoint,
        compiled=run.compile,
        progress=FitProgress(f"{shape.name} {options.network.variant.label}", {"iou": ""}),
    )
    batches = make_sampler(shape, options, run.seed + 20_000)
    folded = finished(network, [batches.next_batch()[0] for _ in range(CALIBRATION_BATCHES)])
    trained = options.network.variant
    variant = Variant(trained.network, folded.config.norm)
    fitted = FittedShape(folded, variant, trained, level, shape.frame)
    share = sampler.seconds / state.seconds if isinstance(sampler, SolidSampler) else 0.0
    return fitted, state, {"seconds": state.seconds, "sampling_share": share}


def make_sampler(shape: ShapeInput, options: FitOptions, seed: int) -> Sampler:
    """The batches that options ask for."""
    device, solid = options.run.torch_device(), shape.solid
    if options.target.voxels is not None and isinstance(solid, VolumeSolid):
        size = solid.occupancy.size
        return ShuffledBatches(
            size, options.sampling.points, lambda index: voxel_batch(solid, index, device), seed
        )
    return SolidSampler(solid, options.sampling, seed, device)


@dataclass(frozen=True)
class MeasureOptions:
    """How a fitted shape is measured; coarser where a time limit leaves too little time for it."""

    resolution: int = 192
    """Grid points along each side of the box, for the mesh and the surface metrics."""
    iou_points: int = 2**20
    """Number of points for `iou_uniform` and for `iou_near_surface`."""
    iou_grid: int = 128
    """Points along the longest side of the grid for `iou_grid`."""
    surface_points: int = SURFACE_POINTS
    """Number of points on each surface for Chamfer distance, normal consistency and F-score."""

    def check(self) -> None:
        """Check the ranges of the numbers.

        Raises:
            UserError: a grid too coarse for a surface, or no points.
        """
        check_resolution(self.resolution)
        for name in ("iou_points", "iou_grid", "surface_points"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}: it must be at least 1")


def check_resolution(resolution: int) -> None:
    """Refuse grids too coarse for a surface.

    Raises:
        UserError: the resolution is below 8.
    """
    if resolution < 8:
        raise UserError(f"--resolution is {resolution}: it must be at least 8")


def measure(
    shape: ShapeInput, fitted: FittedShape, surface: trimesh.Trimesh | None, options: MeasureOptions
) -> dict[str, Any]:
    """Metrics of a fitted shape, by volume and by surface.

    Args:
        shape: the true shape, whose frame must equal that of the fitted shape.
        fitted: the fitted shape.
        surface: the fitted shape's surface in the box.
        options: numbers of points and of grids.

    Returns:
        The metrics of `volume_metrics` and `surface_metrics`, `parameters`, and `sampling`: how they were
        taken, in words.
    """
    points, on_surface = options.iou_points, options.surface_points
    return {
        **volume_metrics(shape.solid, fitted.inside, points, options.iou_grid),
        **surface_metrics(shape.solid.surface, surface, on_surface),
        "parameters": count_parameters(fitted.network),
        "sampling": (
            f"{points} points uniform in the box [-1, 1]^3; {points} points of the surface moved by normal "
            f"noise of {SIGMA:g} sides of the box; a grid of {options.iou_grid} along the longest side of "
            f"the shape; {on_surface} points on each surface, marching cubes at {options.resolution}^3, "
            f"F-score within {F_SCORE_DISTANCE:g} sides of the box"
        ),
    }
