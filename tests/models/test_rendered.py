"""The largest density on each ray."""

import torch

from bn_field_plugin.models.rendered import densest
from bn_field_plugin.sampling import PackedSamples


def test_the_densest_sample_is_each_rays_own_and_nothing_where_there_is_none() -> None:
    density = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    some = torch.ones(3)
    samples = PackedSamples(torch.tensor([0, 0, 2]), some, some, torch.tensor([0, 2, 2, 3]))
    found = densest(density, samples)
    assert found.tolist() == [[3.0], [0.0], [2.0]]
    assert not found.requires_grad
