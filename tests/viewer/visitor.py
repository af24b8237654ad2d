"""Speaks to the viewer over its websocket, as the page in a browser does."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

ANSWER, PATIENCE = 120.0, 10.0
"""Most seconds to wait for the right picture, and seconds after which the camera moves again."""
SIZE = 64
"""Pixels along a side of the rendered pictures, once the panel says so."""
DISTANCE, FIELD_OF_VIEW = 4.0, 0.6
VIEWER_SCALE = 10.0
"""Factor by which nerfstudio's viewer enlarges scenes."""


class Visitor:
    """Speaks viser's protocol: sends cameras and clicks, keeps what the page would show."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.turn = 0.0
        self.elements: dict[str, dict[str, Any]] = {}
        self.camera: dict[str, Any] = {}
        """Settings of the camera that the viewer has sent, by the name of the message."""

    def send(self, **message: Any) -> None:
        self.connection.send(msgspec.msgpack.encode(message))

    def look(self, turn: float) -> None:
        """Look at the origin from the side, a little further around with each `turn` (radians)."""
        self.turn = turn
        half = (turn / 2, -np.pi / 4)
        wxyz = (  # tilt the camera, then turn it around z
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
            self.look(self.turn)  # a user moves the mouse if nothing happens
            return None
        picture = None
        for message in messages:
            if message["type"] == "BackgroundImageMessage":
                picture = np.asarray(Image.open(io.BytesIO(message["rgb_bytes"]))) / 255
            if message["type"].startswith("SetCamera"):
                self.camera[message["type"]] = message
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
        """The panel's element with a label; empty before there is one."""
        found = [element for element in self.elements.values() if element.get("label") == label]
        return found[-1] if found else {}  # changed options come as a new element

    @property
    def outputs(self) -> set[str]:
        """The outputs that can be chosen."""
        return set(self.element("Output type").get("options", ()))

    def set(self, label: str, value: Any) -> None:
        """Change an element of the panel."""
        self.send(type="GuiUpdateMessage", id=self.element(label)["id"], updates={"value": value})

    @property
    def step(self) -> int:
        """The step that the page shows; -1 before it shows any."""
        texts = [str(element.get("markdown", "")) for element in self.elements.values()]
        return max((int(t.split()[1]) for t in texts if t.startswith("Step: ")), default=-1)

    def picture(self, width: int | None = None) -> np.ndarray:
        """The next picture, of a width if one is given; fails if none comes."""
        for picture in self.pictures():
            if width in (None, picture.shape[1]):
                return picture
        pytest.fail(f"no picture {width or 'of any number of'} pixels wide came")

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
def visiting(port: int) -> Iterator[Visitor]:
    with connect(f"ws://127.0.0.1:{port}/", max_size=None, compression=None) as connection:
        yield Visitor(connection)
