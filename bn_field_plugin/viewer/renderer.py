"""The thread that draws for one tab of the browser."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.model_components.renderers import background_color_override_context
from nerfstudio.utils import writer
from nerfstudio.utils.writer import EventName
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import CameraState, get_camera
from nerfstudio.viewer.viewer import Viewer
from torch import Tensor

from bn_field_plugin.viewer.rendering import ViewedModel
from bn_field_plugin.viewer.resolution import NOTHING, Speed, after, is_at_once, largest, moving, resting
from bn_field_plugin.viewer.tiles import Mosaic, Size, camera_of, next_tile

REST = 0.2
"""Seconds without a move after which the camera counts as resting."""
PARTIAL = 1.0
"""Seconds after which an unfinished picture is shown."""
TRIAL = Size(16, 16)
"""Size of the tile by which speed is measured, which is not shown."""
POLL = 0.05
"""Seconds between two checks whether there is something to draw."""
SMALL = 256
"""Width in pixels up to which a picture is sent in full quality: it is small anyway, and stronger compression
would spoil its colours."""
DEPTH = "gl_z_buf_depth"
"""nerfstudio's name for the depth by which the scene hides things behind it; no output to choose."""


class Screen(Viewer):
    """The interface of the viewer for a drawing thread, beyond that of nerfstudio's viewer."""

    viewed: ViewedModel
    """The model that is drawn."""
    speed: Speed
    """Speed of pictures with all their samples."""
    moving_speed: Speed
    """Speed of pictures with fewer samples, drawn while the camera moves."""

    @property
    def trains(self) -> bool:
        """Whether training is running now."""
        raise NotImplementedError

    @property
    def refresh_seconds(self) -> float:
        """Wall clock seconds for a picture of an idle tab, so that all idle tabs get theirs in time."""
        raise NotImplementedError

    def may_refresh(self) -> bool:
        """Whether an idle tab may draw a tile now."""
        raise NotImplementedError

    def paying(self) -> AbstractContextManager[None]:
        """Count the time of the body as time for idle tabs."""
        raise NotImplementedError

    def offer_outputs(self, names: list[str]) -> None:
        """Offer outputs to choose from in the panel, if they differ from those offered before."""
        raise NotImplementedError


class TileRenderer(RenderStateMachine):
    """Draws the pictures of a tab: small while the camera moves, then sharper, then again during training.

    Each picture is made of tiles, and the train lock is released after each tile. If a picture is no longer
    wanted, or its tab is closed, drawing ends after the present tile.
    """

    viewer: Screen

    def __init__(self, viewer: Any, viser_scale_ratio: float, client: Any) -> None:
        super().__init__(viewer, viser_scale_ratio, client)
        self._guard = threading.Lock()
        self._wanted: CameraState | None = None
        self._version = self._drawn = 0
        self._is_new_view = False
        self._moved = -math.inf
        self._shown = NOTHING
        self._is_seen = False
        self._picture: dict[str, Tensor] | None = None
        self._was_training = False

    # -------------------------------------------------------------- called by the viewer's other threads

    def action(self, action: RenderAction) -> None:
        """Take a request for a picture: with a new camera, or with new choices in the panel."""
        with self._guard:
            if self._wanted is None or not same_view(self._wanted, action.camera_state):
                self._is_new_view, self._moved = True, time.monotonic()
            self._wanted = action.camera_state
            self._version += 1
        self.render_trigger.set()

    # ----------------------------------------------------------------------------------- the thread

    def run(self) -> None:
        """Draw until the tab is closed."""
        while self.running:
            if not self.viewer.ready or not self._draw_next():
                self.render_trigger.wait(POLL)
                self.render_trigger.clear()

    def _draw_next(self) -> bool:
        """Draw the next picture, and return whether there was one to draw."""
        if self._wanted is None:  # requests from before the viewer was ready are lost
            self.action(RenderAction("move", self.viewer.get_camera_state(self.client)))
        with self._guard:
            camera, version, is_new_view = self._wanted, self._version, self._is_new_view
            self._is_new_view = False
        assert camera is not None
        viewer, trains = self.viewer, self.viewer.trains
        most = largest(camera.aspect, viewer.control_panel.max_res)
        if is_new_view:
            self._picture, self._shown, self._is_seen = None, NOTHING, False
        elif version != self._drawn and self._picture is not None:
            self._send(self._picture)  # a choice that needs no new rendering is shown at once
            self._shown = NOTHING
        elif self._was_training and not trains:
            self._shown = NOTHING  # its tiles were drawn at different training steps
        self._drawn, self._was_training = version, trains
        for speed, thin in ((viewer.moving_speed, True), (viewer.speed, False)):
            while speed.is_unknown and self.running:  # without a known speed, the first tile might take long
                self._part(get_camera(camera, TRIAL.height, TRIAL.width), TRIAL, thin, is_paid=False)
        clock = viewer.refresh_seconds if trains else math.inf
        full = resting(viewer.speed, most, clock)
        if not self._is_seen:
            thin = not is_at_once(full, viewer.speed)
            size = moving(viewer.moving_speed, most) if thin else full
            return self._draw(camera, version, size, thin=thin, is_moving=True)
        if time.monotonic() - self._moved < REST:
            return False
        further = after(self._shown, viewer.speed, most, clock)
        if further is not None:
            return self._draw(camera, version, further)
        return trains and self._draw(camera, version, full, is_refresh=True)

    def _draw(
        self,
        state: CameraState,
        version: int,
        size: Size,
        thin: bool = False,
        is_moving: bool = False,
        is_refresh: bool = False,
    ) -> bool:
        """Draw one picture, and return whether it was finished rather than given up.

        Args:
            state: the camera.
            version: number of the request that the picture answers.
            size: size of the picture.
            thin: whether to take fewer samples.
            is_moving: whether to finish it despite newer requests, so that each move shows something.
            is_refresh: whether its tiles wait for the viewer's budget for idle tabs.
        """
        viewer = self.viewer
        if not viewer.render_tab_state.preview_render and viewer.include_time:
            state.time = viewer.control_panel.time
        camera = get_camera(state, size.height, size.width)
        speed = viewer.moving_speed if thin else viewer.speed
        mosaic = Mosaic(size, self._picture)
        seconds, sent = 0.0, time.monotonic()
        while not mosaic.is_whole:
            if not self.running or (version != self._version and not is_moving):
                return False
            if is_refresh and not viewer.trains:
                return False
            if is_refresh and not viewer.may_refresh():
                time.sleep(POLL)
                continue
            tile = next_tile(size, mosaic.done, speed.tile_rays(viewer.viewed.rays_together))
            start = time.perf_counter()
            outputs = self._part(camera_of(camera, tile), tile.size, thin, is_paid=is_refresh)
            if outputs is None:
                return False
            mosaic.add(tile, outputs)
            seconds += time.perf_counter() - start
            if not is_moving and time.monotonic() - sent > PARTIAL:
                self._send(mosaic.outputs)
                sent = time.monotonic()
        if writer.is_initialized():
            writer.put_time(
                name=EventName.VIS_RAYS_PER_SEC,
                duration=size.rays / max(seconds, 1e-9),
                step=viewer.step,
                avg_over_steps=True,
            )
        self._picture, self._is_seen, self._shown = mosaic.outputs, True, NOTHING if thin else size
        self._send(mosaic.outputs, thin)
        return True

    def _part(self, camera: Cameras, size: Size, thin: bool, is_paid: bool) -> dict[str, Tensor] | None:
        """Draw one tile when the train lock is free, and measure its time for `Speed`.

        Args:
            camera: camera of the tile.
            size: size of the tile.
            thin: whether to take fewer samples.
            is_paid: whether its time counts as time for idle tabs.

        Returns:
            The outputs, or None if the tab was closed while waiting.
        """
        viewer = self.viewer
        with viewer.train_lock or contextlib.nullcontext():
            if not self.running:
                return None
            with viewer.paying() if is_paid else contextlib.nullcontext():
                start, work = time.perf_counter(), time.process_time()
                outputs = self._render(camera, thin)
                clock, processors = time.perf_counter() - start, time.process_time() - work
        speed = viewer.moving_speed if thin else viewer.speed
        speed.note(size.rays, clock, processors)
        return outputs

    def _render(self, camera: Cameras, thin: bool) -> dict[str, Tensor]:
        """Outputs of a camera, on the CPU, with crop, background and depth as nerfstudio's panel has them."""
        panel, model = self.viewer.control_panel, self.viewer.viewed
        camera = camera.to(model.device)
        box, background = None, cast(AbstractContextManager[None], contextlib.nullcontext())
        if panel.crop_viewport:
            box = panel.crop_obb
            color = torch.tensor(panel.background_color or (0, 0, 0), device=model.device) / 255
            background = background_color_override_context(color)
        with background, torch.no_grad():
            outputs: dict[str, Tensor] = model.get_outputs_for_camera(camera, obb_box=box, thin=thin)
            if panel.layer_depth and "depth" in outputs:
                directions = camera.generate_rays(camera_indices=0, obb_box=box).directions
                points = directions * outputs["depth"].to(directions)
                # Depth along the camera's z axis, which points backwards.
                outputs[DEPTH] = -(points @ camera.camera_to_worlds[0, :3, 2:3])
        return {name: value.cpu() for name, value in outputs.items() if isinstance(value, Tensor)}

    def _send(self, outputs: dict[str, Tensor], thin: bool = False) -> None:
        """Show a picture in the tab; a large thin one, which is soon replaced, is compressed more."""
        self.viewer.offer_outputs([name for name in outputs if name != DEPTH])
        self.output_keys = cast(Any, set(outputs))  # so that nerfstudio does not offer the outputs again
        panel = self.viewer.control_panel
        chosen = {panel.output_render, *([panel.split_output_render] if panel.split else [])}
        if self.running and chosen <= outputs.keys():
            is_small = outputs[panel.output_render].shape[1] <= SMALL
            self._send_output_to_viewer(outputs, static_render=is_small or not thin)


def same_view(one: CameraState, other: CameraState) -> bool:
    """Whether two states of a camera give the same picture."""
    settings = ("fov", "aspect", "camera_type", "time")
    return all(getattr(one, name) == getattr(other, name) for name in settings) and bool(
        torch.equal(one.c2w, other.c2w)
    )
