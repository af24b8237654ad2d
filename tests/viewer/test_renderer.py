"""Drawing for one tab: the order of pictures, turns with training, and the end of drawing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.viewer.utils import CameraState

from benchmarks.serving import wait_for
from bn_field_plugin.viewer import renderer, resolution
from bn_field_plugin.viewer.live import LiveViewer
from bn_field_plugin.viewer.renderer import TileRenderer, same_view
from tests.viewer.page import live_viewer, steps
from tests.viewer.visitor import visiting

PATIENCE = 120.0
"""Most seconds to wait for something: far more than it takes, so that a busy machine passes too."""


class Tiles:
    """Records each tile that a viewer draws, and the step of training at that moment.

    Args:
        viewer: the viewer.
        done: steps of training.
        gate: each tile waits until it is set.
    """

    def __init__(self, viewer: LiveViewer, done: list[int], gate: threading.Event | None = None) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.thin: list[bool] = []
        self.steps: list[int] = []
        render = viewer.viewed.get_outputs_for_camera

        def noting(camera: Any, **options: Any) -> Any:
            self.sizes.append((int(camera.height), int(camera.width)))
            self.thin.append(options["thin"])
            self.steps.append(len(done))
            if gate is not None:
                assert gate.wait(PATIENCE)
            return render(camera, **options)

        viewer.viewed.get_outputs_for_camera = noting  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_view_comes_small_and_ends_as_the_model_s_own_picture(capture: Path, tmp_path: Path) -> None:
    with live_viewer(capture, tmp_path) as (viewer, port), visiting(port) as visitor:
        tiles = Tiles(viewer, [])
        viewer.control_panel._max_res.value = 200
        visitor.look(0.3)
        widths: list[int] = []
        for picture in visitor.pictures():
            widths.append(picture.shape[1])
            (machine,) = viewer.render_statemachines.values()
            if widths[-1] == 200 and machine._shown.width == 200:
                break
        assert widths[-1] == 200 and tiles.sizes[0] == (16, 16)
        assert not tiles.thin[-1]
        wait_for(lambda: machine._version == machine._drawn, PATIENCE)
        shown = machine._picture["rgb"].numpy()
        np.testing.assert_allclose(picture, shown, atol=0.01)


@pytest.mark.slow
def test_training_goes_on_between_tiles(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While training waits for its turn, there is a step between any two tiles."""
    monkeypatch.setattr(resolution, "TILE_SECONDS", 1e-6)
    with live_viewer(capture, tmp_path, training=True) as (viewer, port), steps(viewer) as done:
        viewer.control_panel._max_res.value = 64
        tiles = Tiles(viewer, done)
        with visiting(port) as visitor:
            visitor.look(0.3)
            wait_for(lambda: len(tiles.steps) > 30, PATIENCE)
        turns = np.diff(tiles.steps[:30])
        assert turns.min() >= 1
        assert max(height * width for height, width in tiles.sizes[4:]) == 1  # the first four are trials


@pytest.mark.slow
def test_a_closed_tab_is_drawn_for_no_more(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "TILE_SECONDS", 1e-3)
    gate = threading.Event()
    with live_viewer(capture, tmp_path, training=True) as (viewer, port):
        tiles = Tiles(viewer, [], gate)
        with visiting(port) as visitor:
            visitor.look(0.3)
            wait_for(lambda: tiles.sizes, PATIENCE)
            (machine,) = viewer.render_statemachines.values()
        wait_for(lambda: not machine.running, PATIENCE)
        gate.set()
        machine.join(20)
        assert not machine.is_alive()
        assert len(tiles.sizes) == 1
        assert not viewer.train_lock.locked()  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_idle_tab_draws_anew_only_when_the_budget_allows(capture: Path, tmp_path: Path) -> None:
    allowed = threading.Event()
    with live_viewer(capture, tmp_path, training=True) as (viewer, port):
        viewer.control_panel._max_res.value = 64
        viewer.may_refresh = allowed.is_set  # type: ignore[method-assign]
        tiles = Tiles(viewer, [])
        with visiting(port) as visitor:
            visitor.look(0.3)
            visitor.picture(64)
            (machine,) = viewer.render_statemachines.values()
            wait_for(lambda: machine._shown.width == 64 and machine._version == machine._drawn, PATIENCE)
            time.sleep(0.3)
            assert viewer._refresh.times == 0
            allowed.set()
            wait_for(lambda: viewer._refresh.times > 2, PATIENCE)
            allowed.clear()
            # At the end of training one picture is drawn at once, with all samples.
            before = len(tiles.sizes)
            viewer.trainer.training_state = "completed"  # type: ignore[union-attr]
            wait_for(lambda: not machine._was_training and machine._shown.width == 64, PATIENCE)
            final = len(tiles.sizes)
            assert final > before and not any(tiles.thin[before:])
            time.sleep(0.3)
            assert len(tiles.sizes) == final


@pytest.mark.slow
def test_a_choice_shows_at_once_what_is_there(capture: Path, tmp_path: Path) -> None:
    """Another output of the same view is shown without rendering anew."""
    gate = threading.Event()
    gate.set()
    with live_viewer(capture, tmp_path) as (viewer, port), visiting(port) as visitor:
        viewer.control_panel._max_res.value = 64
        Tiles(viewer, [], gate)
        visitor.look(0.3)
        visitor.picture(64)
        (machine,) = viewer.render_statemachines.values()
        wait_for(lambda: machine._shown.width == 64, PATIENCE)
        gate.clear()
        try:
            visitor.set("Output type", "accumulation")
            for picture in visitor.pictures():
                if np.ptp(picture[..., 0] - picture[..., 1]) > 0:  # the picture has colours
                    break
        finally:
            gate.set()


def test_views_are_compared_by_all_that_is_seen() -> None:
    pose = torch.eye(4)[:3]
    state = CameraState(0.7, 1.5, pose, CameraType.PERSPECTIVE)
    assert same_view(state, CameraState(0.7, 1.5, pose.clone(), CameraType.PERSPECTIVE))
    for other in (
        CameraState(0.8, 1.5, pose, CameraType.PERSPECTIVE),
        CameraState(0.7, 1.4, pose, CameraType.PERSPECTIVE),
        CameraState(0.7, 1.5, pose + 1e-3, CameraType.PERSPECTIVE),
        CameraState(0.7, 1.5, pose, CameraType.FISHEYE),
        CameraState(0.7, 1.5, pose, CameraType.PERSPECTIVE, time=0.5),
    ):
        assert not same_view(state, other)


def test_the_thread_is_nerfstudio_s_kind() -> None:
    assert issubclass(TileRenderer, renderer.RenderStateMachine)
