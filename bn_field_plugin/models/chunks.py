"""Rendering many rays a few at a time, where nerfstudio hands them over in one call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor


def render_in_chunks(
    render: Callable[[RayBundle], dict[str, Tensor]], ray_bundle: RayBundle, rays_per_chunk: int
) -> dict[str, Tensor]:
    """Outputs of all rays, of which `render` sees at most `rays_per_chunk` at a time.

    Exports hand over 32,768 rays in one call. Bundles of more than one dimension are rendered whole.
    """
    if len(ray_bundle) <= rays_per_chunk or ray_bundle.origins.ndim != 2:
        return render(ray_bundle)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for start in range(0, len(ray_bundle), rays_per_chunk):
        for name, value in render(ray_bundle[start : start + rays_per_chunk]).items():
            parts[name].append(value)
    return {name: torch.cat(values) for name, values in parts.items()}
