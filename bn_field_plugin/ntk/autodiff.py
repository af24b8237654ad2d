"""The Jacobian of any module by automatic differentiation, for a block of outputs at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk.module_function import ModuleFunction
from bn_field_plugin.progress import Tracker, silent

BLOCK_BYTES = 2**28
"""Bytes of memory for one block of cotangents."""

SPARSE_PARAMETERS = 2**16
"""Number of parameters from which on those that no output depends on, as in hash grids, are left out."""


class AutodiffJacobian:
    """Makes rows of the Jacobian by a backward pass from each output through the whole batch.

    Args:
        function: the module at its points.
        tracker: shows progress.

    Attributes:
        num_outputs: rows m.
        num_parameters: parameters p of the module.
    """

    def __init__(self, function: ModuleFunction, tracker: Tracker = silent) -> None:
        self.function, self.tracker = function, tracker
        self.num_outputs, self.num_parameters = function.num_outputs, function.num_parameters
        self._is_functional = True
        try:
            pull: Any = torch.func.vjp(function, function.parameters)[1]
            self._pull: Callable[[Tensor], Tensor] = lambda u: function.flat(pull(u)[0])
            self._pull(torch.zeros(self.num_outputs, dtype=self._dtype, device=self._device))
        except (
            RuntimeError
        ):  # torch.func cannot differentiate a part of it, such as an old-style autograd.Function
            self._is_functional = False
            self._pull = self._autograd()
        self._columns = self._active_columns() if self.num_parameters >= SPARSE_PARAMETERS else None

    @property
    def _dtype(self) -> torch.dtype:
        return self.function.points.dtype

    @property
    def _device(self) -> torch.device:
        return self.function.points.device

    def _autograd(self) -> Callable[[Tensor], Tensor]:
        """A function from a cotangent to its gradient, by backward passes through one kept graph."""
        parameters = {name: p.clone().requires_grad_() for name, p in self.function.parameters.items()}
        with torch.enable_grad():
            outputs = self.function(parameters)

        def pull(u: Tensor) -> Tensor:
            found = torch.autograd.grad(
                outputs,
                list(parameters.values()),
                u,
                retain_graph=True,
                materialize_grads=True,
                allow_unused=True,
            )
            return self.function.flat(dict(zip(parameters, found, strict=True)))

        return pull

    def _active_columns(self) -> Tensor:
        """Indices of the parameters that an output depends on: with a gradient along a random cotangent."""
        generator = torch.Generator().manual_seed(0)
        u = torch.randn(self.num_outputs, generator=generator, dtype=torch.float64)
        return self._pull(u.to(self._device, self._dtype)).nonzero().squeeze(1)

    def _rows(self, start: int, stop: int) -> Float[Tensor, "b q"]:
        unit = torch.zeros(stop - start, self.num_outputs, dtype=self._dtype, device=self._device)
        unit[torch.arange(stop - start), torch.arange(start, stop)] = 1
        if self._is_functional:
            try:
                rows = torch.func.vmap(self._pull)(unit)
            except RuntimeError as error:
                raise UserError(
                    "the module's output depends on the data in a way that cannot be differentiated for many "
                    f"outputs at once ({str(error).splitlines()[0]})"
                ) from error
            return rows if self._columns is None else rows[:, self._columns]
        parts = [self._pull(u) for u in unit]
        return torch.stack(parts if self._columns is None else [part[self._columns] for part in parts])

    def _blocks(self, description: str) -> list[tuple[int, int]]:
        widest = max(max(p.shape, default=1) for p in self.function.parameters.values())
        columns = self.num_parameters if self._columns is None else self._columns.numel()
        widest = min(widest, 4096)
        one = self._dtype.itemsize * (columns + 4 * self.function.num_points * widest)
        size = max(1, min(BLOCK_BYTES // one, self.num_outputs))
        return [(a, min(a + size, self.num_outputs)) for a in range(0, self.num_outputs, size)]

    def dense(self) -> Float[Tensor, "m q"]:
        """The Jacobian; columns of parameters without influence are left out from `SPARSE_PARAMETERS` on."""
        columns = self.num_parameters if self._columns is None else self._columns.numel()
        result = torch.empty(self.num_outputs, columns, dtype=self._dtype, device=self._device)
        for start, stop in self.tracker(self._blocks("Jacobian"), "Jacobian"):
            result[start:stop] = self._rows(start, stop)
        return result

    def kernel(self) -> Float[Tensor, "m m"]:
        """`J J^T`."""
        dense = self.dense()
        return dense @ dense.T

    def gram(self) -> Float[Tensor, "p p"]:
        """`J^T J`, without storing J."""
        columns = self.num_parameters if self._columns is None else self._columns.numel()
        total = torch.zeros(columns, columns, dtype=self._dtype, device=self._device)
        for start, stop in self.tracker(self._blocks("J^T J"), "J^T J"):
            rows = self._rows(start, stop)
            total.addmm_(rows.T, rows)
        return total

    def times(self, vector: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        """`J v`."""
        if self._is_functional:
            parameters = self.function.parameters
            product: Tensor = torch.func.jvp(self.function, (parameters,), (self.function.split(vector),))[1]
            return product
        # J^T u is linear in u, so differentiating <J^T u, v> by u gives J v.
        parameters = {name: p.clone().requires_grad_() for name, p in self.function.parameters.items()}
        u = torch.zeros(self.num_outputs, dtype=self._dtype, device=self._device, requires_grad=True)
        with torch.enable_grad():
            found = torch.autograd.grad(
                self.function(parameters),
                list(parameters.values()),
                u,
                create_graph=True,
                materialize_grads=True,
                allow_unused=True,
            )
            return torch.autograd.grad(
                self.function.flat(dict(zip(parameters, found, strict=True))) @ vector, u
            )[0]

    def transposed_times(self, vector: Float[Tensor, " m"]) -> Float[Tensor, " p"]:
        """`J^T u`."""
        return self._pull(vector)
