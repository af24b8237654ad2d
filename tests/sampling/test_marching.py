"""Marching, by torch and by compiled loops, finds the samples in occupied cells and no others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bn_field_plugin.sampling import Cells, March, PackedSamples, Rays, march, marching, marching_kernels
from bn_field_plugin.sampling.marching import march_by_torch
from bn_field_plugin.sampling.occupancy import occupied_at
from tests.laws import cases
from tests.sampling.cases import cells, rays

BORDER = 1e-5
"""Distance from a cell's border, in cells, within which rounding may make the routes differ."""


@pytest.fixture(params=["own", "torch"])
def route(request, monkeypatch):
    """The march by the compiled loops, which serve on a CPU, and by torch."""
    if request.param == "torch":
        monkeypatch.setattr(marching, "_kernels", lambda _: None)
    return request.param


def jitter_of(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def names(found: March, lines: Rays, jitter: Tensor, step: float) -> set[tuple[int, int]]:
    """Ray and step of each sample."""
    samples = found.samples
    index = (samples.middle - lines.nears[samples.ray]) / step - jitter[samples.ray]
    return set(zip(samples.ray.tolist(), index.round().long().tolist(), strict=True))


def from_border(box: Cells, lines: Rays, jitter: Tensor, step: float, ray: int, index: int) -> float:
    """Distance of a sample from the nearest border of cells or end of its ray, in cells."""
    middle = float(lines.nears[ray]) + (index + float(jitter[ray])) * step
    position = lines.origins[ray].double() + lines.directions[ray].double() * middle
    scaled = (position - box.low) * box.per_unit
    return min(float((scaled - scaled.round()).abs().min()), abs(middle - float(lines.fars[ray])))


def check(samples: PackedSamples, n: int) -> None:
    """Check the laws of packed samples."""
    assert samples.first[0] == 0
    assert samples.first[-1] == samples.num
    assert samples.counts.shape == (n,)
    assert torch.equal(samples.ray, torch.arange(n).repeat_interleave(samples.counts))
    same = samples.ray[1:] == samples.ray[:-1]
    assert (samples.middle.diff()[same] > 0).all()


@cases(60)
@given(
    n=st.integers(0, 40),
    resolution=st.integers(2, 9),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    step=st.floats(0.02, 0.7),
    limit=st.sampled_from([None, 1, 3, 1000]),
    start=st.integers(0, 9),
    seed=st.integers(0, 999),
)
def test_the_compiled_route_is_torchs(n, resolution, share, step, limit, start, seed):
    box, lines, jitter = cells(resolution, share, seed), rays(n, seed), jitter_of(n, seed)
    first = torch.randint(start + 1, (n,), generator=torch.Generator().manual_seed(seed))
    own, torchs = (go(lines, box, step, jitter, first, None) for go in (march, march_by_torch))
    differing = names(own, lines, jitter, step) ^ names(torchs, lines, jitter, step)
    assert all(from_border(box, lines, jitter, step, *sample) < BORDER for sample in differing)
    if differing:
        return
    own, torchs = (go(lines, box, step, jitter, first, limit) for go in (march, march_by_torch))
    for found in own, torchs:
        check(found.samples, n)
    for a, b in zip(own.samples, torchs.samples, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert torch.equal(own.is_over, torchs.is_over)
    assert torch.equal(own.next_step[~own.is_over], torchs.next_step[~own.is_over])


@cases(15)
@given(n=st.integers(1, 6), step=st.floats(0.05, 0.7), seed=st.integers(0, 999))
def test_samples_are_those_of_a_loop(n, step, seed):
    box, lines, jitter = cells(4, 0.3, seed), rays(n, seed), jitter_of(n, seed)
    found = names(march(lines, box, step, jitter), lines, jitter, step)
    for r in range(n):
        for k in range(int(5 / step) + 2):
            middle = lines.nears[r] + (k + jitter[r]) * step
            expected = bool(middle < lines.fars[r]) and bool(
                box.occupied.flatten()[box.at(lines.origins[r] + middle * lines.directions[r])]
            )
            if from_border(box, lines, jitter, step, r, k) > BORDER:
                assert ((r, k) in found) == expected


@cases(20)
@given(limit=st.integers(1, 9), share=st.sampled_from([0.1, 0.5, 1.0]), seed=st.integers(0, 99))
@pytest.mark.parametrize("by_torch", [False, True])
def test_a_march_in_pieces_is_the_march_at_once(by_torch, limit, share, seed):
    box, lines, jitter, step = cells(5, share, seed), rays(12, seed), jitter_of(12, seed), 0.11
    go = march_by_torch if by_torch else march
    start = torch.zeros(12, dtype=torch.int64)
    whole = go(lines, box, step, jitter, start, None)
    assert whole.is_over.all()
    pieces, over = set(), torch.zeros(12, dtype=torch.bool)
    for _ in range(60):
        found = go(lines, box, step, jitter, start, limit)
        assert (found.samples.counts <= limit).all()
        # A ray that is not over has a full piece.
        assert (found.samples.counts[~found.is_over] == limit).all()
        new = names(found, lines, jitter, step)
        assert not new & pieces
        assert found.samples.counts[over].sum() == 0
        pieces |= new
        over, start = found.is_over, found.next_step
        if over.all():
            break
    assert over.all()
    assert pieces == names(whole, lines, jitter, step)


def test_a_ray_whose_last_sample_fills_the_piece_is_over(route):
    """No sample remains for another piece."""
    box = Cells(torch.ones(2, 2, 2, dtype=torch.bool), -torch.ones(3), torch.ones(3))
    line = Rays(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]), torch.zeros(1), torch.ones(1))
    for limit, is_over in ((3, False), (4, True), (5, True)):
        assert march(line, box, 0.25, torch.full((1,), 0.5), limit=limit).is_over.tolist() == [is_over]


def test_rays_along_the_axes_find_their_row_of_cells(route):
    occupied = torch.zeros(4, 4, 4, dtype=torch.bool)
    occupied[2, 1, 2] = True
    box = Cells(occupied, torch.zeros(3), torch.full((3,), 4.0))
    centre = torch.tensor([2.5, 1.5, 2.5])
    for axis in range(3):
        for sign in (-1.0, 1.0):
            direction = torch.zeros(1, 3)
            direction[0, axis] = sign
            start = (centre - 5 * direction).contiguous()
            lines = Rays(start, direction, torch.zeros(1), torch.full((1,), 10.0))
            samples = march(lines, box, 0.1, torch.full((1,), 0.5)).samples
            # The cell reaches from 4.5 to 5.5 along the ray, which is ten samples.
            torch.testing.assert_close(samples.middle, 4.55 + 0.1 * torch.arange(10), rtol=0, atol=1e-5)
            beside = lines._replace(origins=start + 1 - direction.abs())
            assert march(beside, box, 0.1, torch.full((1,), 0.5)).samples.num == 0


def test_rays_with_nothing_to_look_at_have_no_samples(route):
    box = cells(3, 1.0)
    lines = rays(4)
    for fars in (lines.nears, lines.nears - 1, torch.full((4,), -1e10)):
        found = march(lines._replace(fars=fars), box, 0.1, jitter_of(4))
        assert found.samples.num == 0
        assert found.is_over.all()
    outside = lines._replace(nears=torch.full((4,), 1e10), fars=torch.full((4,), 1e10))
    assert march(outside, box, 0.1, jitter_of(4)).samples.num == 0


def test_a_ray_that_ends_just_behind_a_sample_has_it_and_is_over(route):
    """This holds however the number of steps before the ray's end is rounded."""
    n, step = 20_000, 0.1
    generator = torch.Generator().manual_seed(0)
    nears = torch.rand(n, generator=generator) / 2
    count = torch.randint(1, 20, (n,), generator=generator)
    fars = (nears + count * step).nextafter(torch.tensor(9.0))
    box = Cells(torch.ones(2, 2, 2, dtype=torch.bool), -torch.ones(3), torch.ones(3))
    for mine in range(1, 20):  # the longest ray tells the number of steps
        chosen = (count == mine).nonzero()[:, 0]
        lines = Rays(torch.zeros(n, 3), torch.eye(3)[:1].expand(n, 3), nears, fars).some(chosen)
        found = march(lines, box, step, torch.zeros(lines.num))
        assert found.is_over.all()
        assert (found.samples.counts == mine + 1).all()


def test_no_rays_and_one(route):
    box = cells(3, 1.0)
    none = march(rays(0), box, 0.1, jitter_of(0), limit=3)
    assert none.samples.num == 0
    assert none.samples.first.tolist() == [0]
    assert none.is_over.shape == (0,)
    line = Rays(torch.zeros(1, 3), torch.tensor([[0, 0, -1.0]]), torch.zeros(1), torch.ones(1))
    samples = march(line, box, 0.25, torch.zeros(1)).samples
    assert samples.middle.tolist() == [0, 0.25, 0.5, 0.75]
    assert samples.length.tolist() == [0.25] * 4


def test_rays_in_any_layout_and_with_gradients(route):
    box, lines, jitter = cells(), rays(9), jitter_of(9)
    expected = march(lines, box, 0.1, jitter).samples
    strided = Rays(*(part.repeat_interleave(2, dim=0)[::2] for part in lines))
    strided = strided._replace(origins=strided.origins.requires_grad_(), nears=strided.nears.requires_grad_())
    turned = box._replace(occupied=box.occupied.transpose(0, 2).contiguous().transpose(0, 2))
    found = march(strided, turned, 0.1, jitter.repeat_interleave(2)[::2]).samples
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not found.middle.requires_grad


def test_the_same_samples_for_any_number_of_threads():
    before = torch.get_num_threads()
    box, lines, jitter = cells(9), rays(3 * marching.BLOCK + 7), jitter_of(3 * marching.BLOCK + 7)
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found = march(lines, box, 0.05, jitter, limit=20)
            results.append((*found.samples, found.next_step, found.is_over))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_it_is_the_compiled_route_that_serves_fp32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(marching, "march_by_torch", lambda *_: None)
    lines = rays(3)
    assert march(lines, cells(), 0.1, jitter_of(3)) is not None
    doubles = Rays(*(part.double() for part in lines))
    assert march(doubles, cells(), 0.1, jitter_of(3).double()) is None


def test_warming_up_leaves_nothing_to_compile():
    marching_kernels.warm_up()
    kernels = marching_kernels.find, marching_kernels.pack
    before = [len(kernel.signatures) for kernel in kernels]
    for limit in (None, 3):
        march(rays(5), cells(), 0.1, jitter_of(5), limit=limit)
    assert [len(kernel.signatures) for kernel in kernels] == before


# Cells.


@cases(30)
@given(resolution=st.integers(2, 9), seed=st.integers(0, 99))
def test_centres_of_cells_lie_in_them_and_what_lies_outside_belongs_to_the_nearest(resolution, seed):
    box = cells(resolution, 0.4, seed)
    index = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    centres = box.low + (index + 0.5) / box.per_unit
    assert box.resolution == resolution
    assert torch.equal(box.at(centres), torch.arange(resolution**3))
    assert torch.equal(occupied_at(box, centres), box.occupied.flatten())
    far = centres[-1:] + torch.tensor([[5.0, 0, 0], [5, 5, 5]])
    assert box.at(far).tolist() == [resolution**3 - 1] * 2
    assert not occupied_at(box._replace(occupied=torch.ones_like(box.occupied)), far).any()
