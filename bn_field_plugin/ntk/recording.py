"""Recording of a module's inputs in a training pass: the samples at which its kernel is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


@contextmanager
def first_inputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Any]]:
    """Note the first input that each module is called with, in the order of the calls.

    Calls of `forward` by its name are noted too. nerfstudio calls fields that way, and torch's hooks miss it.

    Args:
        modules: the modules to listen to, by the names under which their inputs are noted.
    """
    inputs: dict[str, Any] = {}

    def listen(name: str, module: nn.Module) -> None:
        original = module.forward

        def forward(first: Any, *arguments: Any, **options: Any) -> Any:
            inputs.setdefault(name, first)
            return original(first, *arguments, **options)

        module.forward = forward

    for name, module in modules.items():
        listen(name, module)
    try:
        yield inputs
    finally:
        for module in modules.values():
            del module.forward


def distinct_rows(
    points: Float[Tensor, "n d"], count: int, generator: torch.Generator
) -> Int64[Tensor, " k"]:
    """Indices, on the CPU, of at most `count` points drawn at random, no two of which are equal.

    Args:
        points: the points to choose from, some of which may be equal.
        count: number of points to draw.
        generator: source of the random numbers.
    """
    distinct, inverse = torch.unique(points, dim=0, return_inverse=True)
    order = torch.randperm(len(points), generator=generator)
    one_of_each = torch.full((len(distinct),), -1, dtype=torch.long)
    one_of_each.scatter_(0, inverse[order.to(inverse.device)].cpu(), order)
    return one_of_each[torch.randperm(len(one_of_each), generator=generator)][:count]
