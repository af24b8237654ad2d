"""ReLU."""

from __future__ import annotations

from torch import Tensor, nn

from bn_field_plugin.nn.activations.activation import Activation


class Relu(Activation, nn.ReLU):
    """`max(z, 0)`."""

    keeps_scale = True

    def slope(self, z: Tensor) -> Tensor:
        """1 above 0, else 0, as in torch."""
        return (z > 0).to(z.dtype)
