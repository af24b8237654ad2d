"""A module at fixed points as a function of its parameters, for all samples of the batch at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import batch_statistics, calibrate, frozen_statistics
from bn_field_plugin.ntk.held_norms import hold_running, hold_those_of, take_from_batch
from bn_field_plugin.ntk.module_copy import attempt, copy_in_precision
from bn_field_plugin.ntk.module_state import unchanged_state

Statistics = Literal["batch", "frozen", "running"]
"""The statistics with which norms over the batch normalise. `batch`: those of the given points, which change
with the parameters and so couple the samples. `frozen`: the same numbers, held constant. `running`: the
module's own running statistics, held constant."""

HALF = (torch.float16, torch.bfloat16)


class ModuleFunction:
    """Outputs of a copy of a module at given points.

    The module itself and its running statistics stay as they are. torch's batch norms are treated like those
    of this package, whatever mode the module is in. A complex parameter counts as two real ones.

    Args:
        module: any module from [n, d] points to [n, ...] outputs.
        points: the points.
        statistics: which statistics the norms over the batch use (see `Statistics`).
        dtype: precision; fp32 is faster than the default, fp64, but loses the tail of the spectrum.

    Raises:
        UserError: the module is in half precision, cannot be copied or run, has nothing to learn, or has
            outputs that are not differentiable, differ from call to call, or are not one row for each point.
        CoupledError: the statistics are to be held, but samples still depend on each other.

    Attributes:
        parameters: learned parameters of the copy, detached, by name.
        num_points: number n of points.
        num_outputs: n times the number of outputs at a point; rows are ordered by point, then output.
        num_parameters: count of all numbers in `parameters`.
    """

    def __init__(
        self,
        module: nn.Module,
        points: Float[Tensor, "n d"],
        statistics: Statistics = "batch",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        points = points.detach()
        if any(p.dtype in HALF for p in module.parameters()) or dtype in HALF:
            raise UserError("the module is in half precision, too coarse for a spectrum: pass module.float()")
        if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
            raise UserError("the module is on the device meta, without values: load its weights first")
        self.module = copy_in_precision(module, points, dtype)
        learned = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not learned:
            raise UserError("the module has no parameters that are learned: there is no kernel")
        device = next(iter(learned.values())).device
        self.points = points.to(device=device, dtype=dtype)
        self.statistics = statistics
        self._hold_statistics()
        self._complex = {name for name, p in learned.items() if p.is_complex()}
        self.parameters = {
            name: torch.view_as_real(p.detach()) if name in self._complex else p.detach()
            for name, p in learned.items()
        }
        self._places = places_of(self.module)
        self.num_points = points.shape[0]
        self.num_parameters = sum(p.numel() for p in self.parameters.values())
        self.num_outputs = self._check()

    def __call__(self, parameters: dict[str, Tensor]) -> Num[Tensor, " m"]:
        """Outputs with given parameters, flattened; what the copy keeps besides them does not change."""
        return self._outputs(parameters, self.points).reshape(-1)

    def _outputs(self, parameters: dict[str, Tensor], points: Float[Tensor, "n d"]) -> Tensor:
        own = {
            name: torch.view_as_complex(p) if name in self._complex else p for name, p in parameters.items()
        }
        everywhere = {place: tensor for name, tensor in own.items() for place in self._places[name]}
        with self._mode(), unchanged_state(self.module):
            inputs = (points.clone(),)  # the module may change its input in place
            return single(torch.func.functional_call(self.module, everywhere, inputs, tie_weights=False))

    def _hold_statistics(self) -> None:
        """Set up all norms over the batch, torch's too, for the statistics that were asked for."""
        if self.statistics == "running":
            hold_running(self.module)
            return
        take_from_batch(self.module)
        if self.statistics == "frozen":
            with torch.no_grad(), batch_statistics(self.module):
                attempt(self._pass, self.points)  # a pass that fails is told here in one line
            calibrate(self.module, [self.points], lambda _: self._pass())
            with frozen_statistics(self.module):
                hold_those_of(self.module, self._pass)

    def _pass(self) -> Any:
        with unchanged_state(self.module):
            return self.module(self.points.clone())

    def flat(self, gradients: dict[str, Tensor]) -> Float[Tensor, "*batch p"]:
        """Join gradients by name into one vector, or one row for each cotangent."""
        parts = [gradients[name] for name in self.parameters]
        lead = parts[0].ndim - next(iter(self.parameters.values())).ndim
        return torch.cat(
            [part.flatten(lead) if part.ndim > lead else part[..., None] for part in parts], dim=lead
        )

    def split(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        """The inverse of `flat` for one vector."""
        sizes = [p.numel() for p in self.parameters.values()]
        parts = vector.split(sizes)
        return {name: v.view_as(p) for (name, p), v in zip(self.parameters.items(), parts, strict=True)}

    def _mode(self) -> AbstractContextManager[None]:
        return (batch_statistics if self.statistics == "batch" else frozen_statistics)(self.module)

    def _check(self) -> int:
        parameters = {name: p.clone().requires_grad_() for name, p in self.parameters.items()}
        with torch.enable_grad():
            first = attempt(lambda: self(parameters), self.points)
            is_differentiable = first.is_floating_point() and first.requires_grad
            first = first.detach()  # frees the graph of the first pass before the second builds its own
            second = self(parameters).detach()
        if not is_differentiable:
            raise UserError(
                "the module's output is not differentiable in its parameters: return a float tensor"
            )
        if first.dtype != self.points.dtype:
            raise UserError(
                f"the module casts to {first.dtype} inside, where {self.points.dtype} was asked for: "
                "let it follow the precision of its input, or use --single-precision"
            )
        if not bool(first.isfinite().all()):
            raise UserError("the module's output is not finite: check its parameters and the points")
        if first.shape != second.shape or not torch.equal(first, second):
            raise UserError(
                "the module's output differs from call to call: switch randomness off (module.eval()), and "
                "let it keep what it counts in buffers or attributes"
            )
        if first.numel() == 0 or first.numel() % self.num_points:
            raise UserError(
                f"the module gives {first.numel()} outputs for {self.num_points} points: "
                "how many must not depend on the data"
            )
        if self.statistics != "batch":
            self._check_uncoupled(first)
        return first.numel()

    def _check_uncoupled(self, outputs: Float[Tensor, " m"]) -> None:
        """Check, for statistics that are held, that a point's outputs do not depend on the other points.

        Raises:
            CoupledError: outputs at half of the points change when the other half is left out.
        """
        half = self.num_points // 2
        if half == 0:
            return
        try:
            alone = self._outputs(self.parameters, self.points[:half]).reshape(-1)
        except Exception:  # a module that takes just this number of points cannot be checked
            return
        together = outputs[: alone.numel()]
        if alone.shape != outputs[: outputs.numel() * half // self.num_points].shape:
            return
        scale = together.abs().max().clamp_min(torch.finfo(outputs.dtype).tiny)
        if bool((alone - together).abs().max() > scale * torch.finfo(outputs.dtype).eps ** 0.5):
            raise CoupledError(
                "the module's samples are coupled by something that cannot be held, as a norm over the batch "
                "of its own: use --statistics batch"
            )


def places_of(module: nn.Module) -> dict[str, list[str]]:
    """All names of each parameter, by the first of them; a shared one has several.

    `functional_call` finds shared parameters itself, but not all if a module that holds one has two names.
    """
    found: dict[Tensor, list[str]] = {}
    for prefix, part in module.named_modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                found.setdefault(tensor, []).append(f"{prefix}.{name}" if prefix else name)
    return {places[0]: places for places in found.values()}


class CoupledError(UserError):
    """Samples of a module depend on each other through something that cannot be held constant."""


def single(outputs: Any) -> Tensor:
    """The one tensor that a module returns, alone or in a dict, list or tuple.

    Raises:
        UserError: the module returns no tensor, or several.
    """
    if isinstance(outputs, Tensor):
        return outputs
    parts = outputs
    if isinstance(outputs, Mapping):
        parts = list(outputs.values())
    if isinstance(parts, (list, tuple)):
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
        names = f" ({', '.join(map(str, outputs))})" if isinstance(outputs, Mapping) else ""
        raise UserError(
            f"the module returns a {type(outputs).__name__} of {len(tensors)} tensors{names}: return one"
        )
    raise UserError(f"the module returns {type(outputs).__name__}: return one tensor")
