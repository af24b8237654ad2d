"""Tiny data sets of the demo scene for the tests of every package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from bn_field_plugin.data.demo_renderer import shared_renderer
from bn_field_plugin.data.demo_scene import CAMERA_ANGLE_X, DemoScene, camera_poses


def write_blender_capture(
    folder: Path, image_size: int = 32, num_train: int = 8, num_val: int = 2, num_test: int = 2
) -> Path:
    """A small demo scene in Blender format (RGBA, cameras at distance 4).

    Returns:
        The folder.
    """
    scene = DemoScene(image_size, num_train=num_train, num_val=num_val, num_test=num_test, samples=2)
    scene.render(folder)
    return folder


def write_nerfstudio_capture(folder: Path, image_size: int = 32, num_views: int = 12) -> Path:
    """The demo scene in nerfstudio's format: transforms.json with intrinsics, RGB images on white in images/.

    Returns:
        The folder.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for number, pose in enumerate(camera_poses(num_views, (0.5, 0.5))):
        image = shared_renderer().render(pose[:3], image_size, CAMERA_ANGLE_X, samples=2)
        on_white = image[..., :3] * image[..., 3:] + (1 - image[..., 3:])
        name = f"images/frame_{number + 1:05d}.png"
        Image.fromarray(np.rint(255 * on_white).astype(np.uint8)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    focal = 0.5 * image_size / np.tan(0.5 * CAMERA_ANGLE_X)
    meta = {
        "camera_model": "OPENCV",
        "fl_x": focal,
        "fl_y": focal,
        "cx": image_size / 2,
        "cy": image_size / 2,
        "w": image_size,
        "h": image_size,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")
    return folder
