"""The viewer, alone and while training, driven over its websocket as a browser drives it."""

import io
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils import colormaps
from nerfstudio.utils.eval_utils import eval_setup
from nerfstudio.viewer.utils import CameraState, get_camera
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from bn_field_plugin.nn import batch_statistics
from tests.commands import config_of, trained, training
from tests.viewer.serving import page, running

pytestmark = pytest.mark.slow

ANSWER, PATIENCE = 120.0, 10.0
"""Seconds to wait for the right picture (far more than needed), and before moving again."""
SIZE = 64
"""Pixels along a side of the rendered pictures, once the panel says so."""
DISTANCE, FIELD_OF_VIEW = 4.0, 0.6
VIEWER_SCALE = 10.0
"""Nerfstudio shows scenes ten times as large."""


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.getbasetemp() / "commands")


class Browser:
    """Speaks viser's protocol: sends cameras and clicks, keeps what the page would show."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.turn = 0.0
        self.elements: dict[str, dict[str, Any]] = {}

    def send(self, **message: Any) -> None:
        self.connection.send(msgspec.msgpack.encode(message))

    def look(self, turn: float) -> None:
        """Look at the origin from the side, a little further around with each `turn` (radians)."""
        self.turn = turn
        half = (turn / 2, -np.pi / 4)
        wxyz = (  # first lie the camera down, then turn it around z
            np.cos(half[0]) * np.cos(half[1]),
            np.cos(half[0]) * np.sin(half[1]),
            np.sin(half[0]) * np.sin(half[1]),
            np.sin(half[0]) * np.cos(half[1]),
        )
        place = DISTANCE * VIEWER_SCALE * np.array([np.sin(turn), -np.cos(turn), 0.0])
        self.send(
            type="ViewerCameraMessage",
            wxyz=[float(x) for x in wxyz],
            position=place.tolist(),
            fov=FIELD_OF_VIEW,
            aspect=1.0,
            look_at=[0.0, 0.0, 0.0],
            up_direction=[0.0, 0.0, 1.0],
        )

    def receive(self) -> np.ndarray | None:
        """Take one window of messages; the picture in it, if there is one, in [0, 1]."""
        try:
            messages = msgspec.msgpack.decode(self.connection.recv(timeout=PATIENCE))
        except TimeoutError:
            self.look(self.turn)  # as a user who moves the mouse when nothing happens
            return None
        picture = None
        for message in messages:
            if message["type"] == "BackgroundImageMessage":
                picture = np.asarray(Image.open(io.BytesIO(message["rgb_bytes"]))) / 255
            if message["type"].startswith("GuiAdd"):
                self.elements[message["id"]] = message
            if message["type"] == "GuiUpdateMessage":
                self.elements[message["id"]] |= message["updates"]
        return picture

    def pictures(self) -> Iterator[np.ndarray]:
        """Pictures as they come, for a while."""
        deadline = time.monotonic() + ANSWER
        while time.monotonic() < deadline:
            picture = self.receive()
            if picture is not None:
                yield picture

    def element(self, label: str) -> dict[str, Any]:
        """What the panel shows under a label; empty before it is there."""
        found = [element for element in self.elements.values() if element.get("label") == label]
        return found[-1] if found else {}  # options that change come with a new element

    @property
    def outputs(self) -> set[str]:
        """The outputs that can be chosen."""
        return set(self.element("Output type").get("options", ()))

    def set(self, label: str, value: Any) -> None:
        """Change an element of the panel."""
        self.send(type="GuiUpdateMessage", id=self.element(label)["id"], updates={"value": value})

    def wait_for_outputs(self) -> None:
        """Look around until the first render has told which outputs there are; then ask for small ones."""
        self.look(0.3)
        for _ in self.pictures():
            if "rgb" in self.outputs:
                self.set("Max res", SIZE)
                return
            self.look(0.3)
        pytest.fail("no picture came")


@contextmanager
def browser(port: int) -> Iterator[Browser]:
    with connect(f"ws://127.0.0.1:{port}/", max_size=None, compression=None) as connection:
        yield Browser(connection)


def expected_picture(pipeline: Pipeline, output: str, size: int) -> np.ndarray:
    """What the model renders from the camera of `look(0)`, by nerfstudio's own functions."""
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -DISTANCE], [0, 1, 0, 0]])  # right, up, backwards, place
    state = CameraState(FIELD_OF_VIEW, aspect=1.0, c2w=pose, camera_type=CameraType.PERSPECTIVE)
    rendered = pipeline.model.get_outputs_for_camera(get_camera(state, size, size))[output]
    return colormaps.apply_colormap(rendered, colormaps.ColormapOptions(normalize=True)).numpy()


def test_ns_viewer_shows_what_the_model_renders(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, outputs to choose from, and for each of them the very picture that the checkpoint gives."""
    monkeypatch.chdir(work)  # the paths in the config are relative
    config = config_of(work, "shared")
    _, pipeline, _, _ = eval_setup(config, test_mode="inference")
    log = tmp_path / "log.txt"
    with running(work, log, "ns-viewer", "--load-config", config) as (_, port):
        assert "<html" in page(port)
        with browser(port) as visitor:
            visitor.wait_for_outputs()
            assert {"rgb", "depth", "accumulation", "density", "drift"} <= visitor.outputs
            for output in ("depth", "accumulation", "rgb"):
                visitor.set("Output type", output)
                visitor.look(0.0)
                errors = []
                for picture in visitor.pictures():  # older renders may still be on their way
                    assert picture.shape[0] == picture.shape[1]
                    expected = expected_picture(pipeline, output, len(picture))
                    errors.append(np.abs(picture - expected).mean())
                    if errors[-1] < 0.004:  # 8 bits
                        break
                else:
                    pytest.fail(f"no picture of {output} was right: mean errors {errors}")
            visitor.set("Statistics", "batch")
            with batch_statistics(pipeline.model):
                for picture in visitor.pictures():
                    expected = expected_picture(pipeline, "rgb", len(picture))
                    if np.abs(picture - expected).mean() < 0.004:
                        break
                else:
                    pytest.fail("no picture with batch statistics was right")
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_is_one_line_and_the_next_free_one(work: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        command = ("ns-viewer", "--load-config", config_of(work, "shared"))
        with running(work, log, *command, port=taken, serves=lambda: "is in use" in log.read_text()):
            text = " ".join(log.read_text().split())
            (real,) = re.findall(rf"port {taken} .* is in use: the viewer is at port (\d+) instead", text)
            assert "<html" in page(int(real))
    assert "Traceback" not in log.read_text()


def test_the_viewer_shows_training_and_leaves_it_alone(work: Path, tmp_path: Path) -> None:
    """Pictures of all outputs while training goes on; Ctrl-C then ends it with a checkpoint."""
    log = tmp_path / "log.txt"
    words = training("bn-nerf-small", "viewed", "--data", "blender", "--max-num-iterations", 100_000)
    with running(work, log, *words, "--vis", "viewer") as (process, port):
        with browser(port) as visitor:
            visitor.wait_for_outputs()
            seen = {}
            for turn, output in enumerate(("rgb", "depth", "accumulation")):
                visitor.set("Output type", output)
                visitor.look(0.1 * turn)
                chosen = time.monotonic()
                for picture in visitor.pictures():
                    if time.monotonic() > chosen + 3:  # older renders have passed
                        seen[output] = picture
                        break
        process.send_signal(signal.SIGINT)
        assert process.wait(ANSWER) == 0
    assert seen.keys() == {"rgb", "depth", "accumulation"}
    assert all(picture.std() > 0.01 for picture in seen.values())
    text = log.read_text()
    assert "Traceback" not in text
    (saved,) = (config_of(work, "viewed").parent / "nerfstudio_models").iterdir()
    state = torch.load(saved, weights_only=True)
    tracked = {int(v) for k, v in state["pipeline"].items() if k.endswith("num_batches_tracked")}
    # One update a step, none by the viewer; the step at which a run is stopped is not trained.
    assert tracked == {state["step"]}
    assert all(value.isfinite().all() for value in state["pipeline"].values())
