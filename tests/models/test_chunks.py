"""Many rays rendered a few at a time."""

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from bn_field_plugin.models.chunks import render_in_chunks
from tests.scenes import rays


def test_chunks_are_small_and_their_outputs_joined_in_order() -> None:
    sizes = []

    def render(bundle: RayBundle) -> dict[str, Tensor]:
        sizes.append(len(bundle))
        return {"origins": bundle.origins}

    bundle = rays(10)
    assert torch.equal(render_in_chunks(render, bundle, 4)["origins"], bundle.origins)
    assert sizes == [4, 4, 2]


def test_few_rays_are_rendered_whole() -> None:
    bundle = rays(10)
    assert render_in_chunks(lambda given: {"same": given is bundle}, bundle, 10) == {"same": True}  # type: ignore[dict-item]
