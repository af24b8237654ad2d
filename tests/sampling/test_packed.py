"""Packed samples: some of them, and where they lie."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws import cases
from tests.sampling.cases import pack, rays

COUNTS = st.lists(st.integers(0, 5), max_size=8)


@cases(40)
@given(counts=COUNTS, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_kept_samples_stay_with_their_rays(counts, share, seed):
    samples = pack(counts, seed)
    kept = torch.rand(samples.num, generator=torch.Generator().manual_seed(seed)) < share
    fewer = samples.keep(kept)
    assert fewer.num == int(kept.sum()) == int(fewer.first[-1])
    for r in range(len(counts)):
        before = slice(int(samples.first[r]), int(samples.first[r + 1]))
        after = slice(int(fewer.first[r]), int(fewer.first[r + 1]))
        assert (fewer.ray[after] == r).all()
        assert torch.equal(fewer.middle[after], samples.middle[before][kept[before]])
        assert torch.equal(fewer.length[after], samples.length[before][kept[before]])
    assert torch.equal(fewer.counts, torch.bincount(fewer.ray, minlength=len(counts)))


def test_to_keep_all_changes_nothing_and_to_keep_none_leaves_rays():
    samples = pack([2, 0, 3])
    everything = samples.keep(torch.ones(5, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(everything, samples, strict=True))
    nothing = samples.keep(torch.zeros(5, dtype=torch.bool))
    assert nothing.num == 0
    assert nothing.counts.tolist() == [0, 0, 0]


def test_positions_lie_on_the_rays_and_pass_gradients_to_them():
    samples, lines = pack([2, 0, 3]), rays(3)
    lines = lines._replace(
        origins=lines.origins.requires_grad_(), directions=lines.directions.requires_grad_()
    )
    positions = samples.positions(lines)
    for position, ray, middle in zip(positions, samples.ray, samples.middle, strict=True):
        torch.testing.assert_close(position, lines.origins[ray] + middle * lines.directions[ray])
    positions.sum().backward()
    assert torch.equal(lines.origins.grad, samples.counts[:, None].expand(3, 3).float())
    assert lines.directions.grad[0].tolist() == [float(samples.middle[:2].sum())] * 3


def test_some_of_the_rays():
    lines = rays(10)
    some = lines.some(torch.tensor([7, 2]))
    assert some.num == 2
    assert torch.equal(some.origins, lines.origins[[7, 2]])
    assert torch.equal(some.fars, lines.fars[[7, 2]])
    assert lines.some(torch.tensor([], dtype=torch.int64)).num == 0
