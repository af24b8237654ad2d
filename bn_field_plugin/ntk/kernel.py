"""The neural tangent kernel of a module at given points, whichever way it is computed.

The kernel is J J^T with J the Jacobian of the whole batch's function in the parameters (Jacot et al. 2018):
with norms over the batch, an output at one point depends on all points, and J includes that dependence.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, running_norms
from bn_field_plugin.ntk.autodiff import SPARSE_PARAMETERS, AutodiffJacobian
from bn_field_plugin.ntk.memory import Need, available_bytes, choose_route
from bn_field_plugin.ntk.module_function import ModuleFunction, Statistics
from bn_field_plugin.ntk.points import check_points
from bn_field_plugin.ntk.row_norms import COUPLING
from bn_field_plugin.ntk.structured import StructuredJacobian
from bn_field_plugin.progress import Tracker, silent

Backend = Literal["auto", "structured", "autodiff"]
"""`structured`: layer by layer, for a CoordinateMLP; `autodiff`: any module."""

STATISTICS_PER_OUTPUT = 2
"""Number of batch statistics for each output up to which the structured backend is faster than autodiff.

The structured backend's work grows with points times statistics, that of a backward pass from each output
with the square of the points.
"""


class Jacobian(Protocol):
    """The m x p Jacobian of m = points x outputs in p parameters; rows are ordered by point, then output."""

    num_outputs: int
    num_parameters: int

    def dense(self) -> Float[Tensor, "m p"]:
        """The Jacobian itself."""
        ...

    def kernel(self) -> Float[Tensor, "m m"]:
        """`J J^T`."""
        ...

    def gram(self) -> Float[Tensor, "p p"]:
        """`J^T J`, whose eigenvalues are those of the kernel, but for zeros."""
        ...

    def times(self, vector: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        """`J v`."""
        ...

    def transposed_times(self, vector: Float[Tensor, " m"]) -> Float[Tensor, " p"]:
        """`J^T u`."""
        ...


def jacobian(
    module: nn.Module,
    points: Float[Tensor, "n d"],
    *,
    statistics: Statistics = "batch",
    backend: Backend = "auto",
    dtype: torch.dtype = torch.float64,
    tracker: Tracker = silent,
) -> Jacobian:
    """The Jacobian of a module's outputs at all points in its learned parameters.

    Args:
        module: from [n, d] points to [n, ...] outputs. It is copied, and keeps its statistics.
        points: distinct points.
        statistics: which statistics the norms over the batch use (see `Statistics`).
        backend: how the Jacobian is computed; by default chosen by the sizes.
        dtype: precision of the computation.
        tracker: shows progress.

    Raises:
        UserError: points or a module that are unfit (see `check_points` and `ModuleFunction`), or a backend
            that does not serve the module.
    """
    check_points(points)
    function = ModuleFunction(module, points, statistics, dtype)
    reason = why_not_structured(module)
    if backend == "structured" and reason is not None:
        raise UserError(f"the structured backend does not serve this module, since {reason}: take autodiff")
    if backend == "auto":
        backend = "structured" if _prefers_structure(module, function, statistics) else "autodiff"
    if backend == "structured":
        assert isinstance(module, CoordinateMLP)
        return StructuredJacobian(module, function.points, statistics, tracker)
    return AutodiffJacobian(function, tracker)


def ntk(
    module: nn.Module,
    points: Float[Tensor, "n d"],
    *,
    statistics: Statistics = "batch",
    backend: Backend = "auto",
    dtype: torch.dtype = torch.float64,
    tracker: Tracker = silent,
) -> Float[Tensor, "m m"]:
    """The kernel J J^T, symmetric and positive semi-definite; it takes the arguments of `jacobian`.

    Where outputs outnumber parameters, `jacobian(...).gram()` is smaller, with the same eigenvalues but for
    zeros.

    Raises:
        UserError: as `jacobian` does, or the kernel does not fit into memory.
    """
    found = jacobian(module, points, statistics=statistics, backend=backend, dtype=dtype, tracker=tracker)
    choose_route(need_of(found, dtype), "kernel", available_bytes(points.device))
    return found.kernel()


def need_of(found: Jacobian, dtype: torch.dtype = torch.float64) -> Need:
    """Memory that the routes to a spectrum take with a given Jacobian."""
    stores_rows = isinstance(found, AutodiffJacobian) and found.num_parameters < SPARSE_PARAMETERS
    extra = found.num_outputs * found.num_parameters * dtype.itemsize if stores_rows else 0
    return Need(found.num_outputs, found.num_parameters, extra, dtype.itemsize)


def num_statistics(module: nn.Module) -> int:
    """Number of means and variances that the norms over the batch of a module take."""
    return sum(2 * norm.running_mean.numel() for norm in running_norms(module))


def why_not_structured(module: nn.Module) -> str | None:
    """Why the Jacobian of a module cannot be computed layer by layer; None where it can."""
    if type(module) is not CoordinateMLP:
        return "it is no CoordinateMLP"
    if list(module.encoding.parameters()):
        return "its encoding is learned too"
    if module.is_complex:
        return "its weights are complex numbers"
    if any(type(norm) not in COUPLING for norm in running_norms(module)):
        return "its norm takes statistics other than means and variances of columns"
    if not all(p.requires_grad for p in module.parameters()):
        return "some of its parameters are not learned"
    return None


def _prefers_structure(module: nn.Module, function: ModuleFunction, statistics: Statistics) -> bool:
    if why_not_structured(module) is not None:
        return False
    if statistics != "batch":
        return True
    assert isinstance(module, CoordinateMLP)
    coupled = num_statistics(module)
    bytes_of_gradients = coupled * function.num_parameters * function.points.dtype.itemsize // 2
    is_small = bytes_of_gradients <= available_bytes(function.points.device) // 2
    return is_small and coupled <= STATISTICS_PER_OUTPUT * function.num_outputs
