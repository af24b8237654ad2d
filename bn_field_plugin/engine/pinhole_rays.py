"""Rays of pinhole cameras: nerfstudio's own, without what only other kinds of cameras need."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor


class PinholeRayGenerator(RayGenerator):
    """Rays through pixels' centres.

    nerfstudio's generator looks at every kind of camera, and rotates the neighbours of each ray: for a few
    thousand rays on a CPU that takes 3 ms, a fifteenth of a training step of bn-ngp.

    Args:
        cameras: cameras that `is_pinhole` is true of.
    """

    table: Tensor

    def __init__(self, cameras: Cameras) -> None:
        super().__init__(cameras)
        intrinsics = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1)
        poses = cameras.camera_to_worlds.mT.flatten(1)  # column by column
        # Dataparsers give the intrinsics in fp64 too.
        table = torch.cat([intrinsics.to(poses.dtype), poses], dim=-1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, ray_indices: Int[Tensor, "r 3"]) -> RayBundle:
        """The rays through pixels.

        Args:
            ray_indices: camera, row and column of each pixel.
        """
        camera = ray_indices[:, :1].to(self.table.device)
        x, y = self._centres(ray_indices)
        chosen = self.table.index_select(0, camera[:, 0])
        fx, fy, cx, cy = chosen[:, :4].split(1, dim=-1)
        right, up, back, origins = chosen[:, 4:].split(3, dim=-1)
        u, v = (x - cx) / fx, (cy - y) / fy
        length = (u * u + v * v + 1).sqrt()
        directions = (right * u + up * v - back) / length
        return RayBundle(
            origins=origins,
            directions=directions,
            pixel_area=_to_neighbour(u, v, length, 1 / fx) * _to_neighbour(v, u, length, -1 / fy),
            camera_indices=camera,
            metadata={"directions_norm": length},
        )

    def _centres(self, ray_indices: Int[Tensor, "r 3"]) -> tuple[Float[Tensor, "r 1"], Float[Tensor, "r 1"]]:
        row, column = (part.to(self.table) + 0.5 for part in ray_indices[:, 1:].split(1, dim=-1))
        return column, row


def _to_neighbour(
    along: Float[Tensor, "r 1"],
    across: Float[Tensor, "r 1"],
    length: Float[Tensor, "r 1"],
    step: Float[Tensor, "r 1"],
) -> Float[Tensor, "r 1"]:
    """Distance between directions of length 1, of a ray and of the one a pixel further.

    Args:
        along: coordinate of the ray on the image plane at distance 1, on the axis of the step.
        across: its other coordinate.
        length: distance from the camera to that point.
        step: width of a pixel there.
    """
    there = along + step
    here, there_share = 1 / length, 1 / (there * there + across * across + 1).sqrt()
    shrinks = here - there_share
    moved = along * here - there * there_share
    return (moved * moved + shrinks * shrinks * (across * across + 1)).sqrt()


def is_pinhole(cameras: Cameras) -> bool:
    """Whether cameras are a list of perspective ones that distort nothing, and tell no more of their rays."""
    undistorted = cameras.distortion_params is None or not bool(cameras.distortion_params.any())
    return (
        cameras.ndim == 1
        and bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all())
        and undistorted
        and cameras.times is None
        and not cameras.metadata
    )


def quicken_rays(datamanager: Any) -> None:
    """Let a datamanager make the training rays of pinhole cameras by `PinholeRayGenerator`."""
    generator = getattr(datamanager, "train_ray_generator", None)
    if type(generator) is RayGenerator and is_pinhole(generator.cameras):
        datamanager.train_ray_generator = PinholeRayGenerator(generator.cameras).to(datamanager.device)
