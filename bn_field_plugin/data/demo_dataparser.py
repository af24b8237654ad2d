"""The dataparser of the embedded scene: `ns-train METHOD bn-demo-data` needs no path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nerfstudio.data.dataparsers.blender_dataparser import Blender, BlenderDataParserConfig

from bn_field_plugin.data.self_rendering import RendersItself


@dataclass
class BNDemoDataParserConfig(BlenderDataParserConfig):
    """The embedded scene, rendered on first use and kept in the user's cache (or in $BN_FIELD_CACHE)."""

    rendered_name: ClassVar[str] = "bn-demo"
    """Name of experiments on the rendered scene that were given no name."""
    _target: type = field(default_factory=lambda: BNDemo)
    """target class to instantiate"""
    data: Path | None = None  # type: ignore[assignment]
    """Folder of a demo scene that was rendered before, whatever its size. If not set, the scene is rendered
    into the cache on first use."""
    image_size: int = 200
    """Width and height of the rendered pictures in pixels."""
    num_train: int = 60
    """Number of training views."""
    num_val: int = 4
    """Number of validation views."""
    num_test: int = 12
    """Number of held-out test views."""
    samples: int = 4
    """Rays per pixel and direction; each pixel is the mean of the square of this."""

    def rendered(self) -> Path:
        """The folder of the scene, which is rendered if it is not there yet."""
        # Imported here and not above, because every ns-* command imports this module at its start.
        from bn_field_plugin.data.demo_scene import DemoScene

        return DemoScene.like(self).ensure()


class BNDemo(RendersItself, Blender):
    """Blender-format dataparser that renders its own data when no path is given."""

    config: BNDemoDataParserConfig
    scene = "demo scene"
    index_file = "transforms_train.json"
    remedy = "(blender-data, nerfstudio-data) instead of bn-demo-data"
