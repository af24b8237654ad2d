"""Rendering of many rays, which nerfstudio hands over in one call, a few at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import cast

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.models.base_model import Model
from torch import Tensor


def render_in_chunks(
    render: Callable[[RayBundle], dict[str, Tensor]], ray_bundle: RayBundle, rays_per_chunk: int
) -> dict[str, Tensor]:
    """Outputs of all rays, of which `render` sees at most `rays_per_chunk` at a time.

    nerfstudio's exports, for instance, hand over 32,768 rays in one call. Bundles of more than one dimension
    are rendered whole.
    """
    if len(ray_bundle) <= rays_per_chunk or ray_bundle.origins.ndim != 2:
        return render(ray_bundle)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for start in range(0, len(ray_bundle), rays_per_chunk):
        for name, value in render(ray_bundle[start : start + rays_per_chunk]).items():
            parts[name].append(value)
    return {name: torch.cat(values) for name, values in parts.items()}


class RendersInChunks(Model):
    """Mixin of models, before nerfstudio's class among the bases: bounds the rays rendered at a time."""

    def forward(  # type: ignore[override]  # nerfstudio's also takes cameras, for splats
        self, ray_bundle: RayBundle
    ) -> dict[str, Tensor]:
        """Render rays; in evaluation, at most `eval_num_rays_per_chunk` of them at a time."""
        render = cast(Callable[[RayBundle], dict[str, Tensor]], super().forward)
        if self.training:
            return render(ray_bundle)
        return render_in_chunks(render, ray_bundle, self.config.eval_num_rays_per_chunk)
