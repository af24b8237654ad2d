"""Encodings of coordinates: what a coordinate network sees instead of bare x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn.precision import without_autocast
from bn_field_plugin.nn.scripting import recorded


@dataclass(frozen=True)
class NoEncoding:
    """The coordinates as they are."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for `in_dim` coordinates."""
        return IdentityEncoding(in_dim)


@dataclass(frozen=True)
class PositionalEncodingConfig:
    """PEMLP-k of Cai et al.: sines and cosines at octaves of pi."""

    num_frequencies: int = 5
    """Number k of octaves, at least 1."""
    include_input: bool = True
    """Keep the bare coordinates in front."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for `in_dim` coordinates."""
        return PositionalEncoding(in_dim, self)


@dataclass(frozen=True)
class IntegratedEncodingConfig(PositionalEncodingConfig):
    """The positional encoding's expectation over Gaussians (mip-NeRF, Barron et al. 2021)."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for the means and the variances of `in_dim / 2` coordinates."""
        return IntegratedEncoding(in_dim, self)


@dataclass(frozen=True)
class GaussianEncodingConfig:
    """Random Fourier features (Tancik et al. 2020)."""

    num_features: int = 128
    """Number of random frequencies; the encoding has twice as many outputs."""
    scale: float = 10.0
    """Standard deviation of the frequencies, in cycles per unit of the coordinates."""
    seed: int = 0
    """Seed of the frequencies, which are a fixed buffer."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for `in_dim` coordinates."""
        return GaussianEncoding(in_dim, self)


class EncodingConfig(Protocol):
    """What makes an encoding, once the number of coordinates is known."""

    def build(self, in_dim: int) -> Encoding:
        """Make the encoding for `in_dim` coordinates."""
        ...


class Encoding(nn.Module):
    """Maps coordinates to features.

    Attributes:
        in_dim: number of coordinates.
        out_dim: number of features.
    """

    in_dim: int
    out_dim: int

    def __prepare_scriptable__(self) -> nn.Module:
        return recorded(self, self.in_dim)


class IdentityEncoding(Encoding):
    """The coordinates as they are."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.in_dim = self.out_dim = in_dim

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return `x`."""
        return x


class PositionalEncoding(Encoding):
    """`[x, sin(2^j pi x), cos(2^j pi x)]` for j < k; x should lie in [-1, 1]."""

    octaves: Tensor

    def __init__(self, in_dim: int, config: PositionalEncodingConfig) -> None:
        super().__init__()
        if config.num_frequencies < 1:
            raise UserError(
                f"num_frequencies is {config.num_frequencies}: a positional encoding needs at least 1"
            )
        self.in_dim = in_dim
        self.include_input = config.include_input
        self.out_dim = in_dim * (2 * config.num_frequencies + int(config.include_input))
        # Integers: exact in every dtype, and module.half() leaves them alone.
        self.register_buffer("octaves", 2 ** torch.arange(config.num_frequencies), persistent=False)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch f"]:
        """Encode coordinates; the phases are formed in fp32 or better, also under autocast."""
        with without_autocast(x.device):
            x = x if x.dtype == torch.float64 else x.float()
            parts = self._waves(x)
            return torch.cat([x, *parts] if self.include_input else parts, dim=-1)

    def _waves(self, x: Float[Tensor, "*batch d"]) -> list[Float[Tensor, "*batch kd"]]:
        """Sines and cosines at all octaves."""
        phase = math.pi * (x[..., None, :] * self.octaves.to(x.dtype)[:, None]).flatten(-2)
        return [phase.sin(), phase.cos()]


class IntegratedEncoding(PositionalEncoding):
    """Expectation of the positional encoding over Gaussians (Barron et al. 2021, eq. 14).

    Takes the means, which should lie in [-1, 1], and after them the variances. A wave of frequency f is
    damped by `exp(-f^2 variance / 2)`: octaves finer than what a sample covers vanish. Without variance it is
    the positional encoding.
    """

    def __init__(self, in_dim: int, config: PositionalEncodingConfig) -> None:
        if in_dim % 2:
            raise UserError(f"in_dim is {in_dim}: an integrated encoding takes as many variances as means")
        super().__init__(in_dim // 2, config)
        self.in_dim = in_dim

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch f"]:
        """Encode means and variances, in fp32 or better."""
        with without_autocast(x.device):
            mean, variance = (x if x.dtype == torch.float64 else x.float()).chunk(2, dim=-1)
            squares = (math.pi * self.octaves.to(x.dtype)).square()
            damping = torch.exp(-0.5 * (variance[..., None, :] * squares[:, None]).flatten(-2))
            parts = [damping * wave for wave in self._waves(mean)]
            return torch.cat([mean, *parts] if self.include_input else parts, dim=-1)


class GaussianEncoding(Encoding):
    """`[sin(2 pi B x), cos(2 pi B x)]` with normally distributed frequencies B."""

    frequencies: Tensor

    def __init__(self, in_dim: int, config: GaussianEncodingConfig) -> None:
        super().__init__()
        if config.num_features < 1:
            raise UserError(f"num_features is {config.num_features}: a Gaussian encoding needs at least 1")
        self.in_dim = in_dim
        self.out_dim = 2 * config.num_features
        generator = torch.Generator().manual_seed(config.seed)
        frequencies = torch.randn(config.num_features, in_dim, generator=generator) * config.scale
        self.register_buffer("frequencies", frequencies)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch f"]:
        """Encode coordinates; the phases are formed in fp32 or better, also under autocast."""
        with without_autocast(x.device):
            x = x if x.dtype == torch.float64 else x.float()
            phase = 2 * math.pi * (x @ self.frequencies.to(x.dtype).T)
            return torch.cat([phase.sin(), phase.cos()], dim=-1)
