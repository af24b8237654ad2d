"""Groups of options that every fit takes: for the network, and for the run."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, NormName
from bn_field_plugin.nn.activations import OPTIONS
from standalone.fitting import Budget
from standalone.networks import NormLayers, Placement, Size, Variant
from standalone.time_limit import ENDING_SECONDS, TimeLimit


@dataclass(frozen=True)
class NetworkOptions:
    """The network."""

    network: str = "pemlp-5"
    """mlp, pemlp-K (K octaves of positional encoding), fourier or fourier-SCALE, hash or hash-T (T: log2 of
    the rows of a table), siren, finer, wire (complex, without norm), wire-real or gauss."""
    norm: NormName = "batch"
    """Norm of the hidden layers."""
    width: int | None = None
    """Units of each hidden layer; by default what is usual for the network: 32 for hash, 64 for others, and
    128 for siren in fits of images above 256 x 256 pixels."""
    depth: int | None = None
    """Number of hidden layers; by default what is usual for the network: 2 for hash."""
    placement: Placement | None = None
    """Norm before or after the activation; by default after that of siren and finer, else before it."""
    norm_layers: NormLayers | None = None
    """Norm in all hidden layers, or in the first and the last one alone (ends); by default ends in siren and
    finer, and all in all others."""
    norm_eps: float | None = None
    """Added to the variance by the norm; by default 1e-5, and 1e-1 behind a hash grid, whose features start
    as noise that the norm would amplify."""
    omega: float | None = None
    """Frequency of siren and finer (30) or of wire and wire-real (20)."""
    finer_bias: float | None = None
    """Biases of the first layer of finer start uniformly between minus this and plus this (1)."""
    wire_scale: float | None = None
    """Scale of the window of wire and wire-real (10)."""
    gauss_sigma: float | None = None
    """Standard deviation of the activation of gauss (0.05)."""

    usual_size: ClassVar[Size] = Size(64, 5)
    """Size of networks that have no default of their own, if no size is given."""

    @property
    def size(self) -> Size:
        """Width and depth: the given ones, else the usual ones."""
        usual = self.variant.family.size or self.usual_size
        return Size(
            usual.width if self.width is None else self.width,
            usual.depth if self.depth is None else self.depth,
        )

    @property
    def activation_options(self) -> dict[str, float]:
        """The options of the activation that are given."""
        given = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in given.items() if value is not None}

    def config(self, in_dim: int, out_dim: int) -> CoordinateMLPConfig:
        """The network's config.

        Raises:
            UserError: the name is unknown, or an option belongs to another network.
        """
        config = self.variant.config(
            in_dim,
            out_dim,
            *self.size,
            placement=self.placement,
            norm_layers=self.norm_layers,
            options=self.activation_options,
        )
        if self.norm_eps is None:
            return config
        if not (math.isfinite(self.norm_eps) and self.norm_eps > 0):
            raise UserError(f"--norm-eps is {self.norm_eps}: it must be above 0")
        return dataclasses.replace(config, norm_eps=self.norm_eps)

    @property
    def variant(self) -> Variant:
        """Network and norm by name."""
        return Variant(self.network, self.norm)

    def build(self, in_dim: int, out_dim: int, seed: int) -> CoordinateMLP:
        """Make the network, without changing torch's global random numbers.

        Args:
            in_dim: number of coordinates.
            out_dim: number of outputs.
            seed: seed of the initial weights.

        Raises:
            UserError: the name is unknown, a size is below 1, or an option belongs to another network.
        """
        config = self.config(in_dim, out_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return CoordinateMLP(config)


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    steps: int | None = None
    """Optimisation steps; the command's default unless a time limit is given."""
    time_limit: float | None = None
    """Seconds of the whole command: start, reading, steps, evaluation, files. The schedule follows it."""
    eval_every: int = 50
    """Steps between two evaluations on the way."""
    seed: int = 0
    """Seed of the initial weights and of the points."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto is CUDA where it is present."""
    compile: bool = False
    """Run training passes through torch.compile; needs a C++ compiler and takes a while to begin."""

    def limit(self) -> TimeLimit | None:
        """The time limit, counted from the start of the running command; None without one.

        Raises:
            UserError: the time limit is not above 0.
        """
        if self.time_limit is None:
            return None
        self.budget(1)
        return TimeLimit(self.time_limit).reserving(ENDING_SECONDS)

    def budget(self, default_steps: int, limit: TimeLimit | None = None) -> Budget:
        """The budget of the fit, in steps or time.

        Args:
            default_steps: steps if neither steps nor a time limit are given.
            limit: time by which the fit must have ended; if None, the time limit applies to the steps alone.

        Raises:
            UserError: a number is out of its range.
        """
        if self.eval_every < 1:
            raise UserError(f"--eval-every is {self.eval_every}: it must be at least 1")
        default = default_steps if self.time_limit is None else None
        seconds = self.time_limit if limit is None else None
        return Budget(self.steps if self.steps is not None else default, seconds, limit)

    def torch_device(self) -> torch.device:
        """The device to compute on.

        Raises:
            UserError: CUDA is asked for, but absent.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: there is no CUDA device here; use --device cpu")
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(auto if self.device == "auto" else self.device)
