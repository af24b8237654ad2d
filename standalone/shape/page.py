"""A page in the browser (viser): true shape, reconstruction and error, also while a fit runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

from bn_field_plugin.errors import UserError
from standalone.shape.errors import WORST, error_colors, surface_error

SPACING = 2.0
"""Distance between the true shape and the reconstruction, which stand side by side."""

CLAY = (204, 199, 189)
"""Colour of surfaces without error colours."""


class ShapePage:
    """Serves the page until `close`.

    Args:
        true: the true surface, in the box.
        title: name of the page.
        host: address to serve at.
        port: port to serve at; another free one is taken where it is in use, see `url`.

    Raises:
        UserError: nothing can be served at the address and port.
    """

    def __init__(self, true: trimesh.Trimesh, title: str, host: str = "127.0.0.1", port: int = 8080) -> None:
        import viser

        self._true = true
        try:
            self._server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot serve at {host}:{port} ({error}): choose another --host or --port"
            ) from error
        self.url = f"http://{host}:{self._server.get_port()}"
        self._found: trimesh.Trimesh | None = None
        self._colors: np.ndarray | None = None
        self._server.scene.set_up_direction("+y")
        self._server.scene.add_mesh_simple(
            "/true",
            np.asarray(true.vertices),
            np.asarray(true.faces),
            color=CLAY,
            position=(-SPACING / 2, 0, 0),
        )
        self._server.on_client_connect(_look_at_both)
        self._status = self._server.gui.add_markdown("no reconstruction yet")
        self._colored = self._server.gui.add_checkbox("Error colours", initial_value=True)
        self._overlaid = self._server.gui.add_checkbox("Overlay", initial_value=False)
        for element in (self._colored, self._overlaid):
            element.on_update(self._redraw)

    def show(self, found: trimesh.Trimesh | None, status: str = "") -> None:
        """Show a reconstruction in place of the one before.

        Args:
            found: surface in the box; None where there is none yet.
            status: a line beside it, such as step and IoU.
        """
        self._found = found
        if found is None:
            self._status.content = f"{status}: no surface yet" if status else "no surface yet"
            return
        error = surface_error(found, self._true)
        self._colors = error_colors(error)
        self._status.content = (
            f"{status}\n\nleft: true shape, right: reconstruction; mean distance {error.mean():.2%} of the "
            f"box, yellow from {WORST:.0%}"
        )
        self._redraw(None)

    def _redraw(self, _event: Any) -> None:
        if self._found is None or self._colors is None:
            return
        mesh = trimesh.Trimesh(self._found.vertices, self._found.faces, process=False)
        colors = self._colors * 255 if self._colored.value else np.broadcast_to(CLAY, self._colors.shape)
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colors.astype(np.uint8))
        side = -SPACING / 2 if self._overlaid.value else SPACING / 2
        self._server.scene.add_mesh_trimesh("/found", mesh, position=(side, 0, 0))

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()


def _look_at_both(client: Any) -> None:
    """Put the camera before both shapes; from viser's default place, the right one hides the left one."""
    client.camera.position = (0.0, 1.2, 4.5)
    client.camera.look_at = (0.0, 0.0, 0.0)
