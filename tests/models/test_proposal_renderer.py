"""Samples of a capture: packed as the compositing takes them, in training and in evaluation."""

import torch
from nerfstudio.model_components.ray_samplers import UniformSampler

from bn_field_plugin.models.proposal_renderer import packed
from bn_field_plugin.sampling import composite
from tests.scenes import rays


def test_packed_samples_are_nerfstudios() -> None:
    """Oracle: nerfstudio's own weights."""
    bundle = rays(5)
    bundle.nears, bundle.fars = torch.full((5, 1), 2.0), torch.full((5, 1), 6.0)
    ray_samples = UniformSampler(num_samples=7)(bundle)
    samples = packed(ray_samples)
    density = torch.rand(5, 7, 1)
    weights = ray_samples.get_weights(density)
    seen = composite(density.reshape(-1), torch.rand(35, 3), samples)
    torch.testing.assert_close(seen.weights.view(5, 7, 1), weights)
    assert samples.counts.tolist() == [7] * 5


def test_no_rays_have_no_samples() -> None:
    bundle = rays(1)[:0]
    bundle.nears, bundle.fars = torch.zeros(0, 1), torch.ones(0, 1)
    samples = packed(UniformSampler(num_samples=4)(bundle))
    assert samples.num == 0
    assert samples.first.tolist() == [0]
