"""A coordinate network at given points, recorded for backward passes that are separate for each sample.

Statistics of the batch count as independent variables here, so no sample depends on another one: a sample's
gradient in a weight is the outer product of two rows, and is never formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP, batch_statistics, frozen_statistics
from bn_field_plugin.nn.mlp import HiddenLayer
from bn_field_plugin.ntk.row_norms import NormGradients, RowNorm


class Outer(NamedTuple):
    """Gradients of k quantities of each sample j in one parameter: `left[j, k]` outer `right[j]`."""

    left: Float[Tensor, "n k c"]
    right: Float[Tensor, "n d"]


class LayerGradients(NamedTuple):
    """The gradients that a backward pass through one layer gives."""

    blocks: dict[str, Outer]
    """Gradients in the layer's parameters, by their names."""
    statistics: Float[Tensor, "n k s"] | None
    """Gradients in the statistics of the layer's norm; None where the norm does not give them row by row (see
    `RowNorm.through_affine`)."""
    hidden: Float[Tensor, "n k d"] | None
    """Gradients in the output of the layer before; None for the first layer."""


class LayerTape:
    """One hidden layer at given inputs, recorded for backward passes.

    Args:
        name: prefix of the names of the layer's parameters.
        layer: the layer.
        inputs: inputs of the layer's linear map.
        carried: number of inputs, the last ones, that are outputs of the layer before.
        with_batch: whether the norm uses the statistics of these inputs.
    """

    def __init__(
        self, name: str, layer: HiddenLayer, inputs: Float[Tensor, "n d"], carried: int, with_batch: bool
    ) -> None:
        self.name, self.layer, self.inputs, self.carried = name, layer, inputs, carried
        self.ones = inputs.new_ones(inputs.shape[0], 1)
        product = layer.linear(inputs)
        self.norm: RowNorm | None = None
        if layer.norm is None:
            self.slope = layer.activation.slope(product)
            self.outputs = layer.activation(product)
        elif layer.norm_first:
            self.norm = RowNorm(layer.norm, product, with_batch)
            normed = layer.norm(product)
            self.slope = layer.activation.slope(normed)
            self.outputs = layer.activation(normed)
        else:
            self.slope = layer.activation.slope(product)
            activated = layer.activation(product)
            self.norm = RowNorm(layer.norm, activated, with_batch)
            self.outputs = layer.norm(activated)

    def statistics_through(self, blocks: Mapping[str, Float[Tensor, "*rows c"]]) -> Tensor | None:
        """Gradients in the norm's statistics from those in its scale and shift; None if it has none.

        Args:
            blocks: gradients in the layer's parameters, by their names.
        """
        if self.norm is None or not self.num_statistics:
            return None
        weight = blocks.get(f"{self.name}.norm.weight")
        return None if weight is None else self.norm.through_affine(weight, blocks[f"{self.name}.norm.bias"])

    @property
    def num_statistics(self) -> int:
        """Number of statistics that the layer's norm takes over the batch."""
        return self.norm.num_statistics if self.norm is not None else 0

    def backward(self, cotangent: Float[Tensor, "b k c"], rows: slice) -> LayerGradients:
        """Gradients in parameters, statistics and inputs, from those in the outputs, for some samples."""
        blocks: dict[str, Outer] = {}
        statistics = None
        slope = self.slope[rows, None, :]
        if self.norm is None:
            product = cotangent * slope
        else:
            norm_first = self.layer.norm_first
            found: NormGradients = self.norm.backward(cotangent * slope if norm_first else cotangent, rows)
            blocks[f"{self.name}.norm.weight"] = Outer(found.weight, self.ones[rows])
            blocks[f"{self.name}.norm.bias"] = Outer(found.bias, self.ones[rows])
            statistics = found.statistics
            product = found.input if norm_first else found.input * slope
        return LayerGradients(blocks | self.linear_blocks(product, rows), statistics, self.hidden(product))

    def linear_blocks(self, product: Float[Tensor, "b k c"], rows: slice) -> dict[str, Outer]:
        """Gradients in weight and bias from those in the linear map's product."""
        blocks = {f"{self.name}.linear.weight": Outer(product, self.inputs[rows])}
        if self.layer.linear.bias is not None:
            blocks[f"{self.name}.linear.bias"] = Outer(product, self.ones[rows])
        return blocks

    def hidden(self, product: Float[Tensor, "b k c"]) -> Float[Tensor, "b k d"] | None:
        """Gradients in the outputs of the layer before, from those in the linear map's product."""
        return product @ self.layer.linear.weight[:, -self.carried :] if self.carried else None

    def source_slope(self) -> Float[Tensor, "n c"] | None:
        """Derivative of the norm's input in the linear map's product, entry by entry; None where it is 1."""
        return None if self.layer.norm_first else self.slope


class Tape:
    """A network at given points, recorded for backward passes.

    Args:
        mlp: the network; all its parameters are learned, its encoding has none.
        points: the points.
        with_batch: whether norms over the batch use the statistics of these points.
    """

    @torch.no_grad()
    def __init__(self, mlp: CoordinateMLP, points: Float[Tensor, "n d"], with_batch: bool) -> None:
        self.mlp = mlp
        self.layers: list[LayerTape] = []
        encoded = mlp.encoding(points).to(mlp.output.weight.dtype)
        hidden = encoded
        with batch_statistics(mlp) if with_batch else frozen_statistics(mlp):
            for index, layer in enumerate(mlp.hidden_layers):
                carried = mlp.config.width if index else 0
                inputs = torch.cat([encoded, hidden], -1) if index in mlp.config.skips else hidden
                self.layers.append(LayerTape(f"layers.{index}", layer, inputs, carried, with_batch))
                hidden = self.layers[-1].outputs
        self.last = hidden

    def outputs_backward(self) -> tuple[dict[str, Outer], list[Tensor | None]]:
        """Gradients of all outputs at all samples, with statistics held.

        Returns:
            One block for each parameter, and the gradients in the statistics of each layer's norm.
        """
        n, weight = self.last.shape[0], self.mlp.output.weight
        unit = torch.eye(weight.shape[0], dtype=weight.dtype, device=weight.device).expand(n, -1, -1)
        blocks = {
            "output.weight": Outer(unit, self.last),
            "output.bias": Outer(unit, self.last.new_ones(n, 1)),
        }
        below, statistics = self.descend(len(self.layers) - 1, weight.expand(n, -1, -1), slice(None))
        lefts = {name: block.left for name, block in below.items()}
        for index, layer in enumerate(self.layers):
            statistics[index] = (
                statistics[index] if statistics[index] is not None else layer.statistics_through(lefts)
            )
        return blocks | below, statistics

    def descend(
        self, top: int, cotangent: Float[Tensor, "b k c"], rows: slice
    ) -> tuple[dict[str, Outer], list[Tensor | None]]:
        """Go back from the outputs of layer `top` to the first layer.

        Args:
            top: the layer to begin with; -1 gives nothing.
            cotangent: gradients in that layer's outputs.
            rows: the samples to which they belong.

        Returns:
            Blocks of all parameters of these layers, and, for each layer, the gradients in the statistics of
            its norm, where the norm gives them row by row.
        """
        blocks: dict[str, Outer] = {}
        statistics: list[Tensor | None] = [None] * len(self.layers)
        for index in range(top, -1, -1):
            found = self.layers[index].backward(cotangent, rows)
            blocks |= found.blocks
            statistics[index] = found.statistics
            if found.hidden is not None:
                cotangent = found.hidden
        return blocks, statistics
