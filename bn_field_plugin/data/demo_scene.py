"""The embedded scene as a data set in Blender format, rendered once and kept in the user's cache.

The scene stands in [-1, 1]^3 on a round plinth and is full of fine texture: lettering, checkers, rings and
stripes, which a field that learns low frequencies first leaves blurred.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from typing_extensions import override

from bn_field_plugin.data.demo_renderer import shared_renderer
from bn_field_plugin.data.rendered_scene import RenderedScene
from bn_field_plugin.data.view_files import write_views
from bn_field_plugin.files import write_whole

CAMERA_DISTANCE = 4.0
"""Distance of every camera from the world's origin. The scene then lies well between depths 2 and 6."""
CAMERA_ANGLE_X = 0.58
"""Horizontal field of view in radians."""
ELEVATIONS = (4.0, 72.0)
"""Angles of the lowest and the highest camera above the horizon, in degrees."""
_SPLIT_OFFSETS = {"train": (0.5, 0.5), "val": (0.0, 0.25), "test": (0.85, 0.4)}
"""Offset of each split's cameras, for `camera_poses`. The first test view is the picture of the README, so
its offset is chosen to show the scene from its best side."""


@dataclass(frozen=True)
class DemoScene(RenderedScene):
    """The demo scene, with the options of its pictures.

    Attributes:
        image_size: width and height of the pictures in pixels.
        num_train: number of training views.
        num_val: number of views to look at while training.
        num_test: number of held-out views for the final figures.
        samples: rays per pixel and direction; each pixel is the mean of samples^2 rays.

    Raises:
        UserError: when an option is out of its limits.
    """

    scene = "demo scene"
    version = 3
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "image_size": (8, 4096),
        **dict.fromkeys(("num_train", "num_val", "num_test"), (1, 10_000)),
        "samples": (1, 16),
    }

    image_size: int = 200
    num_train: int = 60
    num_val: int = 4
    num_test: int = 12
    samples: int = 4

    def poses(self, split: str) -> Float[ndarray, "n 4 4"]:
        """Camera-to-world matrices of a split: cameras look along -z at the world's origin, y is up, x right.

        Args:
            split: "train", "val" or "test".
        """
        return camera_poses(getattr(self, f"num_{split}"), _SPLIT_OFFSETS[split])

    @override
    def render(self, folder: Path, *, show_progress: bool = False) -> None:
        renderer = shared_renderer()
        views: dict[Path, Float[ndarray, "4 4"]] = {}
        for split in _SPLIT_OFFSETS:
            (folder / split).mkdir(parents=True, exist_ok=True)
            poses = self.poses(split)
            views |= {folder / split / f"r_{index}.png": pose for index, pose in enumerate(poses)}
            frames = [
                {"file_path": f"./{split}/r_{index}", "transform_matrix": pose.tolist()}
                for index, pose in enumerate(poses)
            ]
            content = json.dumps({"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}, indent=2)
            write_whole(folder / f"transforms_{split}.json", content)

        write_views(
            views,
            lambda pose: renderer.render(pose[:3], self.image_size, CAMERA_ANGLE_X, self.samples),
            title=f"Rendering the {self.scene} (once)",
            show_progress=show_progress,
        )


def camera_poses(count: int, offset: tuple[float, float]) -> Float[ndarray, "n 4 4"]:
    """Cameras spread evenly over the band `ELEVATIONS` of a sphere; any first few of them are so too.

    Args:
        count: number of cameras.
        offset: shift of the sequence in turns and in height, each in [0, 1); another offset gives other
            cameras.
    """
    # Roberts' R2 sequence: multiples of the plastic number's powers fill the unit square evenly.
    plastic = 1.32471795724474602596
    index = np.arange(count)[:, None]
    turn, height = ((np.asarray(offset) + index / plastic ** np.array([1, 2])) % 1).T
    low, high = np.sin(np.deg2rad(ELEVATIONS))
    z = low + height * (high - low)
    level = np.sqrt(1 - z**2)
    backward = np.stack([level * np.cos(2 * np.pi * turn), level * np.sin(2 * np.pi * turn), z], axis=1)
    right = np.stack([-np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn), np.zeros(count)], axis=1)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 0], poses[:, :3, 1], poses[:, :3, 2] = right, np.cross(backward, right), backward
    poses[:, :3, 3] = CAMERA_DISTANCE * backward
    return poses
