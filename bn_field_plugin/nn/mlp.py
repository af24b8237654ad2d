"""The BN-MLP: one coordinate network for images, shapes and radiance fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import blockwise, dense, products
from bn_field_plugin.nn.activations import ACTIVATIONS, Activation, ActivationName
from bn_field_plugin.nn.activations import OPTIONS as ACTIVATION_OPTIONS
from bn_field_plugin.nn.complex_linear import ComplexLinear
from bn_field_plugin.nn.encodings import EncodingConfig, IdentityEncoding, NoEncoding
from bn_field_plugin.nn.norms import (
    AffineNorm,
    BatchNorm,
    Norm,
    NormName,
    StatisticsMode,
    build_norm,
)
from bn_field_plugin.nn.precision import without_autocast
from bn_field_plugin.nn.scripting import is_recording, recorded

EVAL_BLOCK_BYTES = 2**21
"""Bytes of one layer's activations that an evaluation pass holds at a time: about the L2 cache of a core."""

ENCODED_AT_A_TIME = 2**14
"""Samples of a large batch whose coordinates are encoded at a time."""

START_POINTS = 1024
"""Number of points over which norms measure their inputs to start with (see `_start_norms`)."""


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
    activation: ActivationName = "relu"
    """Activation of the hidden layers."""
    omega: float | None = None
    """Frequency of the activations sine, finer, wire and wire-real; None takes the value of their papers."""
    finer_bias: float | None = None
    """Biases of the first layer with the activation finer are drawn uniformly between minus and plus this."""
    wire_scale: float | None = None
    """Scale of the activations wire and wire-real: they vanish beyond 1 over it."""
    gauss_sigma: float | None = None
    """Standard deviation of the activation gauss."""
    encoding: EncodingConfig = field(default_factory=NoEncoding)
    """Encoding of the coordinates."""
    norm: NormName = "batch"
    """Norm of the hidden layers."""
    placement: Literal["before", "after"] = "before"
    """Where the norm stands: before or after the activation."""
    norm_layers: Literal["all", "ends"] = "all"
    """Which hidden layers have the norm: all, or the first and the last one alone."""
    init: Literal["pytorch", "he", "paper"] = "pytorch"
    """Initialisation: PyTorch's for linear layers, He et al. 2015, or that of the activation's paper."""
    norm_eps: float = 1e-5
    """Added to the variance by the norm."""
    momentum: float | None = 0.1
    """Weight of the newest batch in the running statistics; None for a cumulative average."""
    synchronize: bool = True
    """Join the batch statistics of all processes of a distributed run."""


class HiddenLayer(nn.Module):
    """Linear, norm and activation, in the order that the placement asks for.

    A bias that batch norm would take away again is left out.
    """

    linear: nn.Linear

    def __init__(
        self, in_features: int, config: CoordinateMLPConfig, norm: str, is_complex: bool = False
    ) -> None:
        super().__init__()
        self.norm = build_norm(
            norm,
            config.width,
            eps=config.norm_eps,
            momentum=config.momentum,
            synchronize=config.synchronize,
        )
        self.norm_first = config.placement == "before"
        cancels_bias = isinstance(self.norm, BatchNorm) and self.norm_first
        self.linear = _linear(in_features, config.width, is_complex, bias=not cancels_bias)
        self.activation = _activation(config)

    @property
    def is_plain(self) -> bool:
        """Whether the layer is as it was made, without hooks or other weights; else each module is called."""
        modules = (self, self.linear, self.activation, self.norm)
        return all(module is None or is_plain(module) for module in modules)

    @property
    def is_fused(self) -> bool:
        """Whether the next pass is one of product and batch norm with the batch's statistics."""
        norm = self.norm
        return (
            isinstance(norm, BatchNorm)
            and norm.is_fused
            and self.norm_first
            and self.linear.bias is None
            and self.is_plain
        )

    @property
    def is_split(self) -> bool:
        """Whether the next pass ends in batch norm with the statistics of the batch, all of it at hand."""
        norm = self.norm
        return isinstance(norm, BatchNorm) and norm.is_fused and norm.group is None and not self.norm_first

    def forward(self, x: Inexact[Tensor, "n d"]) -> Inexact[Tensor, "n c"]:
        """Apply the layer to samples."""
        norm, relu = self.norm, isinstance(self.activation, nn.ReLU)
        y: Tensor
        if norm is None:
            y = self.activation(self.linear(x))
        elif not self.norm_first:
            y = norm(self.activation(self.linear(x)))
        elif self.is_fused and isinstance(norm, BatchNorm):
            y = norm.linear(x, self.linear.weight, relu)
            y = y if relu else self.activation(y)
        else:
            y = self.activation(norm(self.linear(x)))
        return y


PLAIN_PARAMETERS = (nn.Parameter, Tensor)
"""Types of parameters that hold all their numbers; those of other types may be spread over processes."""


def is_plain(module: nn.Module) -> bool:
    """Whether a module has neither hooks nor parameters that are computed or spread over processes."""
    # Every step asks this of every module, for which torch's own ways to list parameters take milliseconds.
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "parametrizations" in module._modules
    ) and all(
        parameter is None or type(parameter) in PLAIN_PARAMETERS for parameter in module._parameters.values()
    )


class CoordinateMLP(nn.Module):
    """A multi-layer perceptron from coordinates to values, with a norm in each hidden layer.

    With the initialisation `paper`, the scales and shifts of the norms start so that activations see the same
    distribution as in a network without norms: sin(30 z) of a normalised z would oscillate far too fast. With
    batch norm, a fresh network is even the same function over the box [-1, 1] as one without.

    Args:
        config: the network.
        device: where it is made; torch's default if None.
        dtype: of its numbers; torch's default if None.

    Attributes:
        inference: faster evaluation of the folded network: called with the network and coordinates `[n, d]`
            in evaluation without gradients, it gives the outputs, or None where torch is to evaluate them.

    Raises:
        UserError: sizes below 1, a skip that is no hidden layer, or an unknown name.
    """

    def __init__(
        self,
        config: CoordinateMLPConfig,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.is_complex = ACTIVATIONS[config.activation].is_complex
        self.encoding = config.encoding.build(config.in_dim)
        encoded = self.encoding.out_dim
        layers = []
        for index in range(config.depth):
            in_features = encoded if index == 0 else config.width
            if index in config.skips:
                in_features += encoded
            is_end = index in (0, config.depth - 1)
            norm = config.norm if is_end or config.norm_layers == "all" else "none"
            layers.append(HiddenLayer(in_features, config, norm, self.is_complex and index > 0))
        self.layers = nn.ModuleList(layers)
        self.output = _linear(config.width, config.out_dim, self.is_complex)
        self.inference: Callable[[CoordinateMLP, Tensor], Tensor | None] | None = None
        INITIALIZERS[config.init](self)
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch o"]:
        """Evaluate the network at coordinates.

        Without gradients and with running statistics, norms are folded into the weights and the samples
        go through the network in blocks that fit the cache.

        Args:
            x: coordinates, last; the positional encoding expects them in [-1, 1].

        Raises:
            UserError: a training batch of one sample, or coordinates of the wrong size.
        """
        # While torch.jit traces, sizes are tensors, which cannot decide an `if`.
        if not is_recording() and x.shape[-1] != self.config.in_dim:
            raise UserError(
                f"coordinates have {x.shape[-1]} entries: this network takes {self.config.in_dim}"
            )
        flat = x.reshape(-1, x.shape[-1])
        y = self._forward_flat(flat) if self._needs_whole_batch() else self._forward_blocks(flat)
        return y.reshape(*x.shape[:-1], self.config.out_dim)

    def __prepare_scriptable__(self) -> nn.Module:
        return recorded(self, self.config.in_dim)

    @property
    def hidden_layers(self) -> list[HiddenLayer]:
        """The hidden layers in order."""
        return [layer for layer in self.layers if isinstance(layer, HiddenLayer)]

    @property
    def linears(self) -> list[nn.Linear]:
        """All linear layers in order, the output layer last."""
        return [*(layer.linear for layer in self.hidden_layers), self.output]

    def _needs_whole_batch(self) -> bool:
        # torch.jit.trace would fix the number of blocks to that of its example.
        if torch.is_grad_enabled() or is_recording() or not self._is_plain():
            return True
        norms = [layer.norm for layer in self.hidden_layers]
        return any(norm is not None and not is_settled(norm) for norm in norms)

    def _is_plain(self) -> bool:
        return is_plain(self.output) and all(layer.is_plain for layer in self.hidden_layers)

    def encode(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """Encoded coordinates in the dtype of the weights, whatever the encoding returns."""
        encoded: Tensor = self.encoding(x)
        return encoded.to(self.hidden_layers[0].linear.weight.dtype)

    def _encode_in_parts(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """`encode`, in parts where no gradients go through it, so that intermediate results stay small."""
        learns = any(parameter.requires_grad for parameter in self.encoding.parameters())
        is_whole = isinstance(self.encoding, IdentityEncoding) or x.shape[0] <= ENCODED_AT_A_TIME
        if learns or x.requires_grad or is_whole or x.device.type != "cpu" or products.is_traced():
            return self.encode(x)
        encoded = self.output.weight.new_empty(x.shape[0], self.encoding.out_dim)
        for start in range(0, x.shape[0], ENCODED_AT_A_TIME):
            part = slice(start, start + ENCODED_AT_A_TIME)
            encoded[part] = self.encode(x[part])
        return encoded

    def _forward_flat(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        hidden = self._blockwise_layers(x.to(self.output.weight.dtype))
        if hidden is not None:
            return self._forward_blockwise(self._encode_in_parts(x), hidden)
        if self._is_dense(x):
            return self._forward_dense(self._encode_in_parts(x))
        if self._is_settled():
            return self._forward_settled(x)
        h = encoded = self.encode(x)
        for index, layer in enumerate(self.layers):
            if index > 0 and index in self.config.skips:
                h = torch.cat([encoded, h], dim=-1)
            h = layer(h)
        return _real(self.output(h))

    def _is_dense(self, x: Inexact[Tensor, "n d"]) -> bool:
        """Whether `dense` takes a batch from each norm with the batch's statistics to the next."""
        return (
            not self.config.skips
            and self._dense_activation() is not None
            and self._is_plain()
            and all(
                layer.norm is None or is_settled(layer.norm) or layer.is_split for layer in self.hidden_layers
            )
            and dense.serves(x.to(self.output.weight.dtype), list(self.layers.parameters()))
        )

    def _dense_activation(self) -> dense.Activated | None:
        """The activation of all hidden layers, if `dense` knows it."""
        return dense.known(layer.activation for layer in self.hidden_layers)

    def _forward_dense(self, encoded: Float[Tensor, "n f"]) -> Float[Tensor, "n o"]:
        """Outputs with every norm folded into a layer, once its statistics are known."""
        activation = self._dense_activation()
        assert activation is not None
        h, run = encoded, Folding()
        for layer in self.hidden_layers:
            run.add(layer.linear, layer.norm, layer.norm_first)
            if layer.is_split and isinstance(layer.norm, BatchNorm):
                h, moments = dense.hidden_layers(h, run.layers, activation)
                layer.norm.learn(moments)
                run = Folding(layer.norm.affine_of(moments.mean, moments.var))
        run.add(self.output)
        return dense.network(h, run.layers, activation)

    def _is_settled(self) -> bool:
        """Whether the next pass has real layers and fixed norms, so that these can be folded in."""
        norms = [layer.norm for layer in self.hidden_layers if layer.norm is not None]
        return (
            all(is_settled(norm) for norm in norms)
            and not self.is_complex
            and not is_recording()
            and self._is_plain()
        )

    def _forward_settled(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        """Outputs with the norms folded into the weights, with gradients of the parameters behind them."""
        with without_autocast(x.device):
            weights = folded_weights(self)
        h = encoded = self._encode_in_parts(x)
        for index, (layer, weight) in enumerate(zip(self.hidden_layers, weights, strict=False)):
            if index > 0 and index in self.config.skips:
                h = torch.cat([encoded, h], dim=-1)
            h = layer.activation(F.linear(h, *weight))
        return F.linear(h, *weights[-1])

    def _blockwise_layers(self, x: Inexact[Tensor, "n d"]) -> list[blockwise.Hidden] | None:
        """The hidden layers, if a training pass can take blocks of samples through all of them."""
        if self.config.skips or not is_plain(self.output):
            return None
        hidden, tensors = [], [x, self.output.weight, self.output.bias]
        for layer in self.hidden_layers:
            norm = layer.norm
            if not (layer.is_fused and isinstance(layer.activation, nn.ReLU) and isinstance(norm, BatchNorm)):
                return None
            if norm.group is not None:
                return None
            parameters = layer.linear.weight, norm.weight, norm.bias
            hidden.append(blockwise.Hidden(*parameters, norm.eps))
            tensors += parameters
        return hidden if blockwise.serves(tensors) else None

    def _forward_blockwise(
        self, encoded: Float[Tensor, "n f"], hidden: list[blockwise.Hidden]
    ) -> Float[Tensor, "n o"]:
        y, moments = blockwise.network(encoded, hidden, self.output.weight, self.output.bias)
        for layer, found in zip(self.hidden_layers, moments, strict=True):
            if isinstance(layer.norm, BatchNorm):
                layer.norm.learn(found)
        return y

    def _forward_blocks(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        y = None if self.inference is None or self.training else self.inference(self, x)
        return self.evaluate_folded(x) if y is None else y

    def evaluate_folded(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        """Outputs with the norms folded into the weights, by torch; without gradients, for affine norms."""
        with without_autocast(x.device):
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
        activation = None if self.config.skips else self._dense_activation()
        if activation is not None and dense.serves(encoded, [part for layer in weights for part in layer]):
            return dense.network(encoded, weights, activation)
        h = encoded
        for index, (layer, (weight, bias)) in enumerate(zip(self.hidden_layers, weights, strict=False)):
            if index > 0 and index in self.config.skips:
                h = torch.cat([encoded, h], dim=-1)
            relu = isinstance(layer.activation, nn.ReLU)
            h = products.linear(h, weight, bias, relu)
            h = h if relu else layer.activation(h)
        return _real(products.linear(h, *weights[-1]))


def is_settled(norm: Norm) -> bool:
    """Whether the next pass through a norm scales and shifts features by fixed numbers."""
    return (
        isinstance(norm, AffineNorm)
        and norm.mode in (StatisticsMode.AUTO, StatisticsMode.FROZEN)
        and not norm.normalizes_with_batch
    )


class Folding:
    """Linear layers into which the norms between them are folded.

    Args:
        carried: scale and shift of a norm before the first layer.

    Attributes:
        layers: weight and bias of each layer so far.
    """

    def __init__(self, carried: tuple[Tensor, Tensor] | None = None) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._carried = carried

    def add(
        self, linear: nn.Linear, norm: Norm | None = None, norm_first: bool = False, encoded: int = 0
    ) -> None:
        """Add a layer, and fold in what is fixed of its norm: here if it comes first, else into the next.

        Args:
            linear: the layer.
            norm: the norm behind it; only one with fixed numbers is folded in.
            norm_first: whether the norm comes before the activation.
            encoded: number of encoded coordinates that the layer sees before the features.
        """
        weight: Tensor = linear.weight
        bias: Tensor = linear.bias if linear.bias is not None else weight.new_zeros(weight.shape[0])
        if self._carried is not None:
            scale, shift = self._carried
            if encoded:
                scale = torch.cat([scale.new_ones(encoded), scale])
                shift = torch.cat([shift.new_zeros(encoded), shift])
            bias, weight = bias + weight @ shift, weight * scale
            self._carried = None
        if isinstance(norm, AffineNorm) and norm_first:
            scale, shift = norm.affine()
            weight, bias = weight * scale[:, None], bias * scale + shift
        elif isinstance(norm, AffineNorm):
            self._carried = norm.affine()
        self.layers.append((weight, bias))


def folded_weights(mlp: CoordinateMLP) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each linear layer with the affine norms of `mlp` folded in, output layer last.

    Norms before the activation go into their own layer, norms after it into the next.
    Layer and cross norm depend on the sample and are left out.
    """
    folding = Folding()
    for index, layer in enumerate(mlp.hidden_layers):
        encoded = mlp.encoding.out_dim if index in mlp.config.skips else 0
        folding.add(layer.linear, layer.norm, layer.norm_first, encoded)
    folding.add(mlp.output)
    return folding.layers


def _check(config: CoordinateMLPConfig) -> None:
    for name in ("in_dim", "out_dim", "width", "depth"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: it must be at least 1")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise UserError(f"{name} is {getattr(config, name)!r}: choose one of {', '.join(choices)}")
    for name in ACTIVATION_OPTIONS:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} is {value}: it must be above 0")
    if ACTIVATIONS[config.activation].is_complex and config.norm != "none":
        raise UserError(
            f"norm {config.norm} takes real numbers, and {config.activation} gives complex ones: "
            "choose norm none, or wire-real"
        )
    if ACTIVATIONS[config.activation].is_complex and config.skips:
        raise UserError(f"the activation {config.activation} takes no skips: its first inputs are real")
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


@torch.no_grad()
def _init_paper(mlp: CoordinateMLP) -> None:
    """As in the paper of the activation; norms start so that activations see what they see without norm."""
    activation = mlp.hidden_layers[0].activation
    if activation.is_complex or activation.keeps_scale:  # their papers keep PyTorch's initialisation
        return
    for index, layer in enumerate(mlp.hidden_layers):
        activation.draw(layer.linear.weight, _bias_before_activation(layer), is_first=index == 0)
    activation.draw(mlp.output.weight, mlp.output.bias, is_first=False)
    _start_norms(mlp)


def _bias_before_activation(layer: HiddenLayer) -> Tensor:
    """The parameter that shifts the activation's input: the bias, or the shift of a norm that comes after it.

    That shift takes over the value of the bias; where there is none, it is drawn as PyTorch draws biases.
    """
    if layer.norm is None or not layer.norm_first:
        return layer.linear.bias
    if layer.linear.bias is None:
        bound = layer.linear.weight.shape[1] ** -0.5
        return nn.init.uniform_(layer.norm.bias, -bound, bound)
    layer.norm.bias.copy_(layer.linear.bias)
    return layer.norm.bias


def _start_norms(mlp: CoordinateMLP) -> None:
    """Start norms with the scale, and batch norm also with the mean, that their inputs have without norms.

    Both are measured over the box [-1, 1]. Batch norm gets those of each unit, so that it changes nothing at
    first. The other norms normalise with moments over many units, and get one scale for all units.
    """
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(START_POINTS, mlp.config.in_dim, generator=generator, device="cpu") * 2 - 1
    encoded = hidden = mlp.encode(points.to(mlp.output.weight))
    for index, layer in enumerate(mlp.hidden_layers):
        inputs = torch.cat([encoded, hidden], dim=-1) if index in mlp.config.skips else hidden
        norm, bias = layer.norm, layer.linear.bias
        z = nn.functional.linear(inputs, layer.linear.weight)
        if norm is None:
            hidden = layer.activation(z + bias)
        elif layer.norm_first:
            shift = norm.bias.clone()
            _match(norm, z)
            norm.bias.add_(shift)
            if bias is not None:
                bias.zero_()
            hidden = layer.activation(z + shift)
        else:
            hidden = layer.activation(z + bias)
            _match(norm, hidden)


def _match(norm: Norm, x: Float[Tensor, "n c"]) -> None:
    """Set a norm's scale and shift to the moments of its input, so that it does not change them."""
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    own = isinstance(norm, BatchNorm)
    norm.weight.copy_((variance if own else variance.mean()).sqrt().expand_as(variance))
    norm.bias.copy_(mean if own else torch.zeros_like(mean))


def _linear(in_features: int, out_features: int, is_complex: bool, bias: bool = True) -> nn.Linear:
    """A linear layer with real or complex weights. The return type names what both have in common."""
    if is_complex:
        return ComplexLinear(in_features, out_features)  # type: ignore[return-value]
    return nn.Linear(in_features, out_features, bias=bias)


def _activation(config: CoordinateMLPConfig) -> Activation:
    """The activation with those of its options that the config gives."""
    kind = ACTIVATIONS[config.activation]
    given = {name: getattr(config, name) for name in kind.options}
    return kind(**{name: value for name, value in given.items() if value is not None})


def _real(x: Tensor) -> Float[Tensor, "n o"]:
    """The real part of outputs; those of a network with real weights are real already."""
    return x.real if x.is_complex() else x


INITIALIZERS: dict[str, Callable[[CoordinateMLP], None]] = {
    "pytorch": _init_pytorch,
    "he": _init_he,
    "paper": _init_paper,
}
"""How a network's weights are drawn, by name."""

CHOICES: dict[str, tuple[str, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "placement": ("before", "after"),
    "norm_layers": ("all", "ends"),
    "init": tuple(INITIALIZERS),
}
"""Allowed values of the config's options that are names; `build_norm` checks that of the norm."""
