"""Batches: every point once an epoch, and the same ones after a resume."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.sampling import FullBatch, ShuffledBatches


def shuffled(size: int, batch_size: int, seed: int = 0) -> ShuffledBatches:
    points = torch.arange(size, dtype=torch.float32)[:, None]
    return ShuffledBatches(size, batch_size, lambda indices: (points[indices], points[indices]), seed)


@given(size=st.integers(2, 60), batch_size=st.integers(2, 80), epochs=st.integers(1, 3))
def test_an_epoch_has_every_point_once_in_even_batches(size: int, batch_size: int, epochs: int) -> None:
    sampler = shuffled(size, batch_size)
    for _ in range(epochs):
        batches = [sampler.next_batch()[0] for _ in range(sampler.num_batches)]
        sizes = [len(batch) for batch in batches]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert sorted(torch.cat(batches).flatten().tolist()) == list(range(size))


@given(stop=st.integers(0, 12))
def test_a_resumed_sampler_goes_on_with_the_same_batches(stop: int) -> None:
    sampler = shuffled(20, 6)
    for _ in range(stop):
        sampler.next_batch()
    other = shuffled(20, 6, seed=1)
    other.load_state_dict(sampler.state_dict())
    for _ in range(9):
        assert torch.equal(sampler.next_batch()[0], other.next_batch()[0])


def test_seeds_give_different_orders() -> None:
    assert not torch.equal(shuffled(50, 50, 0).next_batch()[0], shuffled(50, 50, 1).next_batch()[0])


def test_a_full_batch_is_always_the_same() -> None:
    x, y = torch.rand(3, 2), torch.rand(3, 1)
    sampler = FullBatch(x, y)
    sampler.load_state_dict(sampler.state_dict())
    assert sampler.next_batch()[0] is x
    assert sampler.next_batch()[1] is y


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(UserError, match="--batch-size"):
        shuffled(10, 1)
