"""A copy of a user's module, with all tensors that it keeps, that computes in one precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk.module_state import unchanged_state

Result = TypeVar("Result")

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""The complex dtype of each real one."""


def copy_in_precision(module: nn.Module, points: Tensor, dtype: torch.dtype) -> nn.Module:
    """A copy of a module whose parameters, buffers and other tensors have one precision.

    Complex tensors stay complex; lazy parameters get their shapes from a pass over the points.

    Args:
        module: any module, which stays as it is.
        points: points to which the copy will be applied.
        dtype: real dtype of the precision.

    Raises:
        UserError: the module cannot be copied or run.
    """
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UserError(
            "the module is TorchScript, whose parameters cannot be varied: give what it was made of"
        )
    while isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module.module
    # Tensors that hooks compute from parameters, such as weight_norm's, belong to a graph, and deepcopy
    # refuses them.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    # torch cannot copy the uninitialised buffers of LazyBatchNorm.
    for buffer in module.buffers():
        if is_lazy(buffer):
            memo[id(buffer)] = UninitializedBuffer(  # type: ignore[call-arg]
                device=buffer.device, dtype=buffer.dtype
            )
    try:
        found = copy.deepcopy(module, memo)
    except Exception as error:  # a user's class may raise anything
        raise UserError(
            f"the module cannot be copied ({first_line(error)}): give it without what copy.deepcopy refuses"
        ) from error
    if any(is_lazy(tensor) for tensor in [*found.parameters(), *found.buffers()]):
        modes = [(part, part.training) for part in found.modules()]
        found.eval()  # so that the pass does not change running statistics
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)  # so that every copy draws equal weights
            with unchanged_state(found):
                attempt(lambda: found(points.float()), points)
        for part, training in modes:
            part.training = training
    found._apply(lambda tensor: _converted(tensor, dtype))
    for part in found.modules():
        for name, value in vars(part).items():
            if not name.startswith("_"):
                vars(part)[name] = _converted_within(value, dtype)
    return found


def attempt(call: Callable[[], Result], points: Tensor) -> Result:
    """The result of a call of a user's module, whose errors become one line.

    Args:
        call: applies the module.
        points: the points to which it is applied.

    Raises:
        UserError: the module cannot be run on the points; the message says why.
    """
    try:
        return call()
    except UserError:
        raise
    except Exception as error:  # a user's class may raise anything
        reason = first_line(error)
        is_cast = any(words in reason for words in ("dtype", "scalar type", "type Double", "type Float"))
        if is_cast and "indices" not in reason:
            raise UserError(
                f"the module mixes precisions ({reason}): it casts inside; let it follow the precision of "
                "its input, or use --single-precision"
            ) from error
        raise UserError(
            f"the module cannot be run on {points.shape[0]} points of {points.shape[1]} coordinates "
            f"({reason}): it must take real numbers [points, coordinates], of as many as it is made for "
            "(--in-dim)"
        ) from error


def first_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_complex():
        return tensor.to(COMPLEX[dtype])
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _converted_within(value: Any, dtype: torch.dtype) -> Any:
    """Convert a tensor, or the tensors in nested lists, tuples and dicts; all else is returned as it is."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return _converted(value, dtype)
    if type(value) in (list, tuple):
        return type(value)(_converted_within(one, dtype) for one in value)
    if type(value) is dict:
        return {key: _converted_within(one, dtype) for key, one in value.items()}
    return value
