"""A second model on the same weights, so that looking at a network can never change it."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

from bn_field_plugin.nn import running_norms
from bn_field_plugin.nn.norms import RunningNorm

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def twin(module: ModuleT) -> ModuleT:
    """A copy that shares all weights, and keeps statistics, modes and settings of its own.

    Nothing that is done to the copy changes `module`, except training it. That holds even if a render is
    interrupted at any line, as nerfstudio does. The copy's norms do not join their batches with other
    processes, as these take no part. Making a copy takes a few milliseconds. It follows the weights as they
    are trained, but not other objects that training replaces, so make a new one for each look.
    """
    shared: dict[int, Any] = {}
    for part in module.modules():
        tensors = [*part._parameters.values(), *(v for v in vars(part).values() if isinstance(v, Tensor))]
        if not isinstance(part, RunningNorm):
            tensors += part._buffers.values()
        shared |= {id(tensor): tensor for tensor in tensors if tensor is not None}
        for name in ("config", "inference"):  # settings, and a kernel of tiny-cuda-nn that is slow to make
            if name in vars(part):
                shared[id(vars(part)[name])] = vars(part)[name]
    found = copy.deepcopy(module, shared)
    for norm in running_norms(found):
        norm.synchronize = False
    return found
