"""The dataparser of the embedded capture: `ns-train METHOD bn-capture-data` needs no path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio, NerfstudioDataParserConfig

from bn_field_plugin.data.self_rendering import RendersItself


@dataclass
class BNCaptureDataParserConfig(NerfstudioDataParserConfig):
    """The embedded capture, rendered on first use and kept in the user's cache (or in $BN_FIELD_CACHE)."""

    rendered_name: ClassVar[str] = "bn-capture"
    """Name of experiments on the rendered scene that were given no name."""
    _target: type = field(default_factory=lambda: BNCapture)
    """target class to instantiate"""
    data: Path | None = None  # type: ignore[assignment]
    """Folder of a capture that was rendered before, whatever its size. If not set, the capture is rendered
    into the cache on first use."""
    downscale_factor: int | None = 1
    """How much to downscale images; the capture has them in one size only."""
    width: int = 480
    """Width of the rendered pictures in pixels."""
    height: int = 270
    """Height of the rendered pictures in pixels."""
    num_views: int = 50
    """Number of views; one in eight is held out for evaluation."""
    pose_error: float = 0.05
    """How wrong the poses are: root mean square angle in degrees, and displacement in per cent of the walk's
    extent; 0 for the true ones."""
    samples: int = 4
    """Rays per pixel and direction; each pixel is the mean of the square of this."""

    def rendered(self) -> Path:
        """The folder of the scene, which is rendered if it is not there yet."""
        # Imported here and not above, because every ns-* command imports this module at its start.
        from bn_field_plugin.data.capture_scene import CaptureScene

        return CaptureScene.like(self).ensure()


class BNCapture(RendersItself, Nerfstudio):
    """Dataparser of nerfstudio's own format that renders its data when no path is given."""

    config: BNCaptureDataParserConfig
    scene = "capture"
    index_file = "transforms.json"
    remedy = "(nerfstudio-data, blender-data) instead of bn-capture-data"
