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
"""Seconds without a move after which the camera rests."""
PARTIAL = 1.0
"""Seconds after which an unfinished picture is shown."""
TRIAL = Size(16, 16)
"""The tile by which speed is learnt, for nobody to see."""
POLL = 0.05
"""Seconds between two looks at what there is to do."""
SMALL = 256
"""Pixels of a width at which a picture is few bytes anyway; of fewer bytes, it would lose its colours."""
DEPTH = "gl_z_buf_depth"
"""Nerfstudio's name for the depth that hides things behind the scene; not to be chosen as an output."""


class Screen(Viewer):
    """What a drawing thread needs of the viewer, beside what nerfstudio's has."""

    viewed: ViewedModel
    """What is drawn."""
    speed: Speed
    """Of pictures with all their samples."""
    moving_speed: Speed
    """Of pictures in a move, with fewer."""

    @property
    def trains(self) -> bool:
        """Whether training goes on at present."""
        raise NotImplementedError

    @property
    def refresh_seconds(self) -> float:
        """Seconds of the clock that a picture may take, to come often enough in all idle tabs."""
        raise NotImplementedError

    def may_refresh(self) -> bool:
        """Whether an idle tab may draw a tile now."""
        raise NotImplementedError

    def paying(self) -> AbstractContextManager[None]:
        """Take what the body does from the time for idle tabs."""
        raise NotImplementedError

    def offer_outputs(self, names: list[str]) -> None:
        """Offer outputs to choose from, if they are others than before."""
        raise NotImplementedError


class TileRenderer(RenderStateMachine):
    """Draws what one tab looks at: small while the camera moves, then sharper, then anew as training goes on.

    Each picture is made of tiles, and the train lock is given back after each. A picture that is no longer
    wanted, and any picture of a closed tab, ends with the tile under way.
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
        """Take a new camera, or the same one with other choices of the panel."""
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
        """Draw the next picture; tells whether there was one to draw."""
        if self._wanted is None:  # moves from before the viewer was ready are lost
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
            self._send(self._picture)  # what needs no rendering is there at once
            self._shown = NOTHING
        elif self._was_training and not trains:
            self._shown = NOTHING  # a picture of several steps
        self._drawn, self._was_training = version, trains
        for speed, thin in ((viewer.moving_speed, True), (viewer.speed, False)):
            while speed.is_unknown and self.running:  # else the first tile might take long
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
        """Draw one picture, unless it is given up; tells whether it was finished.

        Args:
            state: the camera.
            version: of what is wanted.
            size: of the picture.
            thin: with fewer samples.
            is_moving: to its end, so that there is something to see of each move.
            is_refresh: at the rate that the viewer's budget allows.
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
        """Draw one tile when it is its turn, and learn from how long it takes.

        Args:
            camera: that of the tile.
            size: of the tile.
            thin: with fewer samples.
            is_paid: from the time for idle tabs.

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
        """Outputs of a camera, on the CPU, with what nerfstudio's panel asks for."""
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
                # Along the camera's z axis, which points backwards.
                outputs[DEPTH] = -(points @ camera.camera_to_worlds[0, :3, 2:3])
        return {name: value.cpu() for name, value in outputs.items() if isinstance(value, Tensor)}

    def _send(self, outputs: dict[str, Tensor], thin: bool = False) -> None:
        """Show a picture in the tab; a large thin one, which is soon gone, in fewer bytes."""
        self.viewer.offer_outputs([name for name in outputs if name != DEPTH])
        self.output_keys = cast(Any, set(outputs))  # nothing left for nerfstudio to offer
        panel = self.viewer.control_panel
        chosen = {panel.output_render, *([panel.split_output_render] if panel.split else [])}
        if self.running and chosen <= outputs.keys():
            is_small = outputs[panel.output_render].shape[1] <= SMALL
            self._send_output_to_viewer(outputs, static_render=is_small or not thin)


def same_view(one: CameraState, other: CameraState) -> bool:
    """Whether two cameras see the same."""
    settings = ("fov", "aspect", "camera_type", "time")
    return all(getattr(one, name) == getattr(other, name) for name in settings) and bool(
        torch.equal(one.c2w, other.c2w)
    )
