"""nerfstudio's viewer with our pipelines: first view, steps, buttons, and the end of training."""

from __future__ import annotations

import math
import signal
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import viser.transforms as vtf
from nerfstudio.viewer.viewer import Viewer

from benchmarks.serving import page, wait_for
from bn_field_plugin.viewer.live import FIRST_VIEW_TRIES, REFRESH, STEPS_BEHIND, LiveViewer, Renderers, adopt
from bn_field_plugin.viewer.outlook import widest
from tests.viewer.page import live_viewer, steps
from tests.viewer.visitor import VIEWER_SCALE, visiting


@pytest.mark.slow
def test_the_first_view_is_a_training_camera_s(capture: Path, tmp_path: Path) -> None:
    """Its place, direction and field of view; the cameras drawn in the scene are hidden behind a button."""
    with live_viewer(capture, tmp_path) as (viewer, port), visiting(port) as visitor:
        visitor.look(0.3)
        visitor.picture()
        cameras = viewer.pipeline.datamanager.train_dataset.cameras  # type: ignore[union-attr]
        pose = cameras.camera_to_worlds[widest(cameras)[0]].numpy()
        sent = {name: np.array(m[key]) for name, m in visitor.camera.items() for key in m if key != "type"}
        place, target = sent["SetCameraPositionMessage"], sent["SetCameraLookAtMessage"]
        np.testing.assert_allclose(place, pose[:, 3] * VIEWER_SCALE, rtol=1e-4)
        axis = (target - place) / np.linalg.norm(target - place)
        np.testing.assert_allclose(axis, -pose[:, 2], atol=1e-4)
        (client,) = viewer.viser_server.get_clients().values()
        seen = vtf.SO3(client.camera.wxyz).as_matrix()
        np.testing.assert_allclose(seen @ np.diag([1, -1, -1]), pose[:, :3], atol=1e-4)
        photo = cameras[widest(cameras)[0]]
        high = 2 * math.atan(float(photo.height) / 2 / float(photo.fy))
        assert float(sent["SetCameraFovMessage"]) == pytest.approx(high, rel=1e-4)
        assert viewer.show_images.visible and not viewer.hide_images.visible
        assert not any(handle.visible for handle in viewer.camera_handles.values())


def test_a_page_that_is_laid_out_anew_is_put_before_the_scene_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the first view again, even if the user had moved."""
    put: list[Any] = []
    monkeypatch.setattr(LiveViewer, "_face_scene", lambda _, client: put.append(client))
    viewer: Any = object.__new__(LiveViewer)
    begun, told = np.array([3.0, 3.0, 3.0]), []
    client = SimpleNamespace(camera=SimpleNamespace(position=begun, on_update=told.append))
    viewer.show_scene(client)
    (told_of_camera,) = told
    told_of_camera(None)
    told_of_camera(None)
    assert put == [client] * 3
    client.camera.position = np.array([1.0, 2.0, 3.0])
    told_of_camera(None)
    client.camera.position = begun
    told_of_camera(None)
    assert put == [client] * 3
    viewer.show_scene(client)
    for _ in range(100):
        told[1](None)  # the page is gone, and takes no camera
    assert len(put) == 3 + 1 + FIRST_VIEW_TRIES


def test_a_tab_that_comes_or_goes_is_not_asked_for_a_picture() -> None:
    """A choice in a panel asks all tabs, and nerfstudio raises KeyError for one without a thread."""
    asked: list[Any] = []
    viewer: Any = object.__new__(LiveViewer)
    viewer.ready = True
    viewer.viser_server = SimpleNamespace(get_clients=lambda: {0: "coming", 1: "here"})
    viewer.get_camera_state = lambda client: client
    viewer.render_statemachines = Renderers()
    dict.__setitem__(viewer.render_statemachines, 1, SimpleNamespace(action=asked.append))
    viewer._trigger_rerender()
    assert [(action.action, action.camera_state) for action in asked] == [("move", "here")]
    assert list(viewer.render_statemachines) == [1]


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_the_next_free_one(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        with live_viewer(capture, tmp_path, port=taken) as (viewer, _):
            real = viewer.viser_server.get_port()
            told = " ".join(capsys.readouterr().out.split())
            assert real != taken
            assert f"port {taken} (--viewer.websocket-port) is in use: the viewer is at port {real} i" in told
            assert "<html" in page(real)


@pytest.mark.slow
def test_ns_viewer_shows_the_checkpoint_s_step_and_no_buttons_of_training(
    capture: Path, tmp_path: Path
) -> None:
    with live_viewer(capture, tmp_path) as (viewer, port):
        handler = signal.getsignal(signal.SIGINT)
        try:
            viewer.update_scene(599)
            assert signal.getsignal(signal.SIGINT) == viewer._end
        finally:
            signal.signal(signal.SIGINT, handler)
        assert not viewer.pause_train.visible and not viewer.resume_train.visible
        with visiting(port) as visitor:
            visitor.look(0.3)
            visitor.picture()
            assert visitor.step == 599
            hidden = {name for name in ("Train Speed", "Train Util") if not visitor.element(name)["visible"]}
            assert hidden == {"Train Speed", "Train Util"}
            assert visitor.element("Output render split")["value"] == "depth"
            assert "gl_z_buf_depth" not in visitor.outputs


@pytest.mark.slow
def test_the_step_shown_follows_training_and_ends_with_it(capture: Path, tmp_path: Path) -> None:
    with live_viewer(capture, tmp_path, training=True) as (viewer, _):
        for step in range(37):
            viewer.update_scene(step)
            shown = int(viewer.stats_markdown.content.split()[1])
            assert step - STEPS_BEHIND < shown <= step
        assert "Resolution: 96x64px" in viewer.make_stats_markdown(None, "96x64px")
        assert "Resolution: 96x64px" in viewer.make_stats_markdown(36, None)
        viewer.trainer.training_state = "completed"  # type: ignore[union-attr]
        viewer.training_complete()
        assert viewer.stats_markdown.content.startswith("Step: 36 ")
        assert not viewer.pause_train.visible and not viewer.resume_train.visible


@pytest.mark.slow
def test_idle_tabs_share_what_train_util_leaves(capture: Path, tmp_path: Path) -> None:
    with live_viewer(capture, tmp_path, training=True) as (viewer, _):
        util = viewer.control_panel._train_util
        for share in (0.15, 0.5):
            util.value = 1 - share
            # There is one picture in each period; its time is the share of the rest of the period.
            assert viewer.refresh_seconds == pytest.approx(share * (REFRESH - viewer.refresh_seconds))
            assert viewer.may_refresh() or viewer._refresh.times
        util.value = 1.0
        assert viewer.refresh_seconds == 0
        assert not viewer.may_refresh()


@pytest.mark.slow
def test_moving_cameras_hold_no_step_back(capture: Path, tmp_path: Path) -> None:
    """nerfstudio's own training waits as long as anybody moves."""
    with live_viewer(capture, tmp_path, training=True) as (viewer, _):
        viewer.render_statemachines.update({0: SimpleNamespace(running=False, join=lambda _: None)})  # type: ignore[dict-item]
        viewer.last_move_time = math.inf  # type: ignore[assignment]
        done = threading.Event()

        def step() -> None:
            viewer.update_scene(1)
            done.set()

        threading.Thread(target=step, daemon=True).start()
        assert done.wait(20)


@pytest.mark.slow
def test_the_end_is_no_error_and_leaves_no_thread(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_viewer(capture, tmp_path) as (viewer, port), visiting(port) as visitor:
        visitor.look(0.3)
        visitor.picture()
        machines = list(viewer.render_statemachines.values())
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(viewer.viser_server, "stop", lambda: None)  # viser stops only once
        with pytest.raises(SystemExit) as ended:
            viewer._end(signal.SIGINT, None)
        assert ended.value.code == 0
        assert machines and not any(machine.is_alive() for machine in machines)
        monkeypatch.undo()


def test_only_nerfstudio_s_own_viewer_is_taken_over() -> None:
    class Other(Viewer):
        def __init__(self) -> None:
            pass

    other = Other()
    adopt(other, None)  # type: ignore[arg-type]
    assert type(other) is Other and not isinstance(other, LiveViewer)


@pytest.mark.slow
def test_steps_go_on_with_a_tab_open(capture: Path, tmp_path: Path) -> None:
    live = live_viewer(capture, tmp_path, training=True)
    with live as (viewer, port), steps(viewer) as done, visiting(port) as visitor:
        visitor.look(0.3)
        visitor.picture()
        before = len(done)
        wait_for(lambda: len(done) > before + 50, 60)
