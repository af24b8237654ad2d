"""The field behind an occupancy grid: packed samples, densities that leave no trace, one sample alone."""

import pytest
import torch
from nerfstudio.field_components.field_heads import FieldHeadNames

from bn_field_plugin.fields.packed_field import PackedHashField
from bn_field_plugin.nn import NormName, calibrate, running_norms
from tests.nn.cases import NORMED, RUNNING, vary
from tests.scenes import BOX, same_tensors, samples_at, statistics


def tiny_packed_field(norm: NormName = "batch") -> PackedHashField:
    torch.manual_seed(0)
    field = PackedHashField(
        BOX,
        3,
        norm,
        "torch",
        hidden_dim=16,
        hidden_dim_color=16,
        num_levels=3,
        base_res=4,
        max_res=16,
        features_per_level=2,
        log2_hashmap_size=8,
        appearance_embedding_dim=0,
    )
    vary(field)
    return field


def points(num: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("norm", ["none", *NORMED])
def test_packed_samples_have_density_and_colour_and_gradients(norm: NormName) -> None:
    field = tiny_packed_field(norm).train()
    outputs = field(samples_at(points(40)))
    assert outputs[FieldHeadNames.DENSITY].shape == (40, 1)
    assert outputs[FieldHeadNames.RGB].shape == (40, 3)
    sum(value.sum() for value in outputs.values()).backward()
    assert field.mlp_base.encoding.hash_table.grad.abs().sum() > 0


@pytest.mark.parametrize("norm", RUNNING)
def test_densities_read_the_running_statistics_and_leave_them(norm: NormName) -> None:
    """In training and with gradients, as no caller of nerfacc's promises to be without them."""
    field = tiny_packed_field(norm)
    expected = field.eval().density_fn(points(40))
    before = statistics(field)
    assert before
    density = field.train().density_fn(points(40))
    assert density.requires_grad
    assert same_tensors(statistics(field), before)
    torch.testing.assert_close(density, expected)
    field(samples_at(points(40)))
    assert not same_tensors(statistics(field), before)


@pytest.mark.parametrize("norm", RUNNING)
def test_densities_are_not_what_statistics_are_made_exact_over(norm: NormName) -> None:
    """A sampler asks for densities before the samples are rendered; it must not be taken for the render."""
    field, plain = tiny_packed_field(norm).train(), tiny_packed_field(norm).train()

    def render(samples: torch.Tensor) -> None:
        field.density_fn(samples + 0.3)
        field(samples_at(samples))

    batches = [points(40, seed) for seed in range(3)]
    assert calibrate(field, batches, render) == len(running_norms(field))
    calibrate(plain, batches, lambda samples: plain(samples_at(samples)))
    assert same_tensors(statistics(field), statistics(plain))


@pytest.mark.parametrize("norm", RUNNING)
def test_one_sample_alone_is_rendered_with_the_running_statistics(norm: NormName) -> None:
    field = tiny_packed_field(norm)
    expected = field.eval()(samples_at(points(1)))
    before = statistics(field)
    torch.testing.assert_close(field.train()(samples_at(points(1))), expected)
    assert same_tensors(statistics(field), before)
