"""Whose statistics a network normalises with, and making the running ones exact."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.norms import RunningNorm, StatisticsCollectedError, StatisticsMode

Module = TypeVar("Module", bound=nn.Module)


def running_norms(module: nn.Module) -> list[RunningNorm]:
    """All norms of `module` that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, RunningNorm)]


def with_own_statistics(module: Module) -> Module:
    """A second module on the parameters of `module`, with statistics and all other buffers of its own.

    For one network that meets two distributions, such as the coarse and the fine samples of mip-NeRF: both
    modules train the same weights, scales and shifts, and each normalises with what it has seen itself.
    Where both are parts of one model, its `parameters()` have each parameter once, its `state_dict()` twice.
    """
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


@contextmanager
def _mode(module: nn.Module, mode: StatisticsMode) -> Iterator[None]:
    norms = running_norms(module)
    before = [norm.mode for norm in norms]
    try:
        for norm in norms:
            norm.mode = mode
        yield
    finally:
        for norm, old in zip(norms, before, strict=True):
            norm.mode = old


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise with the running statistics and change nothing, also in training passes.

    For derivatives by the input (normals, eikonal terms): through batch statistics, another sample's
    gradient would leak in.
    """
    with _mode(module, StatisticsMode.FROZEN):
        yield


def freeze_statistics(module: nn.Module) -> None:
    """Normalise with the running statistics in all passes from now on, and change them no more.

    Training passes then cost what they cost without norm. The parameters of the norms still learn.
    """
    for norm in running_norms(module):
        norm.mode = StatisticsMode.FROZEN


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise with the batch's own statistics and change nothing, also in evaluation."""
    with _mode(module, StatisticsMode.BATCH):
        yield


@contextmanager
def held_statistics(module: nn.Module) -> Iterator[bool]:
    """Normalise all passes with the statistics of the first one.

    Where a training pass with gradients would take the batch's statistics, the first pass takes them (and
    updates the running ones), and later passes take the same: constant in their own input, while the
    gradients of parameters still flow through them. Norms that would read the running statistics read them
    in all passes, also where gradients are enabled inside.

    Yields:
        Whether the first pass has to be an ordinary one over the whole batch, because statistics are taken
        or collected from it.
    """
    norms = running_norms(module)
    holding = [norm for norm in norms if norm.normalizes_with_batch]
    reading = [norm for norm in norms if norm.mode is StatisticsMode.AUTO and not norm.normalizes_with_batch]
    collecting = any(norm.mode is StatisticsMode.COLLECT for norm in norms)
    try:
        for norm in holding:
            norm.holds_statistics = True
        for norm in reading:
            norm.mode = StatisticsMode.FROZEN
        yield bool(holding) or collecting
    finally:
        for norm in holding:
            norm.holds_statistics, norm._held = False, None
        for norm in reading:
            norm.mode = StatisticsMode.AUTO


def _of_inputs(module: nn.Module) -> Callable[[Any], Any]:
    """A module that takes batches as a DataLoader gives them: the first part is its input."""
    device = next((parameter.device for parameter in module.parameters()), None)

    def forward(batch: Any) -> Any:
        first = batch[0] if isinstance(batch, (list, tuple)) else batch
        # Anything but these may be the input of a network, as nerfstudio's rays are.
        if isinstance(first, Mapping | Sequence | np.ndarray):
            raise UserError(
                f"a batch of calibrate begins with a {type(first).__name__}, which no network takes: "
                "give forward=, a function that calls the network with what a batch holds"
            )
        return module(first.to(device) if isinstance(first, torch.Tensor) else first)

    return forward


@torch.no_grad()
def calibrate(
    module: nn.Module,
    batches: Iterable[Any],
    forward: Callable[[Any], Any] | None = None,
) -> int:
    """Make the running statistics exact over given batches, layer by layer.

    The layers are taken in the order in which a forward pass meets them: the statistics of one are those
    of inputs that the layers before it, already calibrated, produce. Moments are merged in fp64, so the
    split into batches does not matter. A forward pass that draws random numbers should draw the same ones
    at each call.

    Args:
        module: network with norms that keep statistics.
        batches: inputs of the network, or tuples and lists that begin with them, as a DataLoader gives and
            torch's `update_bn` takes; kept in memory, since every layer needs them again. (`update_bn`
            itself works on these norms as on torch's, in one pass: not exactly in deep networks.)
        forward: called with each batch as it is; by default `module` is, with the input on its device.

    Returns:
        Number of norms calibrated. A norm that no batch reaches keeps its statistics, and so does one whose
        inputs are not all finite; a warning names the batches that gave it those.

    Raises:
        UserError: a batch that begins with a mapping, a sequence or a numpy array, without `forward`.
    """
    forward = _of_inputs(module) if forward is None else forward
    norms = running_norms(module)
    if not norms:
        return 0
    batches = list(batches)
    taken: list[bool] = []
    not_finite: set[int] = set()
    try:
        with _mode(module, StatisticsMode.COLLECT):
            for _ in range(len(norms)):
                for number, batch in enumerate(batches, 1):
                    try:
                        forward(batch)
                    except StatisticsCollectedError as collected:
                        if not collected.is_finite:
                            not_finite.add(number)
                finished = [norm._finish_collecting() for norm in norms]
                reached = [is_taken for is_taken in finished if is_taken is not None]
                if not reached:
                    break
                taken += reached
    finally:
        for norm in norms:
            norm._collected = None
            norm._is_calibrated = False
    if not_finite:
        numbers = ", ".join(map(str, sorted(not_finite)))
        which = f"batch {numbers} gives" if len(not_finite) == 1 else f"batches {numbers} give"
        warnings.warn(
            f"calibrate: {which} values that are not finite (of {len(batches)} batches), so some norms keep "
            f"the statistics they had ({taken.count(False)}): leave out such batches, or mend the network",
            stacklevel=3,  # the line that calls `calibrate`, which torch.no_grad wraps
        )
    return sum(taken)
