"""Pictures in tiles, so that training can go on between two tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor


@dataclass(frozen=True)
class Size:
    """Height and width of a picture in pixels."""

    height: int
    width: int

    @property
    def rays(self) -> int:
        """Number of pixels."""
        return self.height * self.width


@dataclass(frozen=True)
class Tile:
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    size: Size

    @property
    def window(self) -> tuple[slice, slice]:
        """The tile's rows and columns in the picture."""
        rows = slice(self.top, self.top + self.size.height)
        return rows, slice(self.left, self.left + self.size.width)


def next_tile(size: Size, done: int, rays: int) -> Tile:
    """The tile after the first `done` rays of a picture, in the order of rows.

    A tile is some whole rows, or a part of a row if a row has more than `rays` pixels. `rays` may change from
    tile to tile, as speed is measured.

    Args:
        size: size of the picture.
        done: number of rays in the tiles before, fewer than the picture has.
        rays: largest number of rays of the tile, at least 1.
    """
    top, left = divmod(done, size.width)
    rows = min(rays // size.width, size.height - top)
    if left == 0 and rows > 0:
        return Tile(top, 0, Size(rows, size.width))
    return Tile(top, left, Size(1, min(rays, size.width - left)))


def camera_of(camera: Cameras, tile: Tile) -> Cameras:
    """The camera whose whole picture is a tile of another one's; without lens distortion, like the viewer's.

    Args:
        camera: the camera of the whole picture.
        tile: a tile of that picture.
    """
    return Cameras(
        camera_to_worlds=camera.camera_to_worlds,
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx - tile.left,
        cy=camera.cy - tile.top,
        width=tile.size.width,
        height=tile.size.height,
        camera_type=camera.camera_type,
        times=camera.times,
        metadata=camera.metadata,
    )


class Mosaic:
    """An unfinished picture: its tiles so far, over a coarser picture of the same view, where there is one.

    Args:
        size: size of the picture.
        before: outputs of the coarser picture, each (height, width, c), or None.
    """

    def __init__(self, size: Size, before: Mapping[str, Tensor] | None = None) -> None:
        self.size = size
        self.done = 0
        """Number of rays in the finished tiles."""
        self._before = before
        self.outputs: dict[str, Tensor] = {}
        """Outputs of the picture so far, each (height, width, c), on the CPU; empty before the first tile."""

    @property
    def is_whole(self) -> bool:
        """Whether no tile is missing."""
        return self.done == self.size.rays

    def add(self, tile: Tile, outputs: Mapping[str, Any]) -> None:
        """Paste the outputs of the next tile; outputs that are no tensors are left out, as in nerfstudio."""
        for name, value in outputs.items():
            if isinstance(value, Tensor):
                if name not in self.outputs:
                    self.outputs[name] = self._background(name, value)
                self.outputs[name][tile.window] = value.to("cpu")
        self.done += tile.size.rays

    def _background(self, name: str, like: Tensor) -> Tensor:
        """Values for the parts without a tile: the coarser picture, stretched, or zeros."""
        before = None if self._before is None else self._before.get(name)
        if before is None or before.shape[-1] != like.shape[-1]:
            return torch.zeros(self.size.height, self.size.width, like.shape[-1], dtype=like.dtype)
        rows = torch.arange(self.size.height) * before.shape[0] // self.size.height
        columns = torch.arange(self.size.width) * before.shape[1] // self.size.width
        return before[rows][:, columns].to(like.dtype)
