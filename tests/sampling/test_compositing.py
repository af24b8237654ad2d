"""Compositing by torch and by compiled loops equals emission and absorption, written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bn_field_plugin.sampling import (
    Composite,
    PackedSamples,
    composite,
    compositing,
    compositing_kernels,
    light_along,
    median_depth,
    sample_weights,
)
from bn_field_plugin.sampling.compositing import composite_by_torch, light_along_by_torch
from tests.laws import cases
from tests.sampling.cases import pack

COUNTS = st.lists(st.integers(0, 6), max_size=9)
ROUTES = pytest.mark.parametrize("go", [composite, composite_by_torch], ids=["own", "torch"])


def matter(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Densities, some of them 0 and some opaque, and colours."""
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand(n, generator=generator, dtype=torch.float64) * 10
    kind = torch.rand(n, generator=generator)
    density = torch.where(kind < 0.15, 0.0, torch.where(kind > 0.95, 1e6, density))
    return density.to(dtype), torch.rand(n, 3, generator=generator, dtype=torch.float64).to(dtype)


def written_out(density: Tensor, color: Tensor, samples: PackedSamples) -> Composite:
    """Compositing by its definition, sample by sample."""
    rays = samples.first.shape[0] - 1
    colors, opacity = torch.zeros(rays, 3, dtype=torch.float64), torch.zeros(rays, dtype=torch.float64)
    weights = torch.zeros(samples.num, dtype=torch.float64)
    for r in range(rays):
        light = 1.0
        for s in range(int(samples.first[r]), int(samples.first[r + 1])):
            through = math.exp(-float(density[s]) * float(samples.length[s]))
            weights[s] = light * (1 - through)
            colors[r] += weights[s] * color[s].double()
            opacity[r] += weights[s]
            light *= through
    return Composite(colors, opacity, weights)


def loss(out: Composite, seed: int = 0) -> Tensor:
    """A loss that depends on all outputs."""
    generator = torch.Generator().manual_seed(seed)
    return sum((part * torch.rand(part.shape, generator=generator).to(part.dtype)).sum() for part in out)


@cases(40)
@given(counts=COUNTS, seed=st.integers(0, 99))
@ROUTES
def test_it_is_emission_and_absorption(go, counts, seed):
    samples = pack(counts, seed)
    density, color = matter(samples.num, seed)
    expected = written_out(density, color, samples)
    for found, part in zip(go(density, color, samples), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), part, rtol=0, atol=2e-6)
    weights, light = sample_weights(density, samples)
    torch.testing.assert_close(weights.double(), expected.weights, rtol=0, atol=2e-6)
    assert (light <= 1).all()


@cases(40)
@given(counts=COUNTS, seed=st.integers(0, 99))
@pytest.mark.parametrize("go", [light_along, light_along_by_torch], ids=["own", "torch"])
def test_light_is_what_the_samples_before_let_through(go, counts, seed):
    samples = pack(counts, seed)
    density, _ = matter(samples.num, seed)
    light = torch.rand(len(counts), generator=torch.Generator().manual_seed(seed))
    here, behind = go(density, samples, light)
    for ray, (first, end) in enumerate(zip(samples.first[:-1], samples.first[1:], strict=True)):
        depth = (density[first:end].double() * samples.length[first:end]).cumsum(0)
        through = light[ray] * torch.exp(-torch.cat([torch.zeros(1), depth]))
        torch.testing.assert_close(here[first:end].double(), through[:-1], rtol=0, atol=2e-6)
        torch.testing.assert_close(behind[ray].double(), through[-1], rtol=0, atol=2e-6)


@ROUTES
def test_constant_density_absorbs_exponentially(go):
    samples = pack([50])
    length = float(samples.length.sum())
    color = torch.tensor([0.2, 0.5, 0.9])
    out = go(torch.full((50,), 0.7), color.expand(50, 3), samples)
    absorbed = 1 - math.exp(-0.7 * length)
    assert float(out.accumulation) == pytest.approx(absorbed, rel=1e-5)
    torch.testing.assert_close(out.color[0], absorbed * color, rtol=1e-5, atol=0)


@cases(40)
@given(counts=COUNTS, seed=st.integers(0, 99))
def test_the_compiled_gradients_are_torchs(counts, seed):
    samples = pack(counts, seed)
    found = []
    for go in (composite, composite_by_torch):
        density, color = (x.requires_grad_() for x in matter(samples.num, seed))
        found.append(torch.autograd.grad(loss(go(density, color, samples)), (density, color)))
    for own, torchs in zip(*found, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("part", ["color", "accumulation", "weights"])
def test_gradients_through_one_output_alone(part):
    samples = pack([3, 0, 5, 1])
    found = []
    for go in (composite, composite_by_torch):
        density, color = (x.requires_grad_() for x in matter(samples.num))
        out = getattr(go(density, color, samples), part)
        found.append(torch.autograd.grad(out.square().sum(), (density, color), allow_unused=True))
    for own, torchs in zip(*found, strict=True):
        expected = torch.zeros_like(own) if torchs is None else torchs
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=2e-6)


def test_gradients_of_the_torch_route_are_those_of_differences():
    samples = pack([3, 0, 4, 1], dtype=torch.float64)
    density, color = (x.requires_grad_() for x in matter(samples.num, seed=3, dtype=torch.float64))
    with torch.no_grad():
        density.clamp_(0.1, 5)

    def go(density, color):
        return tuple(composite_by_torch(density, color, samples))

    assert torch.autograd.gradcheck(go, (density, color))
    assert torch.autograd.gradgradcheck(go, (density, color))


def test_second_derivatives_through_the_compiled_route_are_torchs():
    """This holds too where densities and colours are columns of one network's output."""
    samples = pack([3, 0, 5, 1])
    found = []
    for go in (composite, composite_by_torch):
        both = torch.cat([part.reshape(samples.num, -1) for part in matter(samples.num)], dim=-1)
        both = both.clamp_max(5).requires_grad_()
        value = loss(go(both[:, 0], both[:, 1:], samples)) ** 2
        (slope,) = torch.autograd.grad(value, both, create_graph=True)
        found.append((slope.detach(), *torch.autograd.grad(slope.square().sum(), both)))
    for own, torchs in zip(*found, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("needed", [(True, False), (False, True)])
@pytest.mark.parametrize("create_graph", [False, True])
def test_only_the_gradients_that_are_asked_for_are_made(needed, create_graph):
    samples = pack([3, 0, 5, 1])
    found = []
    for go in (composite, composite_by_torch):
        inputs = [x.requires_grad_(on) for x, on in zip(matter(samples.num), needed, strict=True)]
        wanted = [x for x in inputs if x.requires_grad]
        found.append(torch.autograd.grad(loss(go(*inputs, samples)), wanted, create_graph=create_graph)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=2e-6)


@cases(30)
@given(counts=COUNTS, seed=st.integers(0, 99))
@ROUTES
def test_to_split_samples_in_halves_changes_nothing(go, counts, seed):
    samples = pack(counts, seed)
    density, color = matter(samples.num, seed)
    quarter = samples.length / 4
    halves = PackedSamples(
        samples.ray.repeat_interleave(2),
        torch.stack([samples.middle - quarter, samples.middle + quarter], dim=-1).flatten(),
        (samples.length / 2).repeat_interleave(2),
        samples.first * 2,
    )
    whole = go(density, color, samples)
    split = go(density.repeat_interleave(2), color.repeat_interleave(2, dim=0), halves)
    torch.testing.assert_close(split.color, whole.color, rtol=0, atol=3e-6)
    torch.testing.assert_close(split.accumulation, whole.accumulation, rtol=0, atol=3e-6)
    torch.testing.assert_close(split.weights.reshape(-1, 2).sum(-1), whole.weights, rtol=0, atol=3e-6)


@pytest.mark.parametrize("huge", [1e10, 1e20, 1e38, math.inf])
@ROUTES
def test_opaque_matter_hides_what_is_behind_it_and_nothing_on_other_rays(go, huge):
    samples = pack([3, 4, 2])
    density, color = torch.full((9,), 2.0), torch.rand(9, 3, generator=torch.Generator().manual_seed(0))
    expected = go(density, color, samples)
    density[1] = huge
    density.requires_grad_(), color.requires_grad_()
    out = go(density, color, samples)
    assert out.weights[2] == 0
    assert float(out.accumulation[0].detach()) == pytest.approx(1)
    for found, part in zip(out, expected, strict=True):
        others = slice(3, None) if found is out.weights else slice(1, None)
        torch.testing.assert_close(found[others], part[others])
    for grad in torch.autograd.grad(loss(out), (density, color)):
        assert grad.isfinite().all()


@ROUTES
def test_rays_without_samples_are_empty(go):
    samples = pack([0, 2, 0])
    density, color = matter(2)
    out = go(density, color, samples)
    assert out.color.shape == (3, 3)
    assert out.accumulation[[0, 2]].tolist() == [0, 0]
    assert out.color[[0, 2]].abs().sum() == 0
    for counts in ([0, 0], []):
        nothing = go(*matter(0), pack(counts))
        assert [tuple(part.shape) for part in nothing] == [(len(counts), 3), (len(counts),), (0,)]
        assert nothing.accumulation.sum() == 0


@ROUTES
def test_no_density_is_no_weight(go):
    samples = pack([3, 2])
    density, color = torch.zeros(5, requires_grad=True), torch.ones(5, 3)
    out = go(density, color, samples)
    assert out.weights.abs().sum() == 0
    # In empty space, a little density adds opacity in proportion to the sample's length.
    (grad,) = torch.autograd.grad(out.accumulation.sum(), density)
    torch.testing.assert_close(grad, samples.length)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_fp32(dtype):
    samples = pack([3, 0, 5])
    density, color = matter(8)
    density = density.clamp_max(100)
    expected = composite(density.to(dtype).float(), color.to(dtype).float(), samples)
    for half in ((density.to(dtype).float(), color.to(dtype)), (density.to(dtype), color.to(dtype))):
        for found, part in zip(composite(*half, samples), expected, strict=True):
            torch.testing.assert_close(found, part, rtol=0, atol=1e-5)


def test_the_same_bits_for_any_number_of_threads():
    samples = pack([1, 0, 2, 3] * (compositing.BLOCK * 3 // 4) + [2])
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            density, color = (x.requires_grad_() for x in matter(samples.num))
            out = composite(density, color, samples)
            results.append((*out, *torch.autograd.grad(loss(out), (density, color))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_it_is_the_compiled_route_that_serves_fp32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(compositing, "composite_by_torch", lambda *_: None)
    assert composite(*matter(3), pack([3])) is not None
    assert composite(*matter(3, dtype=torch.float64), pack([3], dtype=torch.float64)) is None


def test_transformed_calls_take_torchs_route():
    samples = pack([2, 1])
    density, color = matter(3)

    def opacity(density):
        return composite(density, color, samples).accumulation

    leaf = density.clone().requires_grad_()
    rows = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in opacity(leaf)]
    torch.testing.assert_close(torch.func.jacrev(opacity)(density), torch.stack(rows))


def test_warming_up_leaves_nothing_to_compile():
    compositing_kernels.warm_up()
    kernels = compositing_kernels.forward, compositing_kernels.backward
    before = [len(kernel.signatures) for kernel in kernels]
    density, color = (x.requires_grad_() for x in matter(5))
    loss(composite(density, color, pack([3, 2]))).backward()
    assert [len(kernel.signatures) for kernel in kernels] == before


# Depth.


@cases(40)
@given(counts=COUNTS, seed=st.integers(0, 99))
def test_the_median_depth_is_where_half_of_the_light_is_gone(counts, seed):
    samples = pack(counts, seed)
    weights = composite(*matter(samples.num, seed), samples).weights
    found = median_depth(weights, samples)
    for r in range(len(counts)):
        mine = slice(int(samples.first[r]), int(samples.first[r + 1]))
        total = weights[mine].double().cumsum(0)
        if len(total) and (total - 0.5).abs().min() < 1e-6:
            continue
        middles = samples.middle[mine][total > 0.5].tolist()
        assert float(found[r]) == (middles[0] if middles else math.inf)


def test_where_less_than_half_is_absorbed_there_is_no_depth():
    samples = pack([2, 0, 2])
    weights = torch.tensor([0.2, 0.2, 0.3, 0.3])
    depth = median_depth(weights, samples)
    assert depth.tolist() == [math.inf, math.inf, float(samples.middle[3])]
