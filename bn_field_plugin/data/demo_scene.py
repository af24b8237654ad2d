"""The embedded scene as a data set in Blender format, rendered once and kept in the user's cache.

The scene stands in [-1, 1]^3 on a round plinth and is full of fine texture: lettering, checkers, rings and
stripes, which a field that learns low frequencies first leaves blurred.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from bn_field_plugin.data.demo_renderer import OBJECTS, shared_renderer
from bn_field_plugin.data.rendering import import_open3d
from bn_field_plugin.data.scene_cache import cache_key, ensure_cached
from bn_field_plugin.data.shapes import Mesh
from bn_field_plugin.data.view_files import write_views
from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

if TYPE_CHECKING:
    from open3d.geometry import TriangleMesh

SCENE_VERSION = 3
"""Part of the cache key: raise it whenever a rendered pixel or a pose changes."""
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
class DemoSceneConfig:
    """What to render.

    Attributes:
        image_size: width and height of the pictures in pixels, 8 to 4096.
        num_train: number of training views, at least 1.
        num_val: number of views to look at while training, at least 1.
        num_test: number of held-out views for the final figures, at least 1.
        samples: rays per pixel and direction, 1 to 16; each pixel is the mean of samples^2 rays.

    Raises:
        UserError: when a value is out of its range.
    """

    image_size: int = 200
    num_train: int = 60
    num_val: int = 4
    num_test: int = 12
    samples: int = 4

    def __post_init__(self) -> None:
        """Check the ranges."""
        limits = {"image_size": (8, 4096), "samples": (1, 16)}
        for field in fields(self):
            low, high = limits.get(field.name, (1, 10_000))
            if not low <= getattr(self, field.name) <= high:
                option = field.name.replace("_", "-")
                raise UserError(
                    f"demo scene: {option} must be from {low} to {high}, not {getattr(self, field.name)}"
                )

    @property
    def key(self) -> str:
        """A short name for this configuration and version of the scene."""
        return cache_key({"version": SCENE_VERSION, **asdict(self)})

    def poses(self, split: str) -> Float[ndarray, "n 4 4"]:
        """Camera-to-world matrices of a split: cameras look along -z at the world's origin, y is up, x right.

        Args:
            split: "train", "val" or "test".
        """
        return camera_poses(getattr(self, f"num_{split}"), _SPLIT_OFFSETS[split])


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


def render_demo_scene(folder: Path, config: DemoSceneConfig, *, show_progress: bool = False) -> None:
    """Render every view into `folder` as a data set in Blender format, the same bytes at every run.

    Args:
        folder: made if it does not exist; files of the same names are replaced.
        config: what to render.
        show_progress: draw a progress bar on standard error.

    Raises:
        UserError: when Open3D does not load.
        OSError: when a file cannot be written.
    """
    renderer = shared_renderer()
    views: dict[Path, Float[ndarray, "4 4"]] = {}
    for split in _SPLIT_OFFSETS:
        (folder / split).mkdir(parents=True, exist_ok=True)
        poses = config.poses(split)
        views |= {folder / split / f"r_{index}.png": pose for index, pose in enumerate(poses)}
        frames = [
            {"file_path": f"./{split}/r_{index}", "transform_matrix": pose.tolist()}
            for index, pose in enumerate(poses)
        ]
        content = json.dumps({"camera_angle_x": CAMERA_ANGLE_X, "frames": frames}, indent=2)
        write_whole(folder / f"transforms_{split}.json", content)

    write_views(
        views,
        lambda pose: renderer.render(pose[:3], config.image_size, CAMERA_ANGLE_X, config.samples),
        title="Rendering the demo scene (once)",
        show_progress=show_progress,
    )


def ensure_demo_scene(
    config: DemoSceneConfig = DemoSceneConfig(), cache_dir: Path | None = None, *, show_progress: bool = True
) -> Path:
    """The folder with the rendered scene; it is rendered now if the cache does not hold it whole.

    Args:
        config: what to render.
        cache_dir: where to keep it; `default_cache_dir()` if None.
        show_progress: draw a progress bar on standard error while rendering.

    Raises:
        UserError: when Open3D does not load or the cache cannot be written.
    """

    def render(folder: Path) -> None:
        render_demo_scene(folder, config, show_progress=show_progress)

    return ensure_cached(f"demo-scene-{config.key}", render, cache_dir, what="demo scene")


# ------------------------------------------------------------------------------------------------- geometry


def demo_scene_mesh() -> Mesh:
    """The true geometry, in the world's coordinates: the closed meshes of all objects, one after the other.

    Objects touch, but do not share vertices. `demo_renderer.scene_signed_distance` is the same geometry as a
    function.
    """
    vertices, faces, start = [], [], 0
    for item in OBJECTS:
        mesh = item.mesh()
        vertices.append(mesh.vertices)
        faces.append(mesh.faces + start)
        start += len(mesh.vertices)
    return Mesh(np.concatenate(vertices), np.concatenate(faces))


def demo_scene_open3d_mesh() -> TriangleMesh:
    """`demo_scene_mesh` as an Open3D mesh with vertex normals.

    Raises:
        UserError: when Open3D does not load.
    """
    open3d, mesh = import_open3d(), demo_scene_mesh()
    result = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices),
        open3d.utility.Vector3iVector(mesh.faces.astype(np.int32)),
    )
    result.compute_vertex_normals()
    return result
