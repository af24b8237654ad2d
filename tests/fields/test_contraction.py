"""The contraction is nerfstudio's, values and gradients."""

import torch
from nerfstudio.field_components.spatial_distortions import SceneContraction

from bn_field_plugin.fields.contraction import CubeContraction


def test_it_is_nerfstudios() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = 10 ** (6 * torch.rand(500, 1, generator=generator, dtype=torch.float64) - 3)
    points = torch.randn(500, 3, generator=generator, dtype=torch.float64) * scales
    results = []
    for contraction in (CubeContraction(), SceneContraction(order=float("inf"))):
        x = points.clone().requires_grad_()
        y = contraction(x)
        (slope,) = torch.autograd.grad((y * torch.tensor([1.0, 2.0, 3.0])).sum(), x)
        results.append((y, slope))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_origin_and_the_border_are_kept() -> None:
    kept = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5]])
    assert torch.equal(CubeContraction()(kept), kept)
    assert CubeContraction()(torch.tensor([[1e9, 0, 0]])).tolist() == [[2, 0, 0]]
