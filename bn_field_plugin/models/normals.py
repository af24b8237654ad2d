"""Normals only where they are wanted: exports always get them, pictures on request."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.models.base_model import Model
from torch import Tensor


class NormalsOnRequest(Model):
    """Mixin, before nerfstudio's class among the bases, of models whose config has `render_normals`."""

    config: Any
    _normals_wanted: bool = True
    """Whether the outputs that are rendered now shall include normals, which cost time."""

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Render an image; without normals unless the config asks for them, since they cost time."""
        self._normals_wanted = self.config.render_normals
        try:
            return super().get_outputs_for_camera_ray_bundle(camera_ray_bundle)
        finally:
            self._normals_wanted = True
