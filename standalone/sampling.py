"""The batches of a fit: all points at once, or parts of them, epoch after epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bn_field_plugin.errors import UserError

Batch = tuple[Float[Tensor, "n d"], Float[Tensor, "n o"]]
"""Coordinates of points, and the targets at them."""


class Sampler(Protocol):
    """Gives batches; its state can be saved and restored between any two of them."""

    def next_batch(self) -> Batch:
        """The next coordinates and targets."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The sampler's state, as plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a sampler of the same kind."""
        ...


class FullBatch:
    """Gives all points in every batch.

    Args:
        coordinates: all points.
        targets: the targets at them.
    """

    def __init__(self, coordinates: Float[Tensor, "n d"], targets: Float[Tensor, "n o"]) -> None:
        self.batch = (coordinates, targets)

    def next_batch(self) -> Batch:
        """All points and their targets."""
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        """An empty state: all batches are equal."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: all batches are equal."""


class EpochBatches(ABC):
    """Batches that contain each point once in an epoch; their sizes differ by at most 1, and epochs differ.

    Args:
        size: number of points.
        batch_size: largest number of points in a batch.
        gather: function that makes the batch from indices of points.
        seed: seed of the random numbers that choose the batches.

    Raises:
        UserError: a batch size below 2, for which batch statistics do not exist.
    """

    def __init__(
        self, size: int, batch_size: int, gather: Callable[[Int[Tensor, " n"]], Batch], seed: int
    ) -> None:
        check_batch_size(batch_size)
        self.size = size
        self.num_batches = max(1, -(-size // batch_size))
        self._gather = gather
        self._generator = torch.Generator().manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._draw(self._generator)
        self._next = 0

    @abstractmethod
    def _draw(self, generator: torch.Generator) -> None:
        """Draw the random numbers that determine the batches of an epoch."""

    @abstractmethod
    def _indices(self, number: int) -> Int[Tensor, " n"]:
        """Indices of the points in the batch with the given number in the epoch."""

    def next_batch(self) -> Batch:
        """The next batch of the epoch, or the first of the next epoch."""
        if self._next == self.num_batches:
            self._start_epoch()
        self._next += 1
        return self._gather(self._indices(self._next - 1))

    def state_dict(self) -> dict[str, Any]:
        """State of the generator at the start of the epoch, and the number of the next batch."""
        return {"epoch": self._epoch_state, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw the random numbers of the saved epoch again, and go on with its next batch."""
        self._generator.set_state(state["epoch"].cpu())
        self._start_epoch()
        self._next = int(state["next"])


class ShuffledBatches(EpochBatches):
    """Parts of a fresh permutation of the points in each epoch."""

    def _draw(self, generator: torch.Generator) -> None:
        dtype = torch.int32 if self.size < 2**31 else torch.int64
        self._order = torch.randperm(self.size, generator=generator, dtype=dtype)

    def _indices(self, number: int) -> Int[Tensor, " n"]:
        start, stop = (self.size * k // self.num_batches for k in (number, number + 1))
        return self._order[start:stop].long()


def check_batch_size(batch_size: int) -> None:
    """Check that a batch has statistics.

    Raises:
        UserError: it has fewer than two points.
    """
    if batch_size < 2:
        raise UserError(f"--batch-size is {batch_size}: it must be at least 2")


class SpreadBatches(EpochBatches):
    """Batches that are spread evenly over all points: each has one point of every run of neighbours.

    A run has as many points as an epoch has batches. In each epoch, every run goes through its points in a
    random order of its own: it starts at a random point and takes steps whose length has no divisor in common
    with the number of points in the run. So only a start and a step are stored for each run.
    """

    def _draw(self, generator: torch.Generator) -> None:
        length = self.num_batches
        self._starts = torch.arange(0, self.size, length)
        numbers = torch.arange(1, length + 1)
        steps = numbers[torch.gcd(numbers, torch.tensor(length)) == 1]
        chosen = torch.randint(len(steps), self._starts.shape, generator=generator)
        self._offsets = torch.randint(length, self._starts.shape, generator=generator)
        self._steps = steps[chosen]

    def _indices(self, number: int) -> Int[Tensor, " n"]:
        indices = self._starts + (self._offsets + self._steps * number) % self.num_batches
        return indices if indices[-1] < self.size else indices[:-1]
