"""nerfstudio's viewer, changed for this package's pipelines: all changes to it are here."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, cast

import numpy as np
import viser.transforms as vtf
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer

from bn_field_plugin.viewer.budget import TimeBudget
from bn_field_plugin.viewer.outlook import field_of_view, widest
from bn_field_plugin.viewer.renderer import Screen, TileRenderer
from bn_field_plugin.viewer.rendering import ViewedModel
from bn_field_plugin.viewer.resolution import Speed

REFRESH = 11.0
"""Seconds from one picture of an idle tab to the next during training, if training took no time between."""
STEPS_BEHIND = 5
"""Number of training steps by which the step that is shown may lag behind."""
POSES_SHARE = 0.01
"""Share of training time for moving the cameras in the scene to the poses that training has given them."""
FIRST_VIEW_TRIES = 20
"""How often, at most, the camera of a page that is still being laid out is put before the scene again."""
PATIENCE = 5.0
"""Seconds to wait at the end for the threads that draw."""


class _Nobody:
    """Stands for the drawing thread of a tab that has none, and draws nothing."""

    def action(self, action: RenderAction) -> None:
        """Ignore a request for a picture."""


class Renderers(dict[int, RenderStateMachine]):
    """Drawing threads by tab; one of nerfstudio's that is put in is replaced by a `TileRenderer`."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: list[TileRenderer] = []
        """All threads that still run, also those of closed tabs, which may not have finished their tile."""

    def __missing__(self, client: int) -> Any:
        """Gives `_Nobody` for a tab that is just opening or closing, when a choice in a panel asks it."""
        return _Nobody()

    def __setitem__(self, client: int, machine: RenderStateMachine) -> None:
        ours = TileRenderer(machine.viewer, machine.viser_scale_ratio, machine.client)
        super().__setitem__(client, ours)
        self.ever = [old for old in self.ever if old.is_alive()] + [ours]


class LiveViewer(Screen):
    """nerfstudio's viewer, with pictures in tiles and a first view that shows the scene.

    No object of this class is made: `adopt` changes the class of nerfstudio's viewer, in ns-train and
    ns-viewer.
    """

    render_statemachines: Renderers

    def begin(self, viewed: ViewedModel) -> None:
        """Set up what this class adds to nerfstudio's viewer, after the viewer's constructor has run."""
        self.viewed = viewed
        self.speed, self.moving_speed = Speed(), Speed()
        self._refresh, self._poses = TimeBudget(0.0, shortest=0.0), TimeBudget(POSES_SHARE)
        self._guard = threading.Lock()
        self._resolution = "0x0px"
        self._offered: tuple[str, ...] = ()
        self._step_told = -STEPS_BEHIND
        early, self.render_statemachines = self.render_statemachines, Renderers()
        for client, machine in early.items():
            machine.running = False  # ends nerfstudio's thread, which has not drawn yet
            self.render_statemachines[client] = machine
            self.render_statemachines[client].start()
        self.viser_server.on_client_connect(self.show_scene)
        if viewed.begins_split:
            self.control_panel._split.value = True
            self.control_panel.update_control_panel()
        if self.trainer is None:
            self.pause_train.visible = self.resume_train.visible = False
            for element in (self.control_panel._train_speed, self.control_panel._train_util):
                element.set_hidden(True)

    # ------------------------------------------------------------------------------- the first view

    def show_scene(self, client: Any) -> None:
        """Put a new tab's camera where a training camera saw the whole scene.

        A page that was open before the viewer was complete is laid out anew when the panel appears, which
        moves its camera back to viser's first place. So the camera is put before the scene again, unless the
        user has moved it.
        """
        camera, tries = client.camera, FIRST_VIEW_TRIES
        begun = np.array(camera.position)
        self._face_scene(client)

        def insist(_: Any) -> None:
            nonlocal tries
            if not np.allclose(camera.position, begun):
                tries = 0
            if tries > 0:
                tries -= 1
                self._face_scene(client)

        camera.on_update(insist)

    def _face_scene(self, client: Any) -> None:
        """Put a tab's camera where a training camera saw the whole scene."""
        cameras = cast(Any, self.pipeline.datamanager.train_dataset).cameras
        index, target = widest(cameras)
        pose = cameras.camera_to_worlds[index].detach().cpu().double().numpy()
        camera = client.camera
        with client.atomic():
            camera.fov = field_of_view(cameras, index, camera.aspect)
            camera.position = pose[:, 3] * VISER_NERFSTUDIO_SCALE_RATIO
            camera.look_at = target.double().numpy() * VISER_NERFSTUDIO_SCALE_RATIO
            # The rotation is set last, because setting it also fixes the roll, and keeps the distance to
            # `look_at`.
            camera.wxyz = (vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz

    def init_scene(self, *arguments: Any, **options: Any) -> None:
        """Add the training cameras as nerfstudio does, but hide them, as they would cover the scene."""
        super().init_scene(*arguments, **options)
        self.set_camera_visibility(False)
        self.hide_images.visible, self.show_images.visible = False, True

    # ------------------------------------------------------------------------------ beside training

    @property
    def trains(self) -> bool:
        """Whether training is running now."""
        return self.trainer is not None and self.trainer.training_state == "training"

    @property
    def refresh_seconds(self) -> float:
        """Wall clock seconds for a picture of an idle tab, so that all get theirs every `REFRESH` seconds."""
        share = self._share
        return REFRESH * share / (1 + share) / max(1, len(self.render_statemachines))

    @property
    def _share(self) -> float:
        """Share of time for pictures of idle tabs: the part that the panel's "Train Util" leaves."""
        return 1.0 - self.control_panel.train_util

    def may_refresh(self) -> bool:
        """Whether an idle tab may draw a tile now."""
        with self._guard:
            self._refresh.share = self._share
            return self._refresh.is_due()

    def paying(self) -> AbstractContextManager[None]:
        """Count the time of the body as time for idle tabs."""
        return self._refresh.spending()

    def update_scene(self, step: int, num_rays_per_batch: int | None = None) -> None:
        """Note that a training step is done, or that a checkpoint is shown, without waiting for pictures.

        Args:
            step: number of the step, or of the checkpoint's step.
            num_rays_per_batch: not used.
        """
        self.step = step
        if self.trainer is None:
            self._end_on_interrupt()
        if self.trainer is None or step >= self._step_told + STEPS_BEHIND:
            self.update_step(step)
        if self.render_statemachines and self._poses.is_due():
            with self._poses.spending():
                self.update_camera_poses()  # type: ignore[no-untyped-call]  # nerfstudio's has no types

    def update_step(self, step: int) -> None:
        """Show the number of the step in the panel."""
        self._step_told = step
        super().update_step(step)  # type: ignore[no-untyped-call]  # nerfstudio's has no types

    def make_stats_markdown(self, step: int | None, res: str | None) -> str:
        """The panel's lines of the latest step and resolution, whichever thread asks; `step` is not used."""
        if res is not None:
            self._resolution = res
        return super().make_stats_markdown(self.step, self._resolution)

    def training_complete(self) -> None:
        """Show the last step. The tabs notice by themselves that training has ended, and draw the model."""
        super().training_complete()
        self.update_step(self.step)
        self.pause_train.visible = self.resume_train.visible = False

    # ------------------------------------------------------------------------------------- the rest

    def offer_outputs(self, names: list[str]) -> None:
        """Offer outputs to choose from in the panel, if they differ from those offered before."""
        with self._guard:
            if tuple(names) == self._offered:
                return
            self._offered = tuple(names)
        # nerfstudio takes the last output for the split screen.
        last = self.viewed.split_with
        self.control_panel.update_output_options(sorted(names, key=lambda name: name == last))

    def _end_on_interrupt(self) -> None:
        """Let Ctrl-C end ns-viewer, which waits in a loop, without a traceback."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._end)

    def stop_drawing(self) -> None:
        """End the drawing threads: one that still renders while Python shuts down would abort the process."""
        machines = [machine for machine in self.render_statemachines.ever if machine.is_alive()]
        for machine in machines:
            machine.running = False
        deadline = time.monotonic() + PATIENCE
        for machine in machines:
            machine.join(max(0.0, deadline - time.monotonic()))

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stop_drawing()
        self.viser_server.stop()
        sys.exit(0)


def adopt(viewer: Any, viewed: ViewedModel) -> None:
    """Turn nerfstudio's viewer object into a `LiveViewer`, keeping all that its constructor has made.

    Args:
        viewer: nerfstudio's viewer.
        viewed: the model that it shall draw.
    """
    if type(viewer) is Viewer:
        viewer.__class__ = LiveViewer
        cast(LiveViewer, viewer).begin(viewed)
