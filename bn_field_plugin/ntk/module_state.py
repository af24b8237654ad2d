"""Passes that leave a module's buffers and attributes as they were, so that every pass begins alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from bn_field_plugin.nn.norms import RunningNorm


@contextmanager
def unchanged_state(module: nn.Module) -> Iterator[None]:
    """Let passes work on copies of what a module keeps besides its parameters; put back the originals.

    That undoes counters, caches and buffers that a pass writes into or sets anew. What a pass adds stays, as
    do changes inside lists and dicts. The norms of this package are left alone, since they note there what
    they collect, and so are lazy modules, which get their shapes in a pass.

    Args:
        module: any module.
    """
    copies: dict[int, Tensor] = {}  # a tensor that two parts share is copied once
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for part in module.modules():
        if isinstance(part, (RunningNorm, LazyModuleMixin)):
            continue
        for holder in (part._buffers, vars(part)):
            kept.append((holder, dict(holder)))
            for name, value in holder.items():
                if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and not is_lazy(value):
                    holder[name] = copies.setdefault(id(value), value.clone())
    try:
        yield
    finally:
        for holder, before in kept:
            holder.update({name: value for name, value in before.items() if name in holder})
