"""nerfacto's fields with BN-MLPs: without norm they are nerfacto's; with one, only samples inside count."""

import copy

import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField

from bn_field_plugin.fields.hash_field import BNDensityField, BNNerfactoField, unit_positions
from bn_field_plugin.nn import NormName
from tests.nn.cases import NORMED, vary
from tests.scenes import BOX, same_tensors, samples_at, statistics

OPTIONS = {
    "hidden_dim": 16,
    "hidden_dim_color": 16,
    "num_levels": 3,
    "base_res": 4,
    "max_res": 16,
    "features_per_level": 2,
    "log2_hashmap_size": 6,
    "appearance_embedding_dim": 4,
    "use_pred_normals": True,
}
PROPOSAL = {"hidden_dim": 8, "num_levels": 3, "max_res": 16, "log2_hashmap_size": 6}


def points(num: int, seed: int = 0) -> torch.Tensor:
    """Points well inside the box."""
    return torch.rand(num, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def field(norm: NormName = "batch", unbounded: bool = False) -> BNNerfactoField:
    torch.manual_seed(0)
    distortion = SceneContraction(order=float("inf")) if unbounded else None
    made = BNNerfactoField(BOX, 5, norm, "torch", spatial_distortion=distortion, **OPTIONS)
    with torch.no_grad():
        made.mlp_base.encoding.tables.uniform_(-1, 1)
    vary(made)
    return made


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_without_norm_it_is_nerfactos_field(training: bool, unbounded: bool) -> None:
    """Oracle: nerfstudio's own field with the same numbers."""
    ours = field("none", unbounded).train(training)
    theirs = NerfactoField(
        BOX, 5, implementation="torch", spatial_distortion=ours.spatial_distortion, **OPTIONS
    ).train(training)
    shared = {k: v for k, v in ours.state_dict().items() if not k.startswith(("mlp_base", "mlp_head"))}
    theirs.load_state_dict(shared, strict=False)
    with torch.no_grad():
        encoder, mlp = theirs.mlp_base.model
        encoder.hash_table.copy_(ours.mlp_base.encoding.tables)
        pairs = [(mlp, ours.mlp_base.mlp), (theirs.mlp_head, ours.mlp_head.mlp)]
        for theirs_mlp, ours_mlp in pairs:
            for mine, linear in zip(theirs_mlp.layers, ours_mlp.linears, strict=True):
                mine.weight.copy_(linear.weight)
                mine.bias.copy_(linear.bias)
    samples = samples_at(points(24).reshape(4, 6, 3))
    a, b = ours(samples), theirs(samples)
    for name in (FieldHeadNames.DENSITY, FieldHeadNames.RGB, FieldHeadNames.PRED_NORMALS):
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMED)
def test_samples_outside_are_empty_and_unseen(norm: NormName) -> None:
    """Samples outside change neither the statistics nor the values inside."""
    one, other = field(norm).train(), field(norm).train()
    inside, outside = points(30), points(30, seed=1) + 4
    mixed = torch.cat([inside, outside])[None]
    a, b = one(samples_at(inside[None])), other(samples_at(mixed))
    assert same_tensors(statistics(one), statistics(other))
    for name in (FieldHeadNames.DENSITY, FieldHeadNames.RGB):
        torch.testing.assert_close(b[name][:, :30], a[name])
        assert (b[name][:, 30:] == 0).all()


@pytest.mark.parametrize("norm", NORMED)
def test_normals_are_those_of_the_frozen_density(norm: NormName) -> None:
    """Oracle: finite differences in evaluation, of one point at a time, where no other point has a part."""
    made = field(norm).train()
    where = points(6)
    normals = made(samples_at(where[None]), compute_normals=True)[FieldHeadNames.NORMALS][0]
    frozen = copy.deepcopy(made).eval().double()
    step = 1e-6

    def raw(point: torch.Tensor) -> torch.Tensor:
        return frozen.mlp_base(unit_positions(frozen, point[None])[0])[:, :1]

    for point, normal in zip(where.double(), normals, strict=True):
        ahead = torch.eye(3, dtype=torch.float64) * step
        slope = torch.cat([raw(point + a) - raw(point - a) for a in ahead])
        expected = -torch.nn.functional.normalize(slope[:, 0], dim=0)
        torch.testing.assert_close(normal.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_evaluation_does_not_depend_on_the_company(norm: NormName) -> None:
    made = field(norm).eval()
    where = points(64)
    with torch.no_grad():
        whole = made.density_fn(where)
        parts = torch.cat([made.density_fn(part) for part in where.split(7)])
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def proposal(norm: NormName) -> BNDensityField:
    torch.manual_seed(0)
    made = BNDensityField(BOX, norm, "torch", **PROPOSAL)
    vary(made)
    return made


def test_a_proposal_without_norm_is_nerfactos() -> None:
    ours = proposal("none")
    theirs = HashMLPDensityField(BOX, implementation="torch", **PROPOSAL)
    with torch.no_grad():
        theirs.encoding.hash_table.copy_(ours.encoding.tables)
        for mine, linear in zip(theirs.mlp_base[1].layers, ours.mlp_base[1].linears, strict=True):
            mine.weight.copy_(linear.weight)
            mine.bias.copy_(linear.bias)
    where = torch.cat([points(20), points(5) + 4])
    torch.testing.assert_close(ours.density_fn(where), theirs.density_fn(where))


def test_a_proposal_pass_without_gradients_changes_nothing() -> None:
    made = proposal("batch").train()
    before = statistics(made)
    with torch.no_grad():
        made.density_fn(points(20))
    assert same_tensors(statistics(made), before)
    made.density_fn(points(20))
    assert not same_tensors(statistics(made), before)


def test_a_linear_proposal_is_nerfactos() -> None:
    made = BNDensityField(BOX, "batch", "torch", use_linear=True, **PROPOSAL)
    density = made.density_fn(points(8))
    assert density.shape == (8, 1)
    assert not statistics(made)
