"""ReLU."""

from __future__ import annotations

from torch import nn

from bn_field_plugin.nn.activations.activation import Activation


class Relu(Activation, nn.ReLU):
    """`max(z, 0)`."""

    keeps_scale = True
