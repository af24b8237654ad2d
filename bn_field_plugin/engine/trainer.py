"""nerfstudio's trainer with checkpoints that are never half-written, and mistakes told in one line."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
import dataclasses
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE

from bn_field_plugin.engine.checkpoints import (
    check_newest,
    checkpoint_name,
    checkpoint_step,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_partial_files,
    save_atomically,
)
from bn_field_plugin.engine.locks import FairLock
from bn_field_plugin.engine.processes import check_machines
from bn_field_plugin.engine.schedulers import CosineDecayConfig
from bn_field_plugin.errors import UserError, exit_on_user_error
from bn_field_plugin.viewer.live import LiveViewer


@dataclass
class BNTrainerConfig(TrainerConfig):
    """Configuration of a training run."""

    _target: type = field(default_factory=lambda: BNTrainer)
    """target class to instantiate"""

    _trains = False

    def setup(self, **kwargs: Any) -> Any:
        """Make the trainer. From then on `get_checkpoint_dir` knows that this run writes checkpoints."""
        self._trains = True
        return super().setup(**kwargs)

    def get_checkpoint_dir(self) -> Path:
        """Folder of the run's checkpoints. Every command but ns-train loads the newest one there.

        Raises:
            SystemExit: after a line on stderr, if the newest is broken and no training is about to begin.
        """
        directory = super().get_checkpoint_dir()
        if not self._trains:
            with exit_on_user_error():
                check_newest(directory)
        return directory

    def set_timestamp(self) -> None:
        """Name the run after the time, once the options for several processes are checked.

        ns-train calls this first, before it launches processes, from which a mistake would come as a
        traceback.

        Raises:
            SystemExit: after a line on stderr, if the run cannot be shared by the processes asked for.
        """
        with exit_on_user_error():
            rays = getattr(self.pipeline.datamanager, "train_num_rays_per_batch", None)
            check_machines(self.machine, rays)
        super().set_timestamp()

    def set_experiment_name(self) -> None:
        """Name an unnamed experiment after its data; their path may also stand in the dataparser's config."""
        datamanager = self.pipeline.datamanager
        parser = getattr(datamanager, "dataparser", None)
        if self.experiment_name is None and datamanager.data is None and parser is not None:
            self.experiment_name = parser.rendered_name if parser.data is None else Path(parser.data).stem
        super().set_experiment_name()


class BNTrainer(Trainer):
    """Trains a BN method.

    Checkpoints have nerfstudio's names and entries, so that every `ns-*` command reads them. Before one is
    written, the statistics of the norms are made exact (`BNPipeline.calibrate`). As in nerfstudio, the state
    of the random numbers is not saved: a resumed run draws other rays than one that was never stopped, and
    `--max-num-iterations` counts the steps from the resumption on.
    """

    config: BNTrainerConfig
    _stopped_by_user = False

    def __init__(self, config: BNTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        super().__init__(config, local_rank, world_size)
        self.train_lock = FairLock()  # type: ignore[assignment]
        """Held during each training step, and while the viewer draws a tile of a picture, in turns."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Set up pipeline, optimizers, viewer and writers; load a checkpoint if one is asked for.

        Args:
            test_mode: which data to load, as in nerfstudio.

        Raises:
            SystemExit: after a line on stderr, for a mistake of the user.
        """
        with exit_on_user_error():
            if comms.is_main_process():
                self._remove_partial_files()
            self._checkpoint_to_load()  # so that a mistake is told before data are read and the viewer starts
            super().setup(test_mode)

    def setup_optimizers(self) -> Optimizers:
        """Make the optimizers; schedules without an end of their own end with the run."""
        configs = {}
        for name, group in self.config.optimizers.items():
            scheduler = group["scheduler"]
            if isinstance(scheduler, CosineDecayConfig) and scheduler.max_steps is None:
                steps = self.config.max_num_iterations
                warmup = min(scheduler.warmup_steps, steps // 10)  # at most a tenth of the run
                scheduler = dataclasses.replace(scheduler, max_steps=steps, warmup_steps=warmup)
            configs[name] = {**group, "scheduler": scheduler}
        return Optimizers(configs, self.pipeline.get_param_groups())

    def train(self) -> None:
        """Train; Ctrl-C ends the run after the step under way, with a checkpoint.

        Raises:
            SystemExit: after a line on stderr, for a mistake of the user or a full disk.
        """
        try:
            with exit_on_user_error(), self._stop_on_interrupt():
                super().train()
        finally:
            if isinstance(self.viewer_state, LiveViewer):
                self.viewer_state.stop_drawing()

    @contextmanager
    def _stop_on_interrupt(self) -> Iterator[None]:
        """Let the first Ctrl-C end training after the step under way, and the second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: FrameType | None) -> None:
            # `previous` is not restored: in a background job it ignores the signal.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self.training_state == "completed":  # training is over, and only the viewer still runs
                raise KeyboardInterrupt
            self._stopped_by_user = True
            self.stop_training = True
            print("\nstopping: a checkpoint is written first; Ctrl-C again stops at once", flush=True)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _train_complete_viewer(self) -> None:
        """Keep the viewer up after training, unless the user has stopped it."""
        if not self._stopped_by_user:
            super()._train_complete_viewer()

    def _remove_partial_files(self) -> None:
        """Remove what killed runs left half-written, in this run's folder and in the one it resumes from."""
        for directory in (self.checkpoint_dir, self.config.load_dir):
            if directory is not None:
                for partial in remove_partial_files(directory):
                    CONSOLE.print(f"Removed {partial}, left by a run that was killed.")

    def save_checkpoint(self, step: int) -> None:
        """Save the model with exact statistics, the optimizers and the schedules.

        Older checkpoints are deleted, if at all, after the new one is in place.

        Args:
            step: number of the last training step.

        Raises:
            UserError: the file cannot be written; older checkpoints are still there.
        """
        with self.train_lock:  # the viewer renders with the statistics that are changed here
            calibrate = getattr(self.pipeline, "calibrate", None)
            if calibrate is not None:
                calibrate()  # on every process, so that all keep equal statistics
            if not comms.is_main_process():
                return
            path = self.checkpoint_dir / checkpoint_name(step)
            save_atomically(
                {
                    "step": step,
                    "pipeline": getattr(self.pipeline, "module", self.pipeline).state_dict(),
                    "optimizers": {k: v.state_dict() for k, v in self.optimizers.optimizers.items()},
                    "schedulers": {k: v.state_dict() for k, v in self.optimizers.schedulers.items()},
                    "scalers": self.grad_scaler.state_dict(),
                    **({"norm_is_frozen": True} if getattr(self.pipeline, "is_frozen", False) else {}),
                },
                path,
            )
        if self.config.save_only_latest_checkpoint:
            for old in self.checkpoint_dir.glob("*.ckpt"):
                if old != path:
                    old.unlink(missing_ok=True)

    def _checkpoint_to_load(self) -> Path | None:
        """The checkpoint that the options ask for, or None.

        Raises:
            UserError: there is no checkpoint where the options say.
        """
        load_dir, load_step = self.config.load_dir, self.config.load_step
        if load_dir is None:
            path = self.config.load_checkpoint
            if path is not None and not path.is_file():
                raise UserError(f"--load-checkpoint {path} does not exist: give a .ckpt file")
            return path
        if not load_dir.is_dir():
            raise UserError(f"--load-dir {load_dir} is no folder: give the one with the .ckpt files")
        found = list_checkpoints(load_dir)
        if not found:
            below = load_dir / self.config.relative_model_dir
            hint = (
                f"did you mean {below}?" if list_checkpoints(below) else "give the one with the .ckpt files"
            )
            raise UserError(f"--load-dir {load_dir} holds no checkpoint: {hint}")
        if load_step is None:
            path = latest_checkpoint(load_dir)
            if path is None:
                raise UserError(f"--load-dir {load_dir} holds broken checkpoints only: train anew")
            return path
        for path in found:
            if checkpoint_step(path) == load_step:
                return path
        steps = ", ".join(str(checkpoint_step(path)) for path in found)
        raise UserError(f"--load-step {load_step} is not in {load_dir}: it holds {steps}")

    def _load_checkpoint(self) -> None:
        """Load the checkpoint that the options ask for, and go on from the step after it."""
        path = self._checkpoint_to_load()
        if path is None:
            CONSOLE.print("No checkpoint to load, so training from scratch.")
            return
        state = load_checkpoint(path)
        self._start_step = state["step"] + 1
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        if state.get("norm_is_frozen", False):
            cast(Any, self.pipeline).freeze()
        try:
            self._load_optimizers(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the optimizers of checkpoint {path} do not fit this run ({error}): load it with the method "
                "and options it was trained with"
            ) from error
        CONSOLE.print(f"Loaded checkpoint {path}")

    def _load_optimizers(self, state: dict[str, Any]) -> None:
        self.optimizers.load_optimizers(state["optimizers"])
        if "schedulers" in state and self.config.load_scheduler:
            self.optimizers.load_schedulers(state["schedulers"])
        self.grad_scaler.load_state_dict(state["scalers"])
