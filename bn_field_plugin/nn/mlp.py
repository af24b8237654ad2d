"""The BN-MLP: one coordinate network for images, shapes and radiance fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import products
from bn_field_plugin.nn.encodings import EncodingConfig, NoEncoding
from bn_field_plugin.nn.normalization import AffineNorm, BatchNorm, NormName, StatisticsMode, build_norm

EVAL_BLOCK_BYTES = 2**21
"""Activations of one layer that an evaluation pass holds at a time: about the cores' L2 cache."""


@dataclass(frozen=True)
class CoordinateMLPConfig:
    """All that defines a coordinate network."""

    in_dim: int = 2
    """Number of coordinates."""
    out_dim: int = 3
    """Number of outputs; they are linear, without activation."""
    width: int = 64
    """Units of each hidden layer."""
    depth: int = 4
    """Number of hidden layers, at least 1."""
    skips: tuple[int, ...] = ()
    """Hidden layers (counted from 0) that see the encoded input again, beside the layer before them."""
    activation: Literal["relu", "sine"] = "relu"
    """Activation of the hidden layers."""
    omega: float = 30.0
    """Frequency of the sine activation: sin(omega * z)."""
    encoding: EncodingConfig = field(default_factory=NoEncoding)
    """Encoding of the coordinates."""
    norm: NormName = "batch"
    """Norm of the hidden layers."""
    placement: Literal["before", "after"] = "before"
    """Where the norm stands: before or after the activation."""
    init: Literal["pytorch", "he", "siren"] = "pytorch"
    """Initialisation: PyTorch's default for linear layers, He et al. 2015, or SIREN's."""
    norm_eps: float = 1e-5
    """Added to the variance by the norm."""
    momentum: float | None = 0.1
    """Weight of the newest batch in the running statistics; None for a cumulative average."""
    synchronize: bool = True
    """Join the batch statistics of all processes of a distributed run."""


class Sine(nn.Module):
    """`sin(omega * z)` (Sitzmann et al. 2020)."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, z: Tensor) -> Tensor:
        """Apply the sine."""
        return torch.sin(self.omega * z)


class HiddenLayer(nn.Module):
    """Linear, norm and activation, in the order that the placement asks for.

    A bias that batch norm would take away again is left out.
    """

    def __init__(self, in_features: int, config: CoordinateMLPConfig) -> None:
        super().__init__()
        self.norm = build_norm(
            config.norm,
            config.width,
            eps=config.norm_eps,
            momentum=config.momentum,
            synchronize=config.synchronize,
        )
        self.norm_first = config.placement == "before"
        cancels_bias = isinstance(self.norm, BatchNorm) and self.norm_first
        self.linear = nn.Linear(in_features, config.width, bias=not cancels_bias)
        self.activation: nn.Module = nn.ReLU() if config.activation == "relu" else Sine(config.omega)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Apply the layer to samples."""
        norm, relu = self.norm, isinstance(self.activation, nn.ReLU)
        if norm is None:
            return self.activation(self.linear(x))
        if not self.norm_first:
            return norm(self.activation(self.linear(x)))
        if isinstance(norm, BatchNorm) and norm.is_fused and self.linear.bias is None:
            y = norm.linear(x, self.linear.weight, relu)
            return y if relu else self.activation(y)
        return self.activation(norm(self.linear(x)))


class CoordinateMLP(nn.Module):
    """A multi-layer perceptron from coordinates to values, with a norm in each hidden layer.

    Args:
        config: the network.

    Attributes:
        inference: faster evaluation of the folded network: called with the network and coordinates `[n, d]`
            in evaluation without gradients, it gives the outputs, or None where torch is to evaluate them.

    Raises:
        UserError: sizes below 1, a skip that is no hidden layer, or an unknown name.
    """

    def __init__(self, config: CoordinateMLPConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.encoding = config.encoding.build(config.in_dim)
        encoded = self.encoding.out_dim
        layers = []
        for index in range(config.depth):
            in_features = encoded if index == 0 else config.width
            if index in config.skips:
                in_features += encoded
            layers.append(HiddenLayer(in_features, config))
        self.layers = nn.ModuleList(layers)
        self.output = nn.Linear(config.width, config.out_dim)
        self.inference: Callable[[CoordinateMLP, Tensor], Tensor | None] | None = None
        INITIALIZERS[config.init](self)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch o"]:
        """Evaluate the network at coordinates.

        Without gradients and with running statistics, norms are folded into the weights and the samples
        go through the network in blocks that fit the cache.

        Args:
            x: coordinates, last; the positional encoding expects them in [-1, 1].

        Raises:
            UserError: a training batch of one sample, or coordinates of the wrong size.
        """
        if x.shape[-1] != self.config.in_dim:
            raise UserError(
                f"coordinates have {x.shape[-1]} entries: this network takes {self.config.in_dim}"
            )
        flat = x.reshape(-1, x.shape[-1])
        y = self._forward_flat(flat) if self._needs_whole_batch() else self._forward_blocks(flat)
        return y.reshape(*x.shape[:-1], self.config.out_dim)

    @property
    def hidden_layers(self) -> list[HiddenLayer]:
        """The hidden layers in order."""
        return [layer for layer in self.layers if isinstance(layer, HiddenLayer)]

    @property
    def linears(self) -> list[nn.Linear]:
        """All linear layers in order, the output layer last."""
        return [*(layer.linear for layer in self.hidden_layers), self.output]

    def _needs_whole_batch(self) -> bool:
        if torch.is_grad_enabled():
            return True
        norms = [layer.norm for layer in self.hidden_layers]
        return any(
            norm is not None
            and not (
                isinstance(norm, AffineNorm) and norm.mode in (StatisticsMode.AUTO, StatisticsMode.FROZEN)
            )
            for norm in norms
        )

    def encode(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """Encoded coordinates in the dtype of the weights, whatever the encoding returns."""
        return self.encoding(x).to(self.output.weight.dtype)

    def _forward_flat(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        encoded = self.encode(x)
        h = encoded
        for index, layer in enumerate(self.layers):
            if index > 0 and index in self.config.skips:
                h = torch.cat([encoded, h], dim=-1)
            h = layer(h)
        return self.output(h)

    def _forward_blocks(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        y = None if self.inference is None or self.training else self.inference(self, x)
        return self.evaluate_folded(x) if y is None else y

    def evaluate_folded(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        """Outputs with the norms folded into the weights, by torch; without gradients, for affine norms."""
        with torch.autocast(x.device.type, enabled=False):
            weights = folded_weights(self)
        if x.device.type != "cpu":
            return self._evaluate_affine(x, weights)
        size = max(256, EVAL_BLOCK_BYTES // (4 * max(self.config.width, self.encoding.out_dim)))
        if x.shape[0] <= size:
            return self._evaluate_affine(x, weights)
        return torch.cat([self._evaluate_affine(block, weights) for block in x.split(size)])

    def _evaluate_affine(
        self, x: Float[Tensor, "n d"], weights: list[tuple[Tensor, Tensor]]
    ) -> Float[Tensor, "n o"]:
        encoded = self.encode(x)
        h = encoded
        for index, (layer, (weight, bias)) in enumerate(zip(self.hidden_layers, weights, strict=False)):
            if index > 0 and index in self.config.skips:
                h = torch.cat([encoded, h], dim=-1)
            relu = isinstance(layer.activation, nn.ReLU)
            h = products.linear(h, weight, bias, relu)
            h = h if relu else layer.activation(h)
        return products.linear(h, *weights[-1])


def folded_weights(mlp: CoordinateMLP) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each linear layer with the affine norms of `mlp` folded in, output layer last.

    Norms before the activation go into their own layer, norms after it into the next.
    Layer and cross norm depend on the sample and are left out.
    """
    encoded = mlp.encoding.out_dim
    weights: list[tuple[Tensor, Tensor]] = []
    carried: tuple[Tensor, Tensor] | None = None
    layers = mlp.hidden_layers
    for index, linear in enumerate(mlp.linears):
        weight: Tensor = linear.weight
        bias: Tensor = linear.bias if linear.bias is not None else weight.new_zeros(weight.shape[0])
        if carried is not None:
            scale, shift = carried
            if index in mlp.config.skips and index < len(layers):
                scale = torch.cat([scale.new_ones(encoded), scale])
                shift = torch.cat([shift.new_zeros(encoded), shift])
            bias = bias + weight @ shift
            weight = weight * scale
            carried = None
        norm = layers[index].norm if index < len(layers) else None
        if isinstance(norm, AffineNorm):
            if layers[index].norm_first:
                scale, shift = norm.affine()
                weight, bias = weight * scale[:, None], bias * scale + shift
            else:
                carried = norm.affine()
        weights.append((weight, bias))
    return weights


def _check(config: CoordinateMLPConfig) -> None:
    for name in ("in_dim", "out_dim", "width", "depth"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: it must be at least 1")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise UserError(f"{name} is {getattr(config, name)!r}: choose one of {', '.join(choices)}")
    for skip in config.skips:
        if not 0 < skip < config.depth:
            raise UserError(f"skips holds {skip}: a skip is a hidden layer from 1 to {config.depth - 1}")


def _init_pytorch(mlp: CoordinateMLP) -> None:
    """Keep what nn.Linear draws: uniform in +-1/sqrt(fan_in), weights and biases."""


def _init_he(mlp: CoordinateMLP) -> None:
    """Normal with variance 2/fan_in (He et al. 2015); biases zero."""
    for linear in (m for m in mlp.modules() if isinstance(m, nn.Linear)):
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def _init_siren(mlp: CoordinateMLP) -> None:
    """SIREN's: first layer uniform in +-1/fan_in, others in +-sqrt(6/fan_in)/omega."""
    linears = [m for m in mlp.modules() if isinstance(m, nn.Linear)]
    for index, linear in enumerate(linears):
        fan_in = linear.weight.shape[1]
        bound = 1 / fan_in if index == 0 else math.sqrt(6 / fan_in) / mlp.config.omega
        nn.init.uniform_(linear.weight, -bound, bound)


INITIALIZERS: dict[str, Callable[[CoordinateMLP], None]] = {
    "pytorch": _init_pytorch,
    "he": _init_he,
    "siren": _init_siren,
}
"""How a network's weights are drawn, by name."""

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("relu", "sine"),
    "placement": ("before", "after"),
    "init": tuple(INITIALIZERS),
}
"""Names that options of the config take; the norm's are those of `build_norm`."""
