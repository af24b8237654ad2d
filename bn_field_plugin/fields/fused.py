"""Evaluation of folded BN-MLPs by tiny-cuda-nn's fully fused MLP (Müller et al. 2021), checked against torch.

The kernel multiplies in half precision and knows neither norms nor biases: see `without_biases`. It is used
for evaluation without gradients, on CUDA, where the network fits and the results agree.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import tell
from bn_field_plugin.fields import tcnn
from bn_field_plugin.fields.tcnn import (
    LOADING_ERRORS,
    first_line,
    fused_network_config,
    load_tinycudann,
)
from bn_field_plugin.nn.bias_free import BiasFreeMLP, units_without_biases, without_biases
from bn_field_plugin.nn.mlp import CoordinateMLP, CoordinateMLPConfig, folded_weights
from bn_field_plugin.nn.norms import folds
from bn_field_plugin.nn.precision import without_autocast

WIDTHS = (16, 32, 64, 128)
"""Numbers of units of a hidden layer for which the kernel is compiled."""

ALIGNMENT = 16
"""Inputs and outputs of the kernel are padded to multiples of this."""

CHECKED_SAMPLES = 1024
"""Number of samples of the first batch after a change of the weights for which torch checks the kernel."""

TOLERANCE = 0.005
"""Largest accepted root mean square of the difference from torch, as a share of that of torch's outputs
(taken as 0.1 where it is smaller).

With emulated half precision, the difference of trained fields of bn-nerf-small, nerf-small and bn-nerfacto is
0.0002 to 0.0009, and their rendered colours agree with torch's to 63 dB and better.
"""

LARGEST_ACTIVATION = 65504 / 8
"""Largest activation allowed on the checked samples: an eighth of half precision's largest number, as room
for other samples."""


def why_not_fused(config: CoordinateMLPConfig) -> str | None:
    """Why the kernel cannot evaluate a network, in a few words; None where it can."""
    if config.activation != "relu":
        return f"activation {config.activation}"
    if config.skips:
        return "skip connections"
    if not folds(config.norm):
        return f"{config.norm} norm, which does not fold"
    if units_without_biases(config) > WIDTHS[-1]:
        constant = " and one for biases" if config.depth > 1 else ""
        return f"width {config.width}{constant}, more than {WIDTHS[-1]}"
    return None


def fused_width(config: CoordinateMLPConfig) -> int:
    """The smallest width of the kernel that holds a network which fits: 64 units and biases need 128."""
    return next(width for width in WIDTHS if width >= units_without_biases(config))


def flat_parameters(matrices: list[Float[Tensor, "o i"]]) -> Float[Tensor, " p"]:
    """Matrices as the kernel stores them: one after the other, rows first, inputs and outputs padded.

    The padding is zero, so it does not matter with what numbers the library fills the padded inputs.
    """
    first, *between, last = matrices
    first = F.pad(first, (0, -first.shape[1] % ALIGNMENT))
    last = F.pad(last, (0, 0, 0, -last.shape[0] % ALIGNMENT))
    return torch.cat([matrix.reshape(-1) for matrix in (first, *between, last)])


class UnfitError(RuntimeError):
    """The kernel's results cannot be used."""


class FusedInference:
    """Evaluates one network by the kernel (see `CoordinateMLP.inference`).

    When the network's weights have changed, they are folded and copied to the kernel, and its results are
    checked on samples of the current batch. If the results are wrong, or the library fails, one line on
    stderr says so, and torch evaluates the network from then on.

    Args:
        name: name of the network in the line on stderr.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_refused = False
        self._network: Any = None
        self._folded: BiasFreeMLP | None = None
        self._seen: list[tuple[Tensor, int, int]] = []

    def __reduce__(self) -> tuple[type[FusedInference], tuple[str]]:
        """Pickle and copy by name only, so that the copy of a network makes a kernel of its own."""
        return FusedInference, (self.name,)

    def __call__(self, mlp: CoordinateMLP, x: Float[Tensor, "n d"]) -> Float[Tensor, "n o"] | None:
        """Outputs at coordinates; None where torch is to evaluate them."""
        dtype = mlp.output.weight.dtype
        if self.is_refused or x.device.type != tcnn.DEVICE_TYPE or len(x) == 0 or dtype != torch.float32:
            return None
        try:
            if not self._is_current(mlp):
                self._load(mlp, x)
                self._seen = [(t, t.data_ptr(), t._version) for t in tensors_of(mlp)]
            return self._evaluate(mlp.encode(x))
        except LOADING_ERRORS as error:
            self.is_refused = True
            self._network = self._folded = None
            tell(f"torch evaluates {self.name}, not tinycudann's fused MLP: {first_line(error)}")
            return None

    def _is_current(self, mlp: CoordinateMLP) -> bool:
        """Whether the kernel holds the network's present weights and statistics."""
        tensors = tensors_of(mlp)
        return len(tensors) == len(self._seen) and all(
            t is seen and t.data_ptr() == address and t._version == version
            for t, (seen, address, version) in zip(tensors, self._seen, strict=True)
        )

    def _evaluate(self, encoded: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        assert self._folded is not None
        outputs: Tensor = self._network(self._folded.inputs(encoded))
        return outputs.float() + self._folded.shift

    def _load(self, mlp: CoordinateMLP, x: Float[Tensor, "n d"]) -> None:
        """Give the kernel the network's present weights, and compare its results with torch's.

        Raises:
            UnfitError: the results differ too much, or activations come near the largest number of half
                precision.
        """
        config = mlp.config
        width = fused_width(config)
        with without_autocast(x.device):
            self._folded = without_biases(folded_weights(mlp), width)
        if self._network is None:
            self._network = new_network(
                mlp.encoding.out_dim + 1, config.out_dim, width, config.depth, x.device
            )
        parameters = flat_parameters(self._folded.matrices)
        if self._network.params.shape != parameters.shape:
            raise UnfitError(
                f"it has {self._network.params.numel()} parameters in place of {parameters.numel()}"
            )
        self._network.params.copy_(parameters)
        some = x[:: max(1, len(x) // CHECKED_SAMPLES)]  # its first samples are of few rays
        check(self._evaluate(mlp.encode(some)), mlp.evaluate_folded(some))
        largest = max(float(h.abs().max()) for h in self._folded.activations(mlp.encode(some)))
        if not largest <= LARGEST_ACTIVATION:
            raise UnfitError(f"activations reach {largest:.3g}, too near the end of half precision")


def tensors_of(mlp: CoordinateMLP) -> list[Tensor]:
    """All tensors on which the outputs of a network depend."""
    return [*mlp.parameters(), *mlp.buffers()]


def new_network(inputs: int, outputs: int, width: int, depth: int, device: torch.device) -> nn.Module:
    """A fully fused network of tiny-cuda-nn on a device, with weights that are still to be set."""
    library = load_tinycudann()
    if library is None:
        raise UnfitError("the library cannot be loaded")
    # The library makes it on CUDA's current device, which need not be `device` where several processes run.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        network: nn.Module = library.Network(inputs, outputs, fused_network_config(width, depth))
    return network.to(device).requires_grad_(False)


def check(found: Float[Tensor, "n o"], expected: Float[Tensor, "n o"]) -> None:
    """Compare the kernel's outputs with torch's.

    Raises:
        UnfitError: the outputs differ by more than `TOLERANCE`, or are not finite.
    """
    error = float((found - expected).square().mean().sqrt())
    limit = TOLERANCE * max(0.1, float(expected.square().mean().sqrt()))
    if not error <= limit:
        raise UnfitError(f"its outputs are off by {error:.2g}, more than {limit:.2g}")


def use_fused_inference(model: nn.Module) -> None:
    """Let the kernel evaluate the BN-MLPs of a model that fit, where CUDA and tinycudann are at hand.

    Where some do not fit, one line on stderr says which and why.
    """
    if load_tinycudann() is None:
        return
    unfit = []
    for name, mlp in model.named_modules():
        if isinstance(mlp, CoordinateMLP):
            reason = why_not_fused(mlp.config)
            if reason is None:
                mlp.inference = FusedInference(name)
            else:
                unfit.append(f"{name} ({reason})")
    if unfit:
        tell(f"torch evaluates what tinycudann's fused MLP cannot: {', '.join(unfit)}")
