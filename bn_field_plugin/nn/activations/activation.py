"""What every activation of hidden layers has: names, options, and the weights that its paper draws."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Activation(nn.Module):
    """A function that a hidden layer applies to each of its units.

    Attributes:
        network: name of the network that is known by it; None where that has another name.
        title: the same in figures and tables.
        options: fields of `CoordinateMLPConfig` that its constructor takes.
        is_complex: whether its values are complex numbers, and so the weights behind it.
        keeps_scale: whether scaling its input only scales its output. A norm before one that does not must
            begin with the scale that its paper's initialisation gives (see `CoordinateMLP`).
    """

    network: ClassVar[str | None] = None
    title: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    is_complex: ClassVar[bool] = False
    keeps_scale: ClassVar[bool] = False

    def slope(self, z: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c"]:
        """Derivative at `z`, by torch.func over `forward`; of real activations only."""
        pull: Any = torch.func.vjp(self, z)[1]
        slope: Tensor = pull(torch.ones_like(z))[0]
        return slope

    @torch.no_grad()
    def draw(self, weight: Float[Tensor, "c d"], bias: Float[Tensor, " c"], is_first: bool) -> None:
        """Draw a layer's weight and bias as its paper does; they come as PyTorch draws them, and may stay.

        Args:
            weight: of a layer before it, or of the output layer.
            bias: of the same layer.
            is_first: whether the layer sees the coordinates.
        """


def draw_for_sines(weight: Float[Tensor, "c d"], omega: float, is_first: bool) -> None:
    """SIREN's weights: uniform in +-1/fan_in before the first sines, in +-sqrt(6/fan_in)/omega elsewhere."""
    fan_in = weight.shape[1]
    bound = 1 / fan_in if is_first else math.sqrt(6 / fan_in) / omega
    nn.init.uniform_(weight, -bound, bound)
