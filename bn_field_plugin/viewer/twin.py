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

    Whatever is done to the copy but training leaves `module` as it was, also where it is cut short half-way:
    nerfstudio interrupts a render at any line. The copy's norms do not join other processes, which do
    not take part. Making one takes a few milliseconds; it follows the weights as they are trained, but
    nothing else that training replaces, so make a new one for each look.
    """
    shared: dict[int, Any] = {}
    for part in module.modules():
        tensors = [*part._parameters.values(), *(v for v in vars(part).values() if isinstance(v, Tensor))]
        if not isinstance(part, RunningNorm):
            tensors += part._buffers.values()
        shared |= {id(tensor): tensor for tensor in tensors if tensor is not None}
        for name in ("config", "inference"):  # settings; a kernel that the library would have to make anew
            if name in vars(part):
                shared[id(vars(part)[name])] = vars(part)[name]
    found = copy.deepcopy(module, shared)
    for norm in running_norms(found):
        norm.synchronize = False
    return found
