"""A module at fixed points as a function of its parameters, for all samples of the batch at once."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.nn import UserError, batch_statistics, calibrate, frozen_statistics

Statistics = Literal["batch", "frozen", "running"]
"""What norms over the batch normalise with: `batch`, the statistics of the given points, which move with the
parameters and so couple the samples; `frozen`, the same numbers held; `running`, the module's own, held.
"""

HALF = (torch.float16, torch.bfloat16)


class ModuleFunction:
    """Outputs of a copy of a module at given points.

    The module itself and its running statistics stay as they are. Norms of other makers, as torch's batch
    norm, do what the module's training or evaluation mode makes them do; in training mode they couple.

    Args:
        module: any module from [n, d] points to [n, ...] outputs.
        points: the points.
        statistics: whose statistics the norms over the batch use.
        dtype: fp64 by default; fp32 is faster, and loses the tail of the spectrum.

    Raises:
        UserError: the module is in half precision, has nothing to learn, or has outputs that are not
            differentiable, differ from call to call, or are not one row for each point.

    Attributes:
        parameters: what is differentiated, detached, by name.
        num_points: n.
        num_outputs: n times the outputs of a point; all rows are ordered by point, then output.
        num_parameters: numbers in `parameters`.
    """

    def __init__(
        self,
        module: nn.Module,
        points: Float[Tensor, "n d"],
        statistics: Statistics = "batch",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        learned = [p for p in module.parameters() if p.requires_grad]
        if not learned:
            raise UserError("the module has no parameters that are learned: there is no kernel")
        if any(p.dtype in HALF for p in module.parameters()) or dtype in HALF:
            raise UserError("the module is in half precision, too coarse for a spectrum: pass module.float()")
        self.module = copy.deepcopy(module).to(dtype)
        self.points = points.detach().to(device=learned[0].device, dtype=dtype)
        self.statistics = statistics
        if statistics == "frozen":
            calibrate(self.module, [self.points])
        self.parameters = {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}
        self.num_points = points.shape[0]
        self.num_parameters = sum(p.numel() for p in self.parameters.values())
        self.num_outputs = self._check()

    def __call__(self, parameters: dict[str, Tensor]) -> Float[Tensor, " m"]:
        """Outputs with given parameters, flattened; buffers that a pass would update stay as they are."""
        buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        with self._mode():
            outputs = torch.func.functional_call(self.module, {**buffers, **parameters}, (self.points,))
        return outputs.reshape(-1)

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
            first = self(parameters)
            is_differentiable = first.is_floating_point() and first.requires_grad
            first = first.detach()  # frees its graph before the next one is built
            second = self(parameters).detach()
        if not is_differentiable:
            raise UserError(
                "the module's output is not differentiable in its parameters: return a float tensor"
            )
        if first.shape != second.shape or not torch.equal(first, second):
            raise UserError(
                "the module's output differs from call to call: switch randomness off (module.eval())"
            )
        if first.numel() == 0 or first.numel() % self.num_points:
            raise UserError(
                f"the module gives {first.numel()} outputs for {self.num_points} points: "
                "how many must not depend on the data"
            )
        if not bool(first.isfinite().all()):
            raise UserError("the module's output is not finite: check its parameters and the points")
        return first.numel()
