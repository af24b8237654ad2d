"""The viewer's first camera: a training camera whose picture holds the whole scene."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_utils import focus_of_attention
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

ALMOST = 0.95
"""Cameras whose sight is at least this share of the largest count as equally good; the first is taken."""


def focus(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point at which cameras look: the nearest to the axes of the cameras that have it before them."""
    poses = cameras.camera_to_worlds.detach().cpu().double()
    point = focus_of_attention(poses.float(), poses[:, :, 3].mean(0).float())
    return point if bool(point.isfinite().all()) else poses[:, :, 3].mean(0).float()


def sights(cameras: Cameras, point: Float[Tensor, "3"]) -> Float[Tensor, " n"]:
    """Radius of the largest ball around a point that each camera's picture holds; negative if it holds none.

    Args:
        cameras: n cameras.
        point: the point in world coordinates.
    """
    poses = cameras.camera_to_worlds.detach().cpu()
    toward = point - poses[:, :, 3]
    distance = toward.norm(dim=-1).clamp_min(1e-9)
    cosine = (-poses[:, :, 2] * toward).sum(-1) / distance
    angle = torch.arccos(cosine.clamp(-1, 1))
    half = torch.minimum(*(torch.atan(s / (2 * f)) for s, f in _sides(cameras)))
    radius: Tensor = distance * torch.sin((half - angle).clamp(-math.pi / 2, math.pi / 2))
    return radius


def widest(cameras: Cameras) -> tuple[int, Float[Tensor, "3"]]:
    """The camera that sees most around the point at which all look, and the point's place on its axis."""
    point = focus(cameras)
    found = sights(cameras, point)
    best = float(found.max())
    index = int(torch.nonzero(found >= best - (1 - ALMOST) * abs(best))[0])
    pose = cameras.camera_to_worlds[index].detach().cpu()
    depth = float((-pose[:, 2] * (point - pose[:, 3])).sum())
    return index, pose[:, 3] - pose[:, 2] * (depth if depth > 0 else 1.0)


def field_of_view(cameras: Cameras, index: int, aspect: float) -> float:
    """The vertical angle, in radians, at which a window shows all of a camera's photograph.

    Args:
        cameras: the cameras.
        index: number of the camera.
        aspect: width over height of the window.
    """
    wide, high = (float(s[index] / (2 * f[index])) for s, f in _sides(cameras))
    return 2 * math.atan(max(high, wide / aspect))


def _sides(cameras: Cameras) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pixels and focal lengths, in pixels, of the cameras' width and height, each (n)."""
    width, height, fx, fy = (
        value.detach().cpu().float().flatten()
        for value in (cameras.width, cameras.height, cameras.fx, cameras.fy)
    )
    return (width, fx), (height, fy)
