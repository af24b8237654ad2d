"""Bounds and background of a scene: the options that every method has for them, and their consequences."""

# No `from __future__ import annotations`: nerfstudio and tyro read the evaluated types of config fields.
from dataclasses import dataclass
from typing import Literal, cast

from nerfstudio.model_components.renderers import RGBRenderer
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.models.background import rgba_without_background

Shown = Literal["random", "last_sample", "black", "white"]
"""Backgrounds of nerfstudio's renderer."""


@dataclass
class SceneConfig:
    """Mixin of configs, before nerfstudio's class among the bases: a scene's bounds and background."""

    scene: Literal["auto", "bounded", "unbounded"] = "auto"
    """Bounded: nothing outside the scene's box. Unbounded: all of space. Auto: bounded for Blender data,
    unbounded for captures."""
    background_color: Literal["auto", "random", "last_sample", "black", "white"] = "auto"
    """Colour behind everything. Auto: white for bounded scenes, the last sample's for unbounded ones."""

    @property
    def is_bounded(self) -> bool:
        """Whether nothing is outside the scene's box.

        Raises:
            UserError: `scene` is still auto, because nobody has looked at the data yet.
        """
        if self.scene == "auto":
            raise UserError(
                "--pipeline.model.scene is auto, and no pipeline of this package has decided by the data: "
                "give bounded or unbounded"
            )
        return self.scene == "bounded"

    def shown_background(self, unbounded: Shown = "last_sample") -> Shown:
        """The renderer's background, with auto resolved.

        Args:
            unbounded: background that auto means for unbounded scenes.

        Raises:
            UserError: both the background and `scene` are auto (see `is_bounded`).
        """
        if self.background_color != "auto":
            return self.background_color
        return "white" if self.is_bounded else unbounded


@dataclass
class CalibratedSceneConfig(SceneConfig):
    """`SceneConfig` for networks with running statistics, which are made exact over some rays."""

    calibration_rays: int = 8192
    """Training rays over which the statistics are made exact before evaluation and before a checkpoint."""
    freeze_norm_at: float = 1.0
    """Share of training after which the statistics, made exact, stay as they are: steps then cost what they
    cost without norm. 1 is never."""


class ExportsColors:
    """Mixin of models, before nerfstudio's class among the bases: exports get colours without background."""

    renderer_rgb: RGBRenderer

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour without the background, and opacity (see `rgba_without_background`)."""
        return rgba_without_background(outputs, cast(str, self.renderer_rgb.background_color), output_name)
