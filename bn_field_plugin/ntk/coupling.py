"""How the statistics of the batch depend on the parameters, which is what couples the samples of a batch.

Every norm over the batch couples samples through its means and variances alone, S numbers in all, however
many samples there are. With J_0 the Jacobian of the outputs with statistics held, A the gradients in the
statistics, T_0 the gradients of the statistics with those of earlier layers held, and B the gradients of
statistics in earlier statistics, the Jacobian of the whole batch's function is

    J = J_0 + A (1 - B)^-1 T_0.

The cost is linear in the number of samples, while that of a backward pass from each output through the whole
batch is quadratic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.ntk.tape import LayerTape, Outer, Tape

BLOCK_BYTES = 2**23
"""Bytes of the largest temporary tensors."""


Key = TypeVar("Key", str, int)
"""Names of parameters, or numbers of layers."""


class LayerStatistics:
    """Gradients of the statistics of one layer's norm.

    Args:
        tape: the network at its points.
        index: number of the layer, from 0.

    Attributes:
        size: number S of statistics: means, then variances.
        own: gradients in the layer's own linear map, where each statistic depends on one feature: entry [t,
            c] is the gradient of statistic t of feature c in row c of the parameter, the only row on which it
            depends.
        below: gradients in all other parameters: those of lower layers, and of this one where the norm is
            pooled.
        earlier: gradients in the statistics of earlier layers; None where a layer has none.
    """

    def __init__(self, tape: Tape, index: int) -> None:
        layer = tape.layers[index]
        assert layer.norm is not None
        self.size = layer.num_statistics
        self.own: dict[str, Float[Tensor, "2 c d"]] = {}
        self.below: dict[str, Float[Tensor, "s c d"]] = {}
        self.earlier: list[Float[Tensor, "s r"] | None] = [None] * len(tape.layers)
        sources, slope = layer.norm.sources(), layer.source_slope()
        if layer.norm.pooled:
            self._pooled(tape, index, sources if slope is None else sources * slope)
        else:
            self._by_feature(tape, index, sources, slope)
        vectors = {name: gradient[..., 0] for name, gradient in self.below.items() if gradient.shape[2] == 1}
        for earlier, lower in enumerate(tape.layers[:index]):
            found = lower.statistics_through(vectors)
            if found is not None:
                self.earlier[earlier] = found

    def _pooled(self, tape: Tape, index: int, sources: Float[Tensor, "2 n c"]) -> None:
        """Find the gradients of a pooled norm's two statistics, which are over all features."""
        layer = tape.layers[index]
        product, rows = sources.movedim(0, 1), slice(None)
        blocks, hidden = layer.linear_blocks(product, rows), layer.hidden(product)
        statistics: list[Tensor | None] = []
        if hidden is not None:
            found, statistics = tape.descend(index - 1, hidden, rows)
            blocks |= found
        for name, (left, right) in blocks.items():
            self.below[name] = torch.einsum("jkc,jd->kcd", left, right)
        for earlier, gradient in enumerate(statistics):
            if gradient is not None:
                self.earlier[earlier] = gradient.sum(0)

    def _by_feature(
        self, tape: Tape, index: int, sources: Float[Tensor, "2 n c"], slope: Float[Tensor, "n c"] | None
    ) -> None:
        """Find the gradients of the statistics where each feature has a mean and a variance of its own."""
        layer = tape.layers[index]
        own = sources if slope is None else sources * slope
        n, features = sources.shape[1:]
        blocks = layer.linear_blocks(own.movedim(0, 1), slice(None))
        self.own = {name: left.permute(1, 2, 0) @ right for name, (left, right) in blocks.items()}
        if not layer.carried:
            return
        weight = layer.layer.linear.weight[:, -layer.carried :]
        row_bytes = weight.shape[1] * weight.element_size()
        step = min(features, max(1, BLOCK_BYTES // (n * row_bytes)))
        size = max(1, BLOCK_BYTES // (step * row_bytes))
        parts: list[_Sums] = []
        for first in range(0, features, step):
            chosen = slice(first, min(first + step, features))
            sums = _Sums()
            for start in range(0, n, size):
                rows = slice(start, min(start + size, n))
                # Mean and variance of a feature are sums of the same gradients with different weights, so one
                # backward pass for each feature serves both.
                quantities = weight[chosen].expand(rows.stop - start, -1, -1)
                if slope is not None:
                    quantities = slope[rows, chosen, None] * quantities
                sums.add(1 / n, sources[1, rows, chosen], *tape.descend(index - 1, quantities, rows))
            parts.append(sums)
        self.below = {
            name: torch.cat([part.blocks[name] for part in parts], dim=1).flatten(0, 1)
            for name in parts[0].blocks
        }
        for earlier in parts[0].statistics:
            self.earlier[earlier] = torch.cat([part.statistics[earlier] for part in parts], dim=1).flatten(
                0, 1
            )

    def products_with(self, blocks: Mapping[str, Outer]) -> Float[Tensor, "s m"]:
        """`T_0 J_0^T` for this layer's rows of T_0; J_0 is in blocks of n samples and k outputs, m = n k."""
        n, k = next(iter(blocks.values())).left.shape[:2]
        total = next(iter(blocks.values())).left.new_zeros(self.size, n, k)
        for name, gradient in self.own.items():
            left, right = blocks[name]
            seen = right @ gradient.flatten(0, 1).T  # [n, 2 c]
            total.view(2, -1, n, k).add_(torch.einsum("jtc,jkc->tcjk", seen.view(n, 2, -1), left))
        for name, gradient in self.below.items():
            left, right = blocks[name]
            c, d = gradient.shape[1:]
            if d == 1:
                total.add_(torch.einsum("sc,jkc->sjk", gradient[..., 0], left * right[:, None]))
                continue
            size = max(1, BLOCK_BYTES // (c * n * left.element_size()))
            for start in range(0, self.size, size):
                part = gradient[start : start + size]
                seen = (part.flatten(0, 1) @ right.T).view(-1, c, n)
                for output in range(k):
                    total[start : start + size, :, output].add_((seen * left[:, output].T).sum(1))
        return total.flatten(1)

    def products_with_statistics(self, other: LayerStatistics) -> Float[Tensor, "s r"]:
        """The part of `T_0 T_0^T` for this layer's statistics and those of `other`, this or a lower one."""
        like = next(iter(self.own.values()), None)
        like = next(iter(self.below.values())) if like is None else like
        total = like.new_zeros(self.size, other.size)
        for name, gradient in self.below.items():
            if name in other.below:
                total.addmm_(gradient.flatten(1), other.below[name].flatten(1).T)
            elif name in other.own:
                total.add_(torch.einsum("scd,tcd->stc", gradient, other.own[name]).flatten(1))
        for name, gradient in self.own.items():
            if name in other.own:
                among = torch.einsum("tcd,ucd->tuc", gradient, other.own[name])
                total.view(2, among.shape[2], 2, -1).diagonal(dim1=1, dim2=3).add_(among)
        return total

    def dense(self, name: str, shape: tuple[int, int]) -> Float[Tensor, "s p"] | None:
        """Gradients in a parameter of `shape` [c, d], a row for each statistic; None if all are zero."""
        if name in self.below:
            return self.below[name].flatten(1)
        if name not in self.own:
            return None
        own = self.own[name]
        return torch.diag_embed(own.transpose(1, 2)).permute(0, 2, 3, 1).reshape(-1, shape[0] * shape[1])


class Coupling:
    """T_0, B and A of all norms over the batch.

    Args:
        tape: the network at its points.
        by_statistics: gradients of the outputs in the statistics of each layer, with those of other layers
            held.

    Attributes:
        layers: gradients of the statistics of each layer that has statistics.
        influence: A (1 - B)^-1: the outputs' gradients in all statistics, where each also acts through the
            statistics of later layers.
    """

    def __init__(self, tape: Tape, by_statistics: list[Tensor | None]) -> None:
        indices = [index for index, layer in enumerate(tape.layers) if layer.num_statistics]
        self.layers = [LayerStatistics(tape, index) for index in indices]
        direct = torch.cat([by_statistics[index].flatten(0, 1) for index in indices], dim=1)  # type: ignore[union-attr]
        unit = torch.eye(direct.shape[1], dtype=direct.dtype, device=direct.device)
        self.offsets = [0]
        for layer in self.layers:
            self.offsets.append(self.offsets[-1] + layer.size)
        for row, layer in enumerate(self.layers):
            for column, index in enumerate(indices[:row]):
                gradient = layer.earlier[index]
                if gradient is not None:
                    unit[self.span(row), self.span(column)] = -gradient
        self.influence = torch.linalg.solve_triangular(
            unit, direct, upper=False, left=False, unitriangular=True
        )

    def span(self, layer: int) -> slice:
        """The slice of all statistics that belongs to a layer."""
        return slice(self.offsets[layer], self.offsets[layer + 1])

    def correct(self, kernel: Float[Tensor, "m m"], blocks: Mapping[str, Outer]) -> Float[Tensor, "m m"]:
        """Turn `J_0 J_0^T` into `J J^T`, in place."""
        influence = self.influence
        mixed = torch.cat([layer.products_with(blocks) for layer in self.layers])
        among = influence.new_zeros(influence.shape[1], influence.shape[1])
        for row, layer in enumerate(self.layers):
            for column, other in enumerate(self.layers[: row + 1]):
                product = layer.products_with_statistics(other)
                among[self.span(row), self.span(column)] = product
                among[self.span(column), self.span(row)] = product.T
        # A M + (A M)^T + A N A^T = A (M + N A^T / 2) + transposed
        half = influence @ torch.addmm(mixed, among, influence.T, alpha=0.5)
        return kernel.add_(half).add_(half.T)

    def dense(self, names: list[str], shapes: Mapping[str, tuple[int, int]]) -> Float[Tensor, "s p"]:
        """All of T_0, with columns in the order of `names`."""
        rows = []
        for layer in self.layers:
            parts = []
            for name in names:
                part = layer.dense(name, shapes[name])
                c, d = shapes[name]
                parts.append(self.influence.new_zeros(layer.size, c * d) if part is None else part)
            rows.append(torch.cat(parts, dim=1))
        return torch.cat(rows)


def needed_bytes(tape_layers: list[LayerTape], itemsize: int) -> int:
    """Bytes that T_0 of a network takes, to leading order."""
    total, below = 0, 0
    for layer in tape_layers:
        total += layer.num_statistics * below * itemsize
        below += layer.inputs.shape[1] * layer.slope.shape[1]
    return total


class _Sums:
    """Gradients of the means and variances of some features: weighted sums over samples."""

    def __init__(self) -> None:
        self.blocks: dict[str, Float[Tensor, "2 k c d"]] = {}
        self.statistics: dict[int, Float[Tensor, "2 k s"]] = {}

    def add(
        self,
        share: float,
        spread: Float[Tensor, "j k"],
        blocks: Mapping[str, Outer],
        statistics: list[Tensor | None],
    ) -> None:
        """Add the gradients of some samples, weighted by `share` for the means, by `spread` for variances."""
        for name, (left, right) in blocks.items():
            count, k, c = left.shape
            by_mean = left.reshape(count, k * c).T @ (right * share)
            parts = [by_mean, (left * spread[..., None]).view(count, k * c).T @ right]
            self._add(self.blocks, name, torch.stack(parts).view(2, k, c, -1))
        for earlier, gradient in enumerate(statistics):
            if gradient is not None:
                summed = [gradient.sum(0) * share, (gradient * spread[..., None]).sum(0)]
                self._add(self.statistics, earlier, torch.stack(summed))

    @staticmethod
    def _add(total: dict[Key, Tensor], name: Key, part: Tensor) -> None:
        total[name] = total[name].add_(part) if name in total else part
