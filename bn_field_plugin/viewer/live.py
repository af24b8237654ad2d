"""Nerfstudio's viewer as our methods have it: the one place where it is changed, for our pipelines alone."""

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
"""Seconds from one picture of an idle tab to the next while training, before what the steps between take."""
STEPS_BEHIND = 5
"""Training steps that the step shown may lag behind."""
POSES_SHARE = 0.01
"""Of training time, for moving the cameras in the scene to where training has moved them."""
FIRST_VIEW_TRIES = 20
"""How often a page that is still laid out is put before the scene again, at most."""
PATIENCE = 5.0
"""Seconds to wait for drawing threads at the end."""


class _Nobody:
    """Draws nothing."""

    def action(self, action: RenderAction) -> None:
        """Take a wish for a picture, and forget it."""


class Renderers(dict[int, RenderStateMachine]):
    """The drawing threads of all tabs: nerfstudio puts its own in, and ours take their place."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: list[TileRenderer] = []
        """Also those of closed tabs, which may still be amid a tile."""

    def __missing__(self, client: int) -> Any:
        """Who draws for a tab that is just coming or going, when a choice in a panel asks all tabs."""
        return _Nobody()

    def __setitem__(self, client: int, machine: RenderStateMachine) -> None:
        ours = TileRenderer(machine.viewer, machine.viser_scale_ratio, machine.client)
        super().__setitem__(client, ours)
        self.ever = [old for old in self.ever if old.is_alive()] + [ours]


class LiveViewer(Screen):
    """nerfstudio's viewer, with pictures in tiles and a first view that shows the scene.

    Never made: `adopt` turns nerfstudio's into one, in ns-train as in ns-viewer.
    """

    render_statemachines: Renderers

    def begin(self, viewed: ViewedModel) -> None:
        """Take nerfstudio's viewer over, as its constructor leaves it, to draw a model."""
        self.viewed = viewed
        self.speed, self.moving_speed = Speed(), Speed()
        self._refresh, self._poses = TimeBudget(0.0, shortest=0.0), TimeBudget(POSES_SHARE)
        self._guard = threading.Lock()
        self._resolution = "0x0px"
        self._offered: tuple[str, ...] = ()
        self._step_told = -STEPS_BEHIND
        early, self.render_statemachines = self.render_statemachines, Renderers()
        for client, machine in early.items():
            machine.running = False  # it waits for the viewer to be ready, and draws nothing before
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

        A page that was open before the viewer was complete is laid out anew as the panel comes, and goes back
        to where viser begins: it is put there again, unless its user has moved.
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
            # Last, as it fixes the roll too, and keeps the distance to look at.
            camera.wxyz = (vtf.SO3.from_matrix(pose[:, :3]) @ vtf.SO3.from_x_radians(np.pi)).wxyz

    def init_scene(self, *arguments: Any, **options: Any) -> None:
        """Draw the cameras as nerfstudio does, hidden: they would stand before the scene."""
        super().init_scene(*arguments, **options)
        self.set_camera_visibility(False)
        self.hide_images.visible, self.show_images.visible = False, True

    # ------------------------------------------------------------------------------ beside training

    @property
    def trains(self) -> bool:
        """Whether training goes on at present."""
        return self.trainer is not None and self.trainer.training_state == "training"

    @property
    def refresh_seconds(self) -> float:
        """Seconds of the clock that a picture may take, to come often enough in all idle tabs."""
        share = self._share
        return REFRESH * share / (1 + share) / max(1, len(self.render_statemachines))

    @property
    def _share(self) -> float:
        """Of the time beside it, for idle tabs: what the panel's "Train Util" leaves."""
        return 1.0 - self.control_panel.train_util

    def may_refresh(self) -> bool:
        """Whether an idle tab may draw a tile now."""
        with self._guard:
            self._refresh.share = self._share
            return self._refresh.is_due()

    def paying(self) -> AbstractContextManager[None]:
        """Take what the body does from the time for idle tabs."""
        return self._refresh.spending()

    def update_scene(self, step: int, num_rays_per_batch: int | None = None) -> None:
        """Note that a step is done, or that a checkpoint of a step is shown; never waits.

        Args:
            step: its number.
            num_rays_per_batch: not used.
        """
        self.step = step
        if self.trainer is None:
            self._end_on_interrupt()
        if self.trainer is None or step >= self._step_told + STEPS_BEHIND:
            self.update_step(step)
        if self.render_statemachines and self._poses.is_due():
            with self._poses.spending():
                self.update_camera_poses()

    def update_step(self, step: int) -> None:
        """Show the step."""
        self._step_told = step
        super().update_step(step)

    def make_stats_markdown(self, step: int | None, res: str | None) -> str:
        """The lines of step and resolution; None is what they were, also where two threads tell at a time."""
        if res is not None:
            self._resolution = res
        return super().make_stats_markdown(self.step, self._resolution)

    def training_complete(self) -> None:
        """Show the last step; the tabs draw the final model as soon as they see that training has ended."""
        super().training_complete()
        self.update_step(self.step)
        self.pause_train.visible = self.resume_train.visible = False

    # ------------------------------------------------------------------------------------- the rest

    def offer_outputs(self, names: list[str]) -> None:
        """Offer outputs to choose from, if they are others than before."""
        with self._guard:
            if tuple(names) == self._offered:
                return
            self._offered = tuple(names)
        # Nerfstudio takes the last for the split screen.
        last = self.viewed.split_with
        self.control_panel.update_output_options(sorted(names, key=lambda name: name == last))

    def _end_on_interrupt(self) -> None:
        """Let Ctrl-C end ns-viewer, which waits for it in a loop, without a traceback."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._end)

    def stop_drawing(self) -> None:
        """End the drawing threads: one that still renders while Python goes down aborts it."""
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
    """Turn nerfstudio's viewer into ours, with all that its constructor has made; other objects stay.

    Args:
        viewer: nerfstudio's.
        viewed: what it draws.
    """
    if type(viewer) is Viewer:
        viewer.__class__ = LiveViewer
        cast(LiveViewer, viewer).begin(viewed)
