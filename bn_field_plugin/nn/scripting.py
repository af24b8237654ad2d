"""TorchScript of our modules: what a trace records, for inputs of any shape.

TorchScript's compiler knows neither our annotations nor the configs that modules read, but a module in
evaluation takes one path whatever its input, so that a trace has all of it.
"""

# No `from __future__ import annotations`: TorchScript reads the evaluated types.
import torch
from torch import Tensor, nn

from bn_field_plugin.errors import UserError


def recorded(module: nn.Module, in_features: int) -> nn.Module:
    """A module that `torch.jit.script` compiles to what `module` computes, on the same parameters.

    Our modules give it as their `__prepare_scriptable__`, which `torch.jit.script` asks for.

    Args:
        module: a module from `[*batch, in_features]` to `[*batch, out_features]`.
        in_features: as many as it takes.

    Raises:
        UserError: a module that would normalise with a batch's statistics and update its own.
    """
    example = torch.zeros(2, in_features)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            example = example.to(tensor)
            break
    with torch.enable_grad():  # what is recorded can be differentiated
        if any(getattr(part, "normalizes_with_batch", False) for part in module.modules()):
            raise UserError(
                "a network in training cannot be scripted, for it updates its statistics: "
                "script fold_norm(network), or network.eval()"
            )
        return _OfAnyShape(torch.jit.trace(module, example, check_trace=False))


def is_recording() -> bool:
    """Whether torch.jit.trace is at work: sizes are tensors then, and one way through each `if` is taken."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


class _OfAnyShape(nn.Module):
    """Applies a traced module, whose inputs have one leading dimension, to any number of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x.reshape(-1, x.shape[-1]))
        return y.reshape(x.shape[:-1] + y.shape[1:])
