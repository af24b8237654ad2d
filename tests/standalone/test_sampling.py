"""Batches have every point once an epoch, and a resumed fit draws the same ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.sampling import EpochBatches, FullBatch, ShuffledBatches, SpreadBatches

KINDS = (ShuffledBatches, SpreadBatches)


def batches(
    size: int, batch_size: int, seed: int = 0, kind: type[EpochBatches] = ShuffledBatches
) -> EpochBatches:
    points = torch.arange(size, dtype=torch.float32)[:, None]
    return kind(size, batch_size, lambda indices: (points[indices], points[indices]), seed)


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.integers(2, 60), batch_size=st.integers(2, 80), epochs=st.integers(1, 3))
def test_an_epoch_has_every_point_once_in_even_batches(kind, size: int, batch_size: int, epochs: int) -> None:
    sampler = batches(size, batch_size, kind=kind)
    for _ in range(epochs):
        found = [sampler.next_batch()[0] for _ in range(sampler.num_batches)]
        sizes = [len(batch) for batch in found]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert sorted(torch.cat(found).flatten().tolist()) == list(range(size))


@given(size=st.integers(20, 300), batch_size=st.integers(5, 19))
def test_spread_batches_have_one_point_of_each_run_and_are_in_order(size: int, batch_size: int) -> None:
    sampler = batches(size, batch_size, kind=SpreadBatches)
    for _ in range(2 * sampler.num_batches):
        found = sampler.next_batch()[0].flatten()
        assert torch.equal(found // sampler.num_batches, torch.arange(float(len(found))))


@pytest.mark.parametrize("kind", KINDS)
@given(stop=st.integers(0, 12))
def test_a_resumed_sampler_goes_on_with_the_same_batches(kind, stop: int) -> None:
    sampler = batches(20, 6, kind=kind)
    for _ in range(stop):
        sampler.next_batch()
    other = batches(20, 6, seed=1, kind=kind)
    other.load_state_dict(sampler.state_dict())
    for _ in range(9):
        assert torch.equal(sampler.next_batch()[0], other.next_batch()[0])


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_and_epochs_give_different_orders(kind) -> None:
    a, b = batches(50, 8, 0, kind), batches(50, 8, 1, kind)
    first = [a.next_batch()[0] for _ in range(a.num_batches)]
    assert not torch.equal(first[0], b.next_batch()[0])
    assert not torch.equal(first[0], a.next_batch()[0])


def test_a_full_batch_is_always_the_same() -> None:
    x, y = torch.rand(3, 2), torch.rand(3, 1)
    sampler = FullBatch(x, y)
    sampler.load_state_dict(sampler.state_dict())
    assert sampler.next_batch()[0] is x
    assert sampler.next_batch()[1] is y


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="--batch-size"):
        batches(10, 1)
