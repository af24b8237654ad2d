"""The capture as a data set in nerfstudio's format: a walk through a town square, rendered once and cached.

The camera stands inside the scene, which has no end: things lie two metres away or at the horizon. Poses are
slightly wrong, as those of a real capture are, and some views are held out, the same for every method.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bn_field_plugin.data.capture_objects import capture_renderer
from bn_field_plugin.data.capture_walk import walk, with_errors
from bn_field_plugin.data.scene_cache import cache_key, ensure_cached
from bn_field_plugin.data.view_files import write_views
from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

CAPTURE_VERSION = 1
"""Part of the cache key: raise it whenever a rendered pixel or a pose changes."""
CAMERA_ANGLE_X = np.deg2rad(72.0)
"""Horizontal field of view in radians."""
HOLD_OUT_EVERY = 8
"""One in this many views is held out for evaluation."""
_LIMITS: dict[str, tuple[float, float]] = {
    "width": (16, 4096),
    "height": (9, 4096),
    "num_views": (8, 10_000),
    "pose_error": (0.0, 10.0),
    "samples": (1, 16),
}


@dataclass(frozen=True)
class CaptureConfig:
    """What to render.

    Attributes:
        width: width of the pictures in pixels, 16 to 4096.
        height: height of the pictures in pixels, 9 to 4096.
        num_views: views for training and evaluation together, at least 8.
        pose_error: error of the poses in transforms.json, 0 to 10: root mean square of the angle in degrees,
            and of the displacement in per cent of the walk's extent; 0 gives the true poses.
        samples: rays per pixel and direction, 1 to 16; each pixel is the mean of samples^2 rays.

    Raises:
        UserError: when a value is out of its range.
    """

    width: int = 480
    height: int = 270
    num_views: int = 50
    pose_error: float = 0.05
    samples: int = 4

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # false for NaN too
                option = name.replace("_", "-")
                raise UserError(f"capture: {option} must be from {low} to {high}, not {value}")

    @property
    def key(self) -> str:
        """A short name for this configuration and version of the scene."""
        return cache_key({"version": CAPTURE_VERSION, **asdict(self)})

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


def render_capture(folder: Path, config: CaptureConfig, *, show_progress: bool = False) -> None:
    """Render every view into `folder` as a data set in nerfstudio's format, the same bytes at every run.

    Args:
        folder: made if it does not exist; files of the same names are replaced.
        config: what to render.
        show_progress: draw a progress bar on standard error.

    Raises:
        UserError: when Open3D does not load.
        OSError: when a file cannot be written.
    """
    renderer, transforms = capture_renderer(), config.transforms()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "transforms.json", json.dumps(transforms, indent=2))
    size = (config.width, config.height)
    write_views(
        {
            folder / frame["file_path"]: pose
            for frame, pose in zip(transforms["frames"], walk(config.num_views), strict=True)
        },
        lambda pose: renderer.render(pose[:3], size, CAMERA_ANGLE_X, config.samples)[..., :3],
        title="Rendering the capture (once)",
        show_progress=show_progress,
    )


def ensure_capture(
    config: CaptureConfig = CaptureConfig(), cache_dir: Path | None = None, *, show_progress: bool = True
) -> Path:
    """The folder with the rendered capture; it is rendered now if the cache does not hold it whole.

    Args:
        config: what to render.
        cache_dir: where to keep it; `scene_cache.default_cache_dir()` if None.
        show_progress: draw a progress bar on standard error while rendering.

    Raises:
        UserError: when Open3D does not load or the cache cannot be written.
    """

    def render(folder: Path) -> None:
        render_capture(folder, config, show_progress=show_progress)

    return ensure_cached(f"capture-{config.key}", render, cache_dir, what="capture")
