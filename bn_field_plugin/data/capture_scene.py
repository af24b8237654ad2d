"""The capture as a data set in nerfstudio's format: a walk through a town square, rendered once and cached.

The camera stands inside the scene, which has no end: things lie two metres away or at the horizon. Poses are
slightly wrong, as those of a real capture are, and some views are held out, the same for every method.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from bn_field_plugin.data.capture_objects import capture_renderer
from bn_field_plugin.data.capture_walk import walk, with_errors
from bn_field_plugin.data.rendered_scene import RenderedScene
from bn_field_plugin.data.view_files import write_views
from bn_field_plugin.files import write_whole

CAMERA_ANGLE_X = np.deg2rad(72.0)
"""Horizontal field of view in radians."""
HOLD_OUT_EVERY = 8
"""One in this many views is held out for evaluation."""


@dataclass(frozen=True)
class CaptureScene(RenderedScene):
    """The capture, with the options of its pictures.

    Attributes:
        width: width of the pictures in pixels.
        height: height of the pictures in pixels.
        num_views: views for training and evaluation together.
        pose_error: error of the poses in transforms.json: root mean square of the angle in degrees, and of
            the displacement in per cent of the walk's extent; 0 gives the true poses.
        samples: rays per pixel and direction; each pixel is the mean of samples^2 rays.

    Raises:
        UserError: when an option is out of its limits.
    """

    scene = "capture"
    version = 1
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "width": (16, 4096),
        "height": (9, 4096),
        "num_views": (8, 10_000),
        "pose_error": (0.0, 10.0),
        "samples": (1, 16),
    }

    width: int = 480
    height: int = 270
    num_views: int = 50
    pose_error: float = 0.05
    samples: int = 4

    def transforms(self) -> dict[str, Any]:
        """The content of transforms.json: one pinhole camera, the poses with their errors, and the split.

        The poses of training and of evaluation views have errors, as structure from motion gives them. The
        validation views serve as test views too, as wherever nerfstudio splits a capture itself.
        """
        names = [f"images/frame_{number + 1:05d}.png" for number in range(self.num_views)]
        poses = with_errors(walk(self.num_views), self.pose_error)
        held_out = names[HOLD_OUT_EVERY // 2 :: HOLD_OUT_EVERY]
        focal = 0.5 * self.width / np.tan(0.5 * CAMERA_ANGLE_X)
        return {
            "camera_model": "OPENCV",
            "fl_x": focal,
            "fl_y": focal,
            "cx": self.width / 2,
            "cy": self.height / 2,
            "w": self.width,
            "h": self.height,
            "k1": 0.0,
            "k2": 0.0,
            "p1": 0.0,
            "p2": 0.0,
            "train_filenames": [name for name in names if name not in held_out],
            "val_filenames": held_out,
            "test_filenames": held_out,
            "frames": [
                {"file_path": name, "transform_matrix": pose.tolist()}
                for name, pose in zip(names, poses, strict=True)
            ],
        }

    @override
    def render(self, folder: Path, *, show_progress: bool = False) -> None:
        renderer, transforms = capture_renderer(), self.transforms()
        (folder / "images").mkdir(parents=True, exist_ok=True)
        write_whole(folder / "transforms.json", json.dumps(transforms, indent=2))
        size = (self.width, self.height)
        write_views(
            {
                folder / frame["file_path"]: pose
                for frame, pose in zip(transforms["frames"], walk(self.num_views), strict=True)
            },
            lambda pose: renderer.render(pose[:3], size, CAMERA_ANGLE_X, self.samples)[..., :3],
            title=f"Rendering the {self.scene} (once)",
            show_progress=show_progress,
        )
