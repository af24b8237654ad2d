"""The field on a hash grid: bounds, statistics, normals."""

import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames

from bn_field_plugin.fields.hash_encoding import hash_encoding, nerfacto_grid
from bn_field_plugin.fields.hash_radiance_field import HashRadianceField
from bn_field_plugin.nn import HashGridEncoding, NormName, frozen_statistics
from tests.nn.cases import NORMED, vary
from tests.scenes import BOX, same_tensors, samples_at, statistics, tiny_ngp_config


def field(norm: NormName = "batch", unbounded: bool = False) -> HashRadianceField:
    torch.manual_seed(0)
    made = HashRadianceField(BOX, tiny_ngp_config().network, norm, unbounded)
    vary(made)
    return made


def points(num: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("norm", NORMED)
def test_samples_outside_are_empty_and_unseen(norm: NormName) -> None:
    one, other = field(norm).train(), field(norm).train()
    inside, outside = points(30), points(30, seed=1) + 4
    a = one(samples_at(inside[None]))
    b = other(samples_at(torch.cat([inside, outside])[None]))
    assert same_tensors(statistics(one), statistics(other))
    for name in (FieldHeadNames.DENSITY, FieldHeadNames.RGB):
        torch.testing.assert_close(b[name][:, :30], a[name])
        assert (b[name][:, 30:] == 0).all()


def test_unbounded_space_is_all_inside() -> None:
    made = field(unbounded=True).eval()
    density = made(samples_at(points(20)[None] * 1000))[FieldHeadNames.DENSITY]
    assert density.isfinite().all()
    assert (density > 0).all()


@pytest.mark.parametrize("unbounded", [False, True])
def test_normals_are_those_of_the_frozen_density(unbounded: bool) -> None:
    """Oracle: central differences."""
    made = field(unbounded=unbounded).train()
    where = points(40) * 0.9
    normals = made.normals(where)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(40))
    step = 1e-3
    with torch.no_grad(), frozen_statistics(made):
        slopes = torch.stack(
            [
                made.density_at(where + step * axis)[0].log() - made.density_at(where - step * axis)[0].log()
                for axis in torch.eye(3)
            ],
            dim=-1,
        )
    cosine = torch.nn.functional.cosine_similarity(-slopes, normals, dim=-1)
    assert cosine.median() > 0.999  # differences across a cell's border are no derivatives


def test_sizes_of_nerfactos_grid_are_taken_over() -> None:
    options = {"num_levels": 3, "features_per_level": 2, "base_res": 4, "max_res": 9, "log2_hashmap_size": 6}
    grid = hash_encoding(nerfacto_grid(options), "torch")
    assert isinstance(grid, HashGridEncoding)
    assert [level.resolution for level in grid.levels] == [4, 6, 9]
    assert grid.out_dim == 6
