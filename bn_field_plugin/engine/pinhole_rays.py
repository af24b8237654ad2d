"""Rays of pinhole cameras: the same as nerfstudio's, without the work that only other cameras need."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor


class PinholeRayGenerator(RayGenerator):
    """Makes the rays of pinhole cameras through the centres of pixels.

    nerfstudio's generator tests for every kind of camera, and also rotates the two neighbours of each ray.
    On a CPU that takes a noticeable part of a training step of bn-ngp.

    Args:
        cameras: cameras for which `is_pinhole` is true.
    """

    table: Tensor

    def __init__(self, cameras: Cameras) -> None:
        super().__init__(cameras)
        intrinsics = torch.cat([cameras.fx, cameras.fy, cameras.cx, cameras.cy], dim=-1)
        poses = cameras.camera_to_worlds.mT.flatten(1)  # the 12 numbers of each matrix, column by column
        # Some dataparsers give the intrinsics in fp64.
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
    """Distance between the unit direction of a ray and that of the ray one pixel further.

    Args:
        along: coordinate of the ray on the image plane at distance 1, on the axis of the step.
        across: coordinate of the ray on the image plane at distance 1, on the other axis.
        length: distance from the camera to the ray's point on that plane.
        step: width of a pixel on that plane.
    """
    there = along + step
    here, there_share = 1 / length, 1 / (there * there + across * across + 1).sqrt()
    shrinks = here - there_share
    moved = along * here - there * there_share
    return (moved * moved + shrinks * shrinks * (across * across + 1)).sqrt()


def is_pinhole(cameras: Cameras) -> bool:
    """Whether cameras are a list of perspective cameras without distortion, times or metadata."""
    undistorted = cameras.distortion_params is None or not bool(cameras.distortion_params.any())
    return (
        cameras.ndim == 1
        and bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all())
        and undistorted
        and cameras.times is None
        and not cameras.metadata
    )


def quicken_rays(datamanager: Any) -> None:
    """Let a datamanager use `PinholeRayGenerator` for its training rays, where its cameras allow it."""
    generator = getattr(datamanager, "train_ray_generator", None)
    if type(generator) is RayGenerator and is_pinhole(generator.cameras):
        datamanager.train_ray_generator = PinholeRayGenerator(generator.cameras).to(datamanager.device)
