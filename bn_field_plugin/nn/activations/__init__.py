"""Activations of hidden layers: a file for each, and a row in one table."""

from __future__ import annotations

from typing import Literal

from bn_field_plugin.nn.activations.activation import Activation
from bn_field_plugin.nn.activations.finer import Finer
from bn_field_plugin.nn.activations.gauss import Gauss
from bn_field_plugin.nn.activations.relu import Relu
from bn_field_plugin.nn.activations.sine import Sine
from bn_field_plugin.nn.activations.wire import RealWire, Wire

ActivationName = Literal["relu", "sine", "finer", "gauss", "wire", "wire-real"]

ACTIVATIONS: dict[str, type[Activation]] = {
    "relu": Relu,
    "sine": Sine,
    "finer": Finer,
    "gauss": Gauss,
    "wire": Wire,
    "wire-real": RealWire,
}
"""All activations, by the name that `CoordinateMLPConfig.activation` takes."""

OPTIONS = tuple(dict.fromkeys(option for kind in ACTIVATIONS.values() for option in kind.options))
"""Fields of `CoordinateMLPConfig` that belong to activations."""

__all__ = [
    "ACTIVATIONS",
    "OPTIONS",
    "Activation",
    "ActivationName",
    "Finer",
    "Gauss",
    "RealWire",
    "Relu",
    "Sine",
    "Wire",
]
