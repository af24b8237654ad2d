"""Where a fit's batches come from: all points at once, or parts of them, epoch after epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bn_field_plugin.errors import UserError

Batch = tuple[Float[Tensor, "n d"], Float[Tensor, "n o"]]
"""Coordinates and the targets at them."""


class Sampler(Protocol):
    """Gives batches, and can be stopped and resumed between any two."""

    def next_batch(self) -> Batch:
        """The next coordinates and targets."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler stands: plain values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where a sampler of the same kind stood."""
        ...


class FullBatch:
    """Always the same points.

    Args:
        coordinates: all points.
        targets: the targets at them.
    """

    def __init__(self, coordinates: Float[Tensor, "n d"], targets: Float[Tensor, "n o"]) -> None:
        self.batch = (coordinates, targets)

    def next_batch(self) -> Batch:
        """All points."""
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class EpochBatches(ABC):
    """Batches that together are all points once in an epoch, and others in the next; sizes equal to within 1.

    Args:
        size: number of points.
        batch_size: most points of a batch.
        gather: makes the batch of given indices.
        seed: seed of what is drawn in each epoch.

    Raises:
        UserError: a batch size below 2, for which batch statistics do not exist.
    """

    def __init__(
        self, size: int, batch_size: int, gather: Callable[[Int[Tensor, " n"]], Batch], seed: int
    ) -> None:
        if batch_size < 2:
            raise UserError(f"--batch-size is {batch_size}: it must be at least 2")
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
        """Draw what chooses an epoch's batches."""

    @abstractmethod
    def _indices(self, number: int) -> Int[Tensor, " n"]:
        """Points of the epoch's batch of a number."""

    def next_batch(self) -> Batch:
        """The next batch of the epoch, or the first of the next one."""
        if self._next == self.num_batches:
            self._start_epoch()
        self._next += 1
        return self._gather(self._indices(self._next - 1))

    def state_dict(self) -> dict[str, Any]:
        """State of the generator at the start of the epoch, and the number of the next batch."""
        return {"epoch": self._epoch_state, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw what the epoch began with again, and go on in it."""
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


class SpreadBatches(EpochBatches):
    """One point of each run of neighbours, in order: every batch is spread evenly over all points.

    Runs have as many points as an epoch has batches. Each takes its points in an order of its own, which is
    random from epoch to epoch: from a random one on, in steps that have no divisor in common with their
    number. Nothing but a start and a step of each run is kept.
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
