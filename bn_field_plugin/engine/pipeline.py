"""nerfstudio's pipeline with exact statistics, checked data and checked checkpoints."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor
from typing_extensions import Self

from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.data.validation import check_dataset
from bn_field_plugin.engine.pinhole_rays import quicken_rays
from bn_field_plugin.engine.pixels import sample_masks_rightly
from bn_field_plugin.engine.processes import rays_per_process, same_order_of_images
from bn_field_plugin.errors import UserError, tell_uncaught_user_errors
from bn_field_plugin.nn import calibrate, freeze_statistics, running_norms
from bn_field_plugin.viewer.panel import NormPanel

CALIBRATION_SEED = 20240617
"""Seed of the draw of training rays over which the running statistics are made exact."""

CALIBRATION_BATCH = 1024
"""Least number of rays in a batch when statistics are made exact, even if training's batches are smaller."""

STATISTICS = (".norm.running_mean", ".norm.running_var", ".norm.running_count", ".norm.num_batches_tracked")
"""Ends of the names of the norms' buffers in a model's state."""


@dataclass
class BNPipelineConfig(VanillaPipelineConfig):
    """A pipeline that keeps the statistics of its model's norms exact where it matters."""

    _target: type = field(default_factory=lambda: BNPipeline)
    panel_share: float = 0.02
    """Share of training time that the viewer's panel of spectrum and statistics may take; 0 stops it."""


class BNPipeline(VanillaPipeline):
    """Data and model of a BN method.

    Before evaluation and before a checkpoint, the running statistics are made exact over training rays
    (`calibrate`). Mistakes of the user, in the data or the checkpoint, raise `UserError`: where nobody
    catches it, as in nerfstudio's commands, it ends the process with one line.

    Where several processes train, each takes its share of a batch, and normalises with the moments of the
    whole batch. Processes exchange data in training steps only, so one of them may evaluate or calibrate
    without the others.
    """

    config: BNPipelineConfig

    def __init__(
        self,
        config: BNPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        keep_freed_memory()
        tell_uncaught_user_errors()
        config = copy.deepcopy(config)
        parser, model = self._parts(config)
        share = _share_before_freezing(model)
        if config.datamanager.data is not None:
            parser.data = Path(config.datamanager.data)
        if model.scene == "auto":
            model.scene = "bounded" if isinstance(parser, BlenderDataParserConfig) else "unbounded"
        if getattr(parser, "alpha_color", None) is not None and getattr(model, "keeps_alpha", False):
            parser.alpha_color = None  # the model puts its own background behind transparent pictures
        if test_mode != "inference":  # inference opens no image
            check_dataset(parser, required_splits=("train", test_mode))
        elif parser.data is not None and not Path(parser.data).exists():
            raise UserError(f"the data path {parser.data} does not exist: put it back or mend the config.yml")
        if world_size > 1 and test_mode != "inference":
            self._take_share(config, world_size)
        sample_masks_rightly(config.datamanager)
        with same_order_of_images(world_size):
            super().__init__(config, device, test_mode, world_size, *args, **kwargs)
        quicken_rays(self.datamanager)
        self._is_stale = False
        self._share_before_freezing = share
        self.is_frozen = False
        """Whether the statistics stay as they are (`freeze_norm_at`)."""
        self.norm_panel = NormPanel(self, config.panel_share)
        """The panel of spectrum and statistics. nerfstudio's viewer finds it as an attribute."""

    @staticmethod
    def _take_share(config: BNPipelineConfig, world_size: int) -> None:
        """Make the rays of a batch those of all processes together (see `rays_per_process`)."""
        datamanager: Any = config.datamanager
        rays = getattr(datamanager, "train_num_rays_per_batch", None)
        if rays is not None:
            datamanager.train_num_rays_per_batch = rays_per_process(rays, world_size)

    @staticmethod
    def _parts(config: BNPipelineConfig) -> tuple[Any, Any]:
        """Configs of dataparser and model, typed as Any, because nerfstudio declares them as base classes."""
        datamanager: Any = config.datamanager
        return datamanager.dataparser, config.model

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode.

        nerfstudio asks for it before every step, so nothing is done where all modules have the mode already.
        """
        if any(module.training != mode for module in self.modules()):
            super().train(mode)
        return self

    def calibrate(self) -> None:
        """Make the running statistics exact over training rays, if training has moved since.

        Every call draws the same pixels and leaves the random numbers of training as they were.
        """
        if self.is_frozen or not self._is_stale or not running_norms(self.model):
            return
        was_training = self.training
        batches = self.exact_rays()
        model = self.model.train()  # only training mode jitters the samples along rays
        calibrate(model, batches, lambda rays: self.pass_as_in_training(model, rays))
        self.train(was_training)
        self._is_stale = False

    def freeze(self) -> None:
        """Make the statistics exact, unless they are so; training then goes on without changing them."""
        self.calibrate()
        freeze_statistics(self.model)
        self.is_frozen = True

    def training_rays(self, num: int) -> list[RayBundle]:
        """At least `num` training rays, in batches.

        Every call returns the same rays, and leaves the random numbers of training as they were.
        """
        own = self.datamanager.get_train_rays_per_batch()
        # If training has a few rays in a batch, larger batches are drawn: each batch costs a pass of all
        # layers.
        size = own if self._sampler is None else max(own, min(num, CALIBRATION_BATCH))
        with private_random_numbers(CALIBRATION_SEED):
            try:
                if self._sampler is not None:
                    self._sampler.set_num_rays_per_batch(size)
                drawn: list[RayBundle] = []
                while sum(len(rays) for rays in drawn) < num:
                    drawn.append(cast(RayBundle, self.datamanager.next_train(0)[0]))
            finally:
                if self._sampler is not None:
                    self._sampler.set_num_rays_per_batch(own)
        return drawn

    @property
    def _chooses_rays(self) -> bool:
        """Whether the model says how many rays a step has."""
        return hasattr(self.model, "wanted_rays") and self._sampler is not None

    @property
    def _sampler(self) -> Any:
        """The sampler that draws the pixels of training batches; None where the datamanager has none."""
        return getattr(self.datamanager, "train_pixel_sampler", None)

    def _draw_rays(self, num: int) -> None:
        """Let the next batch of training rays have `num` rays, if the model chooses their number."""
        if self._chooses_rays:
            self._sampler.set_num_rays_per_batch(num)

    def fixed_rays(self, num: int) -> RayBundle:
        """`num` rays of training pixels, drawn evenly; every process that reads the same data draws the same.

        The rays of `training_rays`, in contrast, depend on the order into which a process shuffles its
        images.
        """
        cameras = cast(Any, self.datamanager.train_dataset).cameras
        generator = torch.Generator().manual_seed(CALIBRATION_SEED)
        camera = torch.randint(len(cameras), (num,), generator=generator)
        sides = torch.cat([cameras.height, cameras.width], dim=-1).cpu()[camera]
        pixels = (torch.rand(num, 2, generator=generator) * sides).floor() + 0.5  # row, column
        index = camera[:, None].to(self.device)
        cameras = cameras.to(self.device)
        rays: RayBundle = cameras.generate_rays(camera_indices=index, coords=pixels.to(self.device))
        return rays

    def exact_rays(self) -> list[RayBundle]:
        """The training rays over which statistics are made exact."""
        return self.training_rays(self._parts(self.config)[1].calibration_rays)

    def pass_as_in_training(self, model: Any, rays: RayBundle) -> None:
        """Render rays with a model in training mode, with the same jitter at each call."""
        with private_random_numbers(CALIBRATION_SEED):
            model(copy.copy(rays))  # a copy: camera optimizers change the bundle they get

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Loss of one batch of training rays, as many as the model wants."""
        self._is_stale = True
        if self._chooses_rays:
            self._draw_rays(cast(Any, self.model).wanted_rays)
        outputs, losses, metrics = super().get_train_loss_dict(step)
        self.norm_panel.note_metrics(metrics)
        return outputs, losses, metrics

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """Callbacks of datamanager and model, and those that freeze norms and update the viewer's panel."""
        callbacks: list[TrainingCallback] = super().get_training_callbacks(attributes)
        share, trainer = self._share_before_freezing, attributes.trainer
        if share < 1 and trainer is not None and running_norms(self.model):
            first = share * (trainer._start_step + trainer.config.max_num_iterations)

            def freeze_in_time(step: int) -> None:
                if not self.is_frozen and step >= first:
                    self.freeze()

            callbacks.append(
                TrainingCallback(
                    [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION],
                    freeze_in_time,
                    update_every_num_iters=1,
                )
            )
        panel = TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION],
            self.norm_panel.after_step,
            update_every_num_iters=1,
        )
        return [*callbacks, panel]

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Loss of one batch of evaluation rays, with exact statistics."""
        self.calibrate()
        return super().get_eval_loss_dict(step)

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Metrics and pictures of one evaluation image, with exact statistics."""
        self.calibrate()
        found: tuple[dict[str, Any], dict[str, Tensor]] = super().get_eval_image_metrics_and_images(step)
        return found

    def get_average_eval_image_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Mean metrics of all evaluation images, with exact statistics."""
        self.calibrate()
        found: dict[str, Any] = super().get_average_eval_image_metrics(*args, **kwargs)
        return found

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load a checkpoint.

        Raises:
            UserError: the checkpoint does not fit the model. Where nobody catches the error, as in
                nerfstudio's commands, it ends the process with one line.
        """
        check_model_state(self.model.state_dict(), loaded_state)
        super().load_pipeline(loaded_state, step)
        self._is_stale = False
        self.norm_panel.step = step


def _share_before_freezing(model: Any) -> float:
    """Share of training after which statistics stay as they are; 1 for methods without such an option.

    Args:
        model: the model's config.

    Raises:
        UserError: a share out of its range.
    """
    share = float(getattr(model, "freeze_norm_at", 1.0))
    if not 0 < share <= 1:
        raise UserError(
            f"--pipeline.model.freeze-norm-at is {share:g}: choose a share above 0, or 1 for never"
        )
    return share


def check_model_state(expected: dict[str, Tensor], pipeline_state: dict[str, Any]) -> None:
    """Compare the model in a checkpoint with the model into which it is to be loaded.

    The comparison is needed because nerfstudio silently skips entries that do not fit, statistics included.

    Args:
        expected: the state of the model.
        pipeline_state: the checkpoint's `pipeline` entry.

    Raises:
        UserError: entries are missing, unknown or of another size.
    """
    found: dict[str, Tensor] = {}
    for key, value in pipeline_state.items():
        name = key.removeprefix("module.")
        if name.startswith("_model."):
            found[name.removeprefix("_model.").removeprefix("module.")] = value
    remedy = "load it with the options it was trained with (its config.yml has them)"
    if any(".norm." in k for k in expected) != any(".norm." in k for k in found):
        theirs = "a norm" if any(".norm." in k for k in found) else "norm none"
        raise UserError(
            f"the checkpoint was trained with {theirs}, not with this --pipeline.model.norm: {remedy}"
        )
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    lost = [key for key in missing if key.endswith(STATISTICS)]
    if lost and len(lost) == len(missing):
        raise UserError(
            f"the checkpoint lacks the norm's statistics ({lost[0]} and {len(lost) - 1} more): it was "
            "written without them or for another --pipeline.model.norm; " + remedy
        )
    if missing or extra:
        name = (missing or extra)[0]
        what = "lacks" if missing else "has the unknown"
        raise UserError(
            f"the checkpoint {what} {name}: it is of another method, depth or --pipeline.model.norm; "
            + remedy
        )
    for key, value in expected.items():
        if found[key].shape != value.shape:
            size, needed = tuple(found[key].shape), tuple(value.shape)
            raise UserError(
                f"the checkpoint's {key} has shape {size}, the model's {needed}: it is of another width, "
                f"norm or encoding; {remedy}"
            )


@contextmanager
def private_random_numbers(seed: int) -> Iterator[None]:
    """Seed torch's and Python's random numbers within the block, and restore both generators after it."""
    python_state = random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            random.seed(seed)
            yield
    finally:
        random.setstate(python_state)
