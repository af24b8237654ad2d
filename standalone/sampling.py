"""Where a fit's batches come from: all points at once, or shuffled ones, epoch after epoch."""

from __future__ import annotations

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


class ShuffledBatches:
    """Batches of a fresh permutation of the points in each epoch: every point once, sizes equal to within 1.

    Args:
        size: number of points.
        batch_size: most points of a batch.
        gather: makes the batch of given indices.
        seed: seed of the permutations.

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
        dtype = torch.int32 if self.size < 2**31 else torch.int64
        self._order = torch.randperm(self.size, generator=self._generator, dtype=dtype)
        self._next = 0

    def next_batch(self) -> Batch:
        """The next batch of the epoch, or the first of the next one."""
        if self._next == self.num_batches:
            self._start_epoch()
        start, stop = (self.size * k // self.num_batches for k in (self._next, self._next + 1))
        self._next += 1
        return self._gather(self._order[start:stop].long())

    def state_dict(self) -> dict[str, Any]:
        """State of the generator at the start of the epoch, and the number of the next batch."""
        return {"epoch": self._epoch_state, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw the epoch's permutation again and go on in it."""
        self._generator.set_state(state["epoch"].cpu())
        self._start_epoch()
        self._next = int(state["next"])
