"""The Jacobian of a coordinate network, layer by layer: exact, and never stored.

The gradient of a sample's output in a weight is an outer product, so a layer's share of the kernel is the
product, entry by entry, of two small Grams. Norms over the batch add a correction of low rank
(`bn_field_plugin.ntk.coupling`).

Norms and activations are differentiated by torch.func over their formulas (`bn_field_plugin.ntk.row_norms`).
What is written out here and beside it is the chain from layer to layer, because torch.func cannot use the
structure: it goes back from each output through the whole batch, so its time grows with the square of the
points. Measured by `python -m benchmarks.ntk_speed --rounds 1 --growth 16 32 64 96 --no-plain` on two cores:
for 1,024 points, torch.func.jacrev takes 2.0 times as long at 4 x 256 units, and 7.3 times at 3 x 64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP
from bn_field_plugin.ntk.coupling import Coupling
from bn_field_plugin.ntk.module_function import Statistics
from bn_field_plugin.ntk.tape import Outer, Tape
from bn_field_plugin.progress import Tracker, silent

ROW_BYTES = 2**27
"""Bytes of memory for a block of rows of the Jacobian."""


class StructuredJacobian:
    """The Jacobian as outer products and, where samples are coupled, a correction of low rank.

    Args:
        mlp: the network; all its parameters are learned and its encoding has none. It is copied.
        points: the points, in the dtype to compute in.
        statistics: which statistics the norms over the batch use (see `Statistics`).
        tracker: shows progress.

    Attributes:
        num_outputs: number m of rows, which are ordered by point, then output.
        num_parameters: number p of columns, which are in the order of `named_parameters`.
    """

    def __init__(
        self,
        mlp: CoordinateMLP,
        points: Float[Tensor, "n d"],
        statistics: Statistics = "batch",
        tracker: Tracker = silent,
    ) -> None:
        self._mlp = copy.deepcopy(mlp).to(points.dtype).requires_grad_(False)
        self._points, self._statistics, self._tracker = points, statistics, tracker
        self.names = [name for name, _ in self._mlp.named_parameters()]
        self.num_points, self.outputs_per_point = len(points), mlp.config.out_dim
        self.num_outputs = self.num_points * self.outputs_per_point
        self.num_parameters = sum(p.numel() for p in self._mlp.parameters())

    @cached_property
    def _parts(self) -> tuple[dict[str, Outer], Coupling | None]:
        """Outer products, one for each parameter, and the coupling; made when first asked for."""
        # `frozen` uses the batch's statistics too: it is the case of `batch` without the coupling.
        tape = Tape(self._mlp, self._points, with_batch=self._statistics != "running")
        blocks, by_statistics = tape.outputs_backward()
        if self._statistics == "batch" and any(layer.num_statistics for layer in tape.layers):
            return blocks, Coupling(tape, by_statistics)
        return blocks, None

    @property
    def blocks(self) -> dict[str, Outer]:
        """Gradients of the outputs in each parameter, with statistics held."""
        return self._parts[0]

    @property
    def coupling(self) -> Coupling | None:
        """The part of the Jacobian by way of the statistics; None where samples are not coupled."""
        return self._parts[1]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each parameter."""
        return {name: (b.left.shape[2], b.right.shape[1]) for name, b in self.blocks.items()}

    def kernel(self) -> Float[Tensor, "m m"]:
        """`J J^T`, from the Gram matrices of each layer."""
        kernel = sample_kernel(self.blocks)
        return kernel if self.coupling is None else self.coupling.correct(kernel, self.blocks)

    def rows(self, start: int, stop: int) -> Float[Tensor, "b p"]:
        """Rows of the Jacobian for the points from `start` to before `stop`."""
        parts = []
        for name in self.names:
            left, right = self.blocks[name]
            outer = left[start:stop, :, :, None] * right[start:stop, None, None, :]
            parts.append(outer.flatten(0, 1).flatten(1))
        rows = torch.cat(parts, dim=1)
        if self.coupling is not None:
            o = self.outputs_per_point
            rows.addmm_(self.coupling.influence[start * o : stop * o], self._statistics_gradients)
        return rows

    def dense(self) -> Float[Tensor, "m p"]:
        """The Jacobian."""
        return self.rows(0, self.num_points)

    def gram(self) -> Float[Tensor, "p p"]:
        """`J^T J`, without storing J."""
        like = self.blocks["output.weight"].right
        total = like.new_zeros(self.num_parameters, self.num_parameters)
        size = max(1, ROW_BYTES // (self.num_parameters * self.outputs_per_point * like.element_size()))
        starts = range(0, self.num_points, size)
        for start in self._tracker(starts, "J^T J"):
            _add_lower_gram(total, self.rows(start, min(start + size, self.num_points)))
        return total.tril_().add_(total.tril(-1).T)

    def times(self, vector: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        """`J v`."""
        sizes = [c * d for c, d in (self.shapes[name] for name in self.names)]
        parts = dict(zip(self.names, vector.split(sizes), strict=True))
        total = vector.new_zeros(self.num_points, self.outputs_per_point)
        for name, (left, right) in self.blocks.items():
            seen = right @ parts[name].view(self.shapes[name]).T
            total.add_(torch.einsum("jkc,jc->jk", left, seen))
        if self.coupling is None:
            return total.flatten()
        return total.flatten().addmv_(self.coupling.influence, self._statistics_gradients @ vector)

    def transposed_times(self, vector: Float[Tensor, " m"]) -> Float[Tensor, " p"]:
        """`J^T u`."""
        weights = vector.view(self.num_points, self.outputs_per_point)
        parts = []
        for name in self.names:
            left, right = self.blocks[name]
            parts.append((torch.einsum("jkc,jk->jc", left, weights).T @ right).flatten())
        total = torch.cat(parts)
        if self.coupling is None:
            return total
        return total.addmv_(self._statistics_gradients.T, self.coupling.influence.T @ vector)

    @cached_property
    def _statistics_gradients(self) -> Float[Tensor, "s p"]:
        assert self.coupling is not None
        return self.coupling.dense(self.names, self.shapes)


def sample_kernel(blocks: Mapping[str, Outer]) -> Float[Tensor, "m m"]:
    """`J_0 J_0^T` of gradients that are outer products: for each parameter, two Gram matrices' product."""
    total: Tensor | None = None
    for left, right in blocks.values():
        n, k, c = left.shape
        rows = left.reshape(n * k, c)
        product = rows @ rows.T
        if right.shape[1] > 1:
            product.view(n, k, n, k).mul_((right @ right.T)[:, None, :, None])
        elif not bool((right == 1).all()):
            product.view(n, k, n, k).mul_((right * right.T)[:, None, :, None])
        total = product if total is None else total.add_(product)
    assert total is not None
    return total


def _add_lower_gram(total: Float[Tensor, "p p"], rows: Float[Tensor, "b p"]) -> None:
    """Add `rows.T @ rows` to the lower triangle of `total`, in panels; the upper triangle is undefined."""
    p = total.shape[0]
    size = max(512, -(-p // 16))
    for start in range(0, p, size):
        stop = min(start + size, p)
        total[start:, start:stop].addmm_(rows[:, start:].T, rows[:, start:stop])
