"""The field of cones: Gaussians of frustums and of points, with and without a box."""

import dataclasses
import warnings

import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.utils.math import Gaussians

from bn_field_plugin.errors import UserError
from bn_field_plugin.fields.mip_field import POINT_VARIANCE, MipRadianceField, contracted_variance
from bn_field_plugin.nn import NormName
from tests.nn.cases import NORMED, RUNNING, vary
from tests.scenes import BOX, same_tensors, samples_at, statistics, tiny_sizes


def tiny_mip_field(norm: NormName = "batch", unbounded: bool = False) -> MipRadianceField:
    torch.manual_seed(0)
    field = MipRadianceField(BOX, tiny_sizes(), norm, unbounded)
    vary(field)
    return field


def frustums(num: int, seed: int = 0, spread: float = 0.5, length: float = 0.2) -> Frustums:
    """Frustums around the origin, seen from a distance of 4."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=-1) * 4
    targets = spread * torch.randn(num, 3, generator=generator)
    distance = (targets - origins).norm(dim=-1, keepdim=True)
    return Frustums(
        origins=origins,
        directions=(targets - origins) / distance,
        starts=distance - length / 2,
        ends=distance + length / 2,
        pixel_area=torch.full((num, 1), 1e-4),
    )


def samples_in(cones: Frustums) -> RaySamples:
    return RaySamples(frustums=cones, camera_indices=torch.zeros_like(cones.starts).long())


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_density_and_colour_have_the_shape_of_the_samples(norm: NormName, unbounded: bool) -> None:
    field = tiny_mip_field(norm, unbounded)
    outputs = field(samples_in(frustums(20).reshape((4, 5))))
    assert outputs[FieldHeadNames.DENSITY].shape == (4, 5, 1)
    assert outputs[FieldHeadNames.RGB].shape == (4, 5, 3)
    assert all(value.isfinite().all() for value in outputs.values())


def test_the_trunk_sees_the_gaussians_of_the_frustums_scaled_to_the_box() -> None:
    cones = frustums(30)
    blob = cones.get_gaussian_blob()
    seen, inside = tiny_mip_field().sampled(cones)
    torch.testing.assert_close(seen[:, :3], blob.mean / 1.5)
    torch.testing.assert_close(seen[:, 3:], torch.diagonal(blob.cov, dim1=1, dim2=2) / 1.5**2)
    assert inside is not None
    assert torch.equal(inside, (blob.mean.abs() <= 1.5).all(dim=-1))
    assert 0 < inside.sum() < 30 or inside.all()


def test_the_contraction_of_gaussians_is_nerfstudios() -> None:
    cones = frustums(200, spread=1.5)
    blob = cones.get_gaussian_blob()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nerfstudio calls functions that torch deprecates
        expected = SceneContraction()(Gaussians(blob.mean, blob.cov))
    norms = blob.mean.norm(dim=-1)
    assert (norms < 1).any() and (norms > 4).any()
    variance = contracted_variance(blob.mean, blob.cov)
    torch.testing.assert_close(variance, torch.diagonal(expected.cov, dim1=1, dim2=2))
    seen, inside = tiny_mip_field(unbounded=True).sampled(cones)
    torch.testing.assert_close(seen, torch.cat([expected.mean / 2, variance / 4], dim=-1))
    assert inside is None
    assert seen[:, :3].norm(dim=-1).max() < 1


def test_a_gaussian_at_the_origin_is_not_contracted() -> None:
    cov = torch.rand(1, 3, 3)
    cov = cov @ cov.mT
    torch.testing.assert_close(contracted_variance(torch.zeros(1, 3), cov), torch.diagonal(cov[0])[None])


@pytest.mark.parametrize("unbounded", [False, True])
def test_samples_without_extent_are_cells_of_a_fixed_size(unbounded: bool) -> None:
    """Grids and exports ask at points, without a camera, where the formula of a Gaussian is 0 / 0."""
    field = tiny_mip_field(unbounded=unbounded).eval()
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    samples = samples_at(points)
    assert not samples.frustums.get_gaussian_blob().mean.isfinite().any()
    seen, _ = field.sampled(samples.frustums)
    torch.testing.assert_close(seen[:, 3:], torch.full((20, 3), POINT_VARIANCE))
    torch.testing.assert_close(seen[:, :3], field.normalized(points)[0][:, :3])
    density = field.density_fn(points)
    assert (density > 0).all() and density.isfinite().all()
    assert torch.equal(density, field.get_density(samples)[0])


def test_the_extent_of_a_sample_changes_what_is_seen_of_it() -> None:
    field = tiny_mip_field().eval()
    short, long = (field(samples_in(frustums(20, length=x)))[FieldHeadNames.DENSITY] for x in (0.01, 1.5))
    assert not torch.allclose(short, long, rtol=0.01)


@pytest.mark.parametrize("norm", RUNNING)
def test_frustums_outside_the_box_change_no_statistics(norm: NormName) -> None:
    inside = frustums(32, spread=0.2)
    outside = dataclasses.replace(inside, origins=inside.origins + 50)
    alone, mixed = tiny_mip_field(norm), tiny_mip_field(norm)
    alone(samples_in(inside))
    names = ("origins", "directions", "starts", "ends", "pixel_area")
    both = Frustums(*(torch.cat([getattr(inside, n), getattr(outside, n)]) for n in names))
    density = mixed(samples_in(both))[FieldHeadNames.DENSITY]
    assert (density[32:] == 0).all()
    assert same_tensors(statistics(alone), statistics(mixed))
    assert not same_tensors(statistics(alone), statistics(tiny_mip_field(norm)))


@pytest.mark.parametrize("unbounded", [False, True])
def test_normals_point_against_the_gradient_of_the_density(unbounded: bool) -> None:
    """Oracle: central differences in double precision. Statistics are frozen, in training too."""
    field = tiny_mip_field(unbounded=unbounded).double().train()
    points = (torch.rand(10, 3, generator=torch.Generator().manual_seed(2)) - 0.5).double()
    before = statistics(field)
    normals = field.normals(points)
    assert same_tensors(statistics(field), before)
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    field.eval()
    raw = [field.trunk(field.normalized(points + sign * step[:, None])[0])[..., 0] for sign in (1, -1)]
    slope = (raw[0] - raw[1]).T
    torch.testing.assert_close(normals, -torch.nn.functional.normalize(slope, dim=-1), rtol=1e-5, atol=1e-5)


def test_sines_are_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"activation 'sine' .*: choose relu"):
        MipRadianceField(BOX, dataclasses.replace(tiny_sizes(), activation="sine"))
