"""What the studies share: networks with seeds, kernels with and without coupling, intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bn_field_plugin.nn import CoordinateMLP
from bn_field_plugin.ntk.module_function import Statistics
from bn_field_plugin.ntk.spectra import eigenvalues
from standalone.networks import Initialisation, Variant


@dataclass(frozen=True)
class NetworkSize:
    """Size of the networks of a study."""

    width: int = 64
    """Units of each hidden layer."""
    depth: int = 3
    """Hidden layers."""
    init: Initialisation = "pytorch"
    """Initialisation: pytorch or he; networks named after an activation have their own."""


def build(variant: Variant, size: NetworkSize, in_dim: int, out_dim: int, seed: int) -> CoordinateMLP:
    """A network in fp64 with the weights of a seed; torch's generator stays as it is."""
    init = variant.own_init or size.init
    config = variant.config(in_dim, out_dim, size.width, size.depth, init=init)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CoordinateMLP(config).double()


def spectrum_of(
    variant: Variant,
    size: NetworkSize,
    points: Float[Tensor, "n d"],
    seed: int,
    statistics: Statistics = "batch",
    out_dim: int = 1,
) -> Float[np.ndarray, " m"]:
    """All eigenvalues at initialisation, the largest first."""
    network = build(variant, size, points.shape[1], out_dim, seed)
    return eigenvalues(network, points, statistics=statistics)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def interval(samples: Sequence[float]) -> Interval:
    """The interval of a mean. A single sample is both ends of its interval."""
    from scipy.stats import t

    values = np.asarray(samples, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, mean, mean)
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def geometric_interval(samples: Sequence[float]) -> Interval:
    """The interval of a geometric mean, for ratios: samples are above zero."""
    found = interval([float(np.log(sample)) for sample in samples])
    return Interval(*(float(np.exp(x)) for x in (found.mean, found.low, found.high)))
