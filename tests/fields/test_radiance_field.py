"""The radiance field: what it returns, which samples reach its norms, and the normals of its density."""

import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames

from bn_field_plugin.nn import batch_statistics, frozen_statistics, running_norms
from tests.nn.cases import NORMED, RUNNING
from tests.scenes import BOX, same_tensors, samples_at, statistics, tiny_field


def points(num: int, seed: int = 0) -> torch.Tensor:
    """Points well inside the box."""
    return torch.rand(num, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def directions(num: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=-1)


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_density_and_colour_have_the_shape_of_the_samples(norm: str, unbounded: bool) -> None:
    field = tiny_field(norm, unbounded)
    outputs = field(samples_at(points(20).reshape(4, 5, 3)))
    density, rgb = outputs[FieldHeadNames.DENSITY], outputs[FieldHeadNames.RGB]
    assert density.shape == (4, 5, 1)
    assert rgb.shape == (4, 5, 3)
    assert (density > 0).all()
    assert (0 <= rgb).all()
    assert (rgb <= 1).all()


@pytest.mark.parametrize("unbounded", [False, True])
def test_the_pass_in_one_equals_density_and_colour_apart(unbounded: bool) -> None:
    field = tiny_field(unbounded=unbounded).eval()
    samples = samples_at(points(20) * 2, directions(20))  # some outside the box
    density, features = field.get_density(samples)
    rgb = field.get_outputs(samples, features)[FieldHeadNames.RGB]
    joint = field(samples)
    assert torch.equal(joint[FieldHeadNames.DENSITY], density)
    assert torch.equal(joint[FieldHeadNames.RGB], rgb)


def test_outside_the_box_there_is_nothing() -> None:
    field = tiny_field().eval()
    outside = torch.tensor([[1.6, 0, 0], [0, -1.501, 0], [0, 0, 1e6], [9, 9, 9]])
    outputs = field(samples_at(outside))
    assert (outputs[FieldHeadNames.DENSITY] == 0).all()
    assert (outputs[FieldHeadNames.RGB] == 0).all()
    assert (field.density_fn(outside) == 0).all()
    assert (field.density_fn(BOX.clone()) > 0).all()  # its corners belong to it


def test_without_a_box_all_of_space_has_density() -> None:
    far = torch.tensor([[1.6, 0, 0], [0, -50.0, 0], [0, 0, 1e6]])
    assert (tiny_field(unbounded=True).eval().density_fn(far) > 0).all()


@pytest.mark.parametrize("norm", RUNNING)
def test_samples_outside_the_box_change_no_statistics(norm: str) -> None:
    """Statistics are bit for bit those without these samples, whatever their values and number."""
    inside, outside = points(32), points(40, seed=1) + 5
    alone, mixed = tiny_field(norm), tiny_field(norm)
    alone(samples_at(inside, directions(32)))
    seen = mixed(
        samples_at(
            torch.cat([outside[:20], inside, outside[20:]]),
            torch.cat([directions(20, 1), directions(32), directions(20, 2)]),
        )
    )
    assert same_tensors(statistics(alone), statistics(mixed))
    assert not same_tensors(statistics(alone), statistics(tiny_field(norm)))
    expected = tiny_field(norm)(samples_at(inside, directions(32)))
    for name in (FieldHeadNames.DENSITY, FieldHeadNames.RGB):
        assert torch.equal(seen[name][20:52], expected[name])


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_a_batch_wholly_outside_trains_without_error_and_changes_no_statistics(norm: str) -> None:
    field = tiny_field(norm)
    before = statistics(field)
    outputs = field(samples_at(points(12).reshape(3, 4, 3) + 7))
    (outputs[FieldHeadNames.DENSITY].sum() + outputs[FieldHeadNames.RGB].sum()).backward()
    assert same_tensors(statistics(field), before)
    assert all(p.grad is None or (p.grad == 0).all() for p in field.parameters())


@pytest.mark.parametrize("norm", RUNNING)
def test_passes_without_gradients_or_in_evaluation_change_no_statistics(norm: str) -> None:
    """nerfstudio's density functions, occupancy grids, viewer and exports make such passes."""
    field = tiny_field(norm)
    before = statistics(field)
    reference = tiny_field(norm).eval()(samples_at(points(16)))
    with torch.no_grad():
        field.train()
        torch.testing.assert_close(field.density_fn(points(16)), reference[FieldHeadNames.DENSITY])
        field(samples_at(points(16)))
    field.eval()
    field(samples_at(points(16)))
    field.train()
    with batch_statistics(field), torch.no_grad():
        field(samples_at(points(16)))
    assert same_tensors(statistics(field), before)


# ----------------------------------------------------------------------------------------------- normals


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_normals_are_those_of_the_evaluated_density(norm: str, training: bool) -> None:
    """Oracle: central differences, in fp64, of the density that evaluation renders."""
    field = tiny_field(norm).double().train(training)
    where = points(12).double()
    normals = field.normals(where)
    field.eval()
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    raw = [field.trunk(field.normalized(where + sign * step[:, None])[0])[..., 0] for sign in (1, -1)]
    gradient = ((raw[0] - raw[1]) / 2e-5).T
    torch.testing.assert_close(
        normals, -torch.nn.functional.normalize(gradient, dim=-1), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(12).double())


@pytest.mark.parametrize("norm", RUNNING)
def test_a_normal_does_not_depend_on_the_other_samples(norm: str) -> None:
    """With batch statistics, the gradient of one sample would be a part of another's normal."""
    field = tiny_field(norm).double()
    where = points(12).double()
    before = statistics(field)
    together = field.normals(where)
    apart = torch.cat([field.normals(point[None]) for point in where])
    torch.testing.assert_close(together, apart)
    assert same_tensors(statistics(field), before)
    assert {n.mode for n in running_norms(field)} == {n.mode for n in running_norms(tiny_field(norm))}


def test_normals_leave_gradients_and_modes_alone() -> None:
    field = tiny_field()
    with torch.no_grad():
        where = points(8)
        normals = field.normals(where)
    assert not normals.requires_grad
    assert all(p.grad is None for p in field.parameters())
    assert field.training
    with frozen_statistics(field):
        torch.testing.assert_close(field.normals(where), normals)


def test_normals_come_with_the_outputs_where_asked_for() -> None:
    field = tiny_field().eval()
    where = points(8)
    outputs = field(samples_at(where), compute_normals=True)
    assert torch.equal(outputs[FieldHeadNames.NORMALS], field.normals(where))


# --------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_density_and_colour_are_single_precision_under_autocast(norm: str) -> None:
    field = tiny_field(norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = field(samples_at(points(64), directions(64)))
    density, rgb = outputs[FieldHeadNames.DENSITY], outputs[FieldHeadNames.RGB]
    assert density.dtype == rgb.dtype == torch.float32
    assert all(value.dtype != torch.bfloat16 for value in statistics(field).values())
    (density.mean() + rgb.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in field.parameters())
    precise = tiny_field(norm)(samples_at(points(64), directions(64)))
    torch.testing.assert_close(rgb, precise[FieldHeadNames.RGB], rtol=0.1, atol=0.05)
