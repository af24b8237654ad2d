"""Signed distances: a sphere at the start, a normal for each sample alone, and nothing outside."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.sdf_field import SDFField
from torch import Tensor

from bn_field_plugin.fields.sdf_field import BNSDFField, BNSDFFieldConfig
from bn_field_plugin.nn import NormName, calibrate, gradients
from bn_field_plugin.nn.norms import NORMS
from tests.nn.cases import vary
from tests.scenes import BOX, same_tensors, statistics
from tests.scenes import samples_at as still_samples_at


def field(norm: NormName = "batch", start: bool = False, box: Tensor = BOX, **sizes: object) -> BNSDFField:
    """A small field in fp64; `start` leaves it as training finds it."""
    settings = {"width": 16, "geo_feat_dim": 5, "head_width": 16, "position_frequencies": 2, **sizes}
    torch.manual_seed(0)
    made = BNSDFField(BNSDFFieldConfig(**settings), box, norm)
    vary(made)
    if not start:
        with torch.no_grad():
            made.trunk.output.weight.normal_(0, 0.3)
    return made.double()


def samples_at(where: Tensor, directions: Tensor | None = None, length: float = 0.1) -> RaySamples:
    """Samples that stand for sections of a ray of some length."""
    samples = still_samples_at(where, directions)
    samples.deltas = torch.full_like(where[..., :1], length)
    return samples


def points(num: int, seed: int = 0, reach: float = 1.4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(num, 3, generator=generator, dtype=torch.float64) - 1) * reach


def differences(made: BNSDFField, where: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of the distance that evaluation gives."""
    made.eval()
    with torch.no_grad():
        shifts = step * torch.eye(3, dtype=where.dtype)
        pairs = [(made.signed_distance(where + d), made.signed_distance(where - d)) for d in shifts]
    return torch.cat([(high - low) / (2 * step) for high, low in pairs], dim=-1)


# The sphere.


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_training_starts_from_a_sphere_whatever_the_norm(norm: NormName, training: bool) -> None:
    made, where = field(norm, start=True, radius=0.4).train(training), points(50)
    distance, gradient, _ = made.distance_and_gradient(where)
    torch.testing.assert_close(distance, where.norm(dim=-1, keepdim=True) - 1.5 * 0.4)
    torch.testing.assert_close(gradient, torch.nn.functional.normalize(where, dim=-1))


def test_a_room_starts_inside_a_sphere() -> None:
    made, where = field(start=True, radius=0.4, inside_out=True), points(50)
    distance, gradient, _ = made.distance_and_gradient(where)
    torch.testing.assert_close(distance, 0.6 - where.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(gradient, -torch.nn.functional.normalize(where, dim=-1))


def test_the_sphere_lies_in_the_middle_of_any_box() -> None:
    box = torch.tensor([[0.0, -1.0, 2.0], [4.0, 1.0, 3.0]])
    made = field(start=True, box=box).eval()
    center = torch.tensor([[2.0, 0.0, 2.5]], dtype=torch.float64)
    torch.testing.assert_close(made.signed_distance(center), torch.full((1, 1), -1.0, dtype=torch.float64))
    _, gradient, _ = made.distance_and_gradient(center)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_all_layers_learn_from_the_start_on(norm: NormName) -> None:
    """Colours train the trunk at the start, when the last layer's zeros stop the distance's gradient."""
    made = field(norm, start=True).train()
    outputs = made(samples_at(points(60)), return_alphas=True)
    (outputs[FieldHeadNames.RGB].square().mean() + outputs[FieldHeadNames.ALPHA].mean()).backward()
    assert made.trunk.output.weight.grad[0].abs().sum() > 0
    assert made.trunk.layers[0].linear.weight.grad.abs().sum() > 0
    assert made.deviation_network.variance.grad.abs() > 0


# Normals.


@pytest.mark.parametrize("norm", NORMS)
def test_rendered_normals_are_the_derivative_of_evaluation_and_each_samples_own(norm: NormName) -> None:
    made, where = field(norm).eval(), points(20)
    with torch.no_grad():
        together, alone = made(samples_at(where)), made(samples_at(where[7:8]))
    expected = differences(made, where)
    torch.testing.assert_close(together[FieldHeadNames.GRADIENT], expected, rtol=1e-5, atol=1e-6)
    for name in (FieldHeadNames.NORMALS, FieldHeadNames.SDF, FieldHeadNames.RGB):
        torch.testing.assert_close(together[name][7:8], alone[name])


@pytest.mark.parametrize("norm", NORMS)
def test_training_normals_are_those_of_evaluation_with_the_batchs_statistics(norm: NormName) -> None:
    made, where = field(norm).train(), points(20)
    gradient = made(samples_at(where))[FieldHeadNames.GRADIENT].detach()
    calibrate(made.trunk, [made.scaled(where)])
    torch.testing.assert_close(gradient, differences(made, where), rtol=1e-5, atol=1e-6)


def test_a_training_normal_does_not_ask_what_the_others_distances_are() -> None:
    """Oracle: the Jacobian of all distances with fixed statistics, one sample after the other."""
    made, where = field("batch").train(), points(12)
    gradient = made(samples_at(where))[FieldHeadNames.GRADIENT].detach()
    calibrate(made.trunk, [made.scaled(where)])
    jacobian = torch.autograd.functional.jacobian(lambda x: made.eval().signed_distance(x)[:, 0], where)
    for i, own in enumerate(gradient):
        torch.testing.assert_close(jacobian[i, i], own)
        assert not jacobian[i, torch.arange(12) != i].any()


def test_normals_are_wrong_without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def unguarded(_: object):
        yield False

    monkeypatch.setattr(gradients, "held_statistics", unguarded)
    made, where = field("batch").train(), points(20)
    gradient = made(samples_at(where))[FieldHeadNames.GRADIENT].detach()
    calibrate(made.trunk, [made.scaled(where)])
    assert (gradient - differences(made, where)).abs().max() > 1e-2


# Opacity and density.


def test_opacity_is_neuss() -> None:
    """Equation 13 of NeuS: how much the sigmoid falls over a section, relative to its start."""
    made = field("none", start=True).eval()
    where = torch.tensor([[0.8, 0.0, 0.0]], dtype=torch.float64)
    samples = samples_at(where, torch.tensor([[-1.0, 0.0, 0.0]], dtype=torch.float64))
    s, f = made.sharpness.detach(), 0.8 - 0.75
    start, end = torch.sigmoid(s * (f + 0.05)), torch.sigmoid(s * (f - 0.05))
    with torch.no_grad():
        alpha = made(samples, return_alphas=True)[FieldHeadNames.ALPHA]
    torch.testing.assert_close(alpha[0], (start - end) / start, rtol=1e-4, atol=1e-6)


def test_density_is_half_the_sharpness_on_the_surface_and_falls_outwards() -> None:
    made = field("none", start=True)
    where = torch.tensor([[0.74, 0, 0], [0.75, 0, 0], [0.76, 0, 0], [1.4, 0, 0]], dtype=torch.float64)
    with torch.no_grad():
        density = made.density_fn(where)[:, 0]
    assert (density.diff() < 0).all()
    torch.testing.assert_close(density[1], made.sharpness[0].detach() / 2)
    assert density[-1] < 1e-3


def test_evaluation_has_no_softened_opacity() -> None:
    made = field("none")
    made.set_cos_anneal_ratio(0.25)
    assert made.train()._cos_anneal_ratio == 0.25
    assert made.eval()._cos_anneal_ratio == 1.0


# Outside.


@pytest.mark.parametrize("norm", NORMS)
def test_samples_outside_are_empty_and_count_for_nothing(norm: NormName) -> None:
    inside, outside = points(20), points(10) + 4
    one, other = field(norm).train(), field(norm).train()
    expected = one(samples_at(inside), return_alphas=True)
    outputs = other(samples_at(torch.cat([inside, outside])), return_alphas=True)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name][:20], value)
    assert not outputs[FieldHeadNames.ALPHA][20:].any()
    assert not outputs[FieldHeadNames.RGB][20:].any()
    torch.testing.assert_close(
        outputs[FieldHeadNames.GRADIENT][20:].norm(dim=-1), torch.ones(10, dtype=torch.float64)
    )
    assert same_tensors(statistics(one), statistics(other))


def test_nothing_inside_is_no_error() -> None:
    outputs = field().train()(samples_at(points(10) + 4), return_alphas=True)
    assert not outputs[FieldHeadNames.ALPHA].any()


def test_nerfstudio_finds_the_names_of_its_own_field() -> None:
    made = field().eval()
    assert isinstance(made, SDFField)
    with torch.no_grad():
        raw = made.forward_geonetwork(points(6))
        assert raw.shape == (6, 1 + 5)
        samples = samples_at(points(6).reshape(2, 3, 3))
        assert made.get_sdf(samples).shape == (2, 3, 1)
        torch.testing.assert_close(made.get_sdf(samples).flatten(), raw[:, 0])
