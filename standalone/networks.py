"""The networks that the source compares, by name: `pemlp-5+batch` is PEMLP-5 with batch norm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    CoordinateMLPConfig,
    EncodingConfig,
    GaussianEncodingConfig,
    NoEncoding,
    NormName,
    PositionalEncodingConfig,
)

NORM_LABELS: dict[NormName, str] = {
    "none": "",
    "batch": "BN",
    "layer": "LN",
    "global": "GN",
    "cross": "CN",
}
"""Abbreviations of the norms in figures (global and cross norm as in arXiv 2407.17834)."""

FOURIER_SCALE = 10.0
"""Standard deviation of the frequencies of `fourier`, in cycles per unit (Tancik et al. 2020, images)."""

Initialisation = Literal["pytorch", "he", "siren"]


@dataclass(frozen=True)
class Variant:
    """A network of the source's comparisons: an encoding with an activation, and a norm."""

    network: str
    """`mlp`, `pemlp-K` (K octaves of positional encoding), `fourier`, `fourier-SCALE`, or `siren`."""
    norm: NormName = "none"
    """Norm of the hidden layers."""

    def __post_init__(self) -> None:
        _encoding(self.network)
        if self.norm not in NORM_LABELS:
            raise UserError(f"the norm {self.norm!r} is unknown: choose one of {', '.join(NORM_LABELS)}")

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read `NETWORK` or `NETWORK+NORM`; `bn` stands for `batch`.

        Raises:
            UserError: an unknown network or norm.
        """
        network, plus, norm = text.strip().lower().partition("+")
        if not plus:
            return cls(network)
        return cls(network, cast(NormName, {"bn": "batch"}.get(norm, norm)))

    @property
    def label(self) -> str:
        """Name in figures and tables, e.g. `PEMLP-5 + BN`."""
        name = "Fourier" + self.network[7:] if self.network.startswith("fourier") else self.network.upper()
        return name + (f" + {NORM_LABELS[self.norm]}" if self.norm != "none" else "")

    @property
    def slug(self) -> str:
        """Name in files and on command lines, which `parse` reads."""
        return self.network + (f"+{self.norm}" if self.norm != "none" else "")

    def config(
        self,
        in_dim: int,
        out_dim: int,
        width: int,
        depth: int,
        *,
        placement: Literal["before", "after"] = "before",
        init: Initialisation | None = None,
    ) -> CoordinateMLPConfig:
        """The network of given sizes.

        Args:
            in_dim: number of coordinates.
            out_dim: number of outputs.
            width: units of each hidden layer.
            depth: number of hidden layers.
            placement: norm before or after the activation.
            init: initialisation; None is SIREN's for `siren` and PyTorch's for the others.
        """
        siren = self.network == "siren"
        return CoordinateMLPConfig(
            in_dim=in_dim,
            out_dim=out_dim,
            width=width,
            depth=depth,
            activation="sine" if siren else "relu",
            encoding=_encoding(self.network),
            norm=self.norm,
            placement=placement,
            init=init or ("siren" if siren else "pytorch"),
        )


def parse_variants(names: Sequence[str]) -> list[Variant]:
    """Networks by name, each once.

    Raises:
        UserError: an unknown name, or none at all.
    """
    variants = list(dict.fromkeys(Variant.parse(name) for name in names))
    if not variants:
        raise UserError("--variants names no network: give some, as mlp pemlp-5+batch")
    return variants


def _encoding(network: str) -> EncodingConfig:
    """Encoding of a network's coordinates."""
    if network in ("mlp", "siren"):
        return NoEncoding()
    if found := re.fullmatch(r"pemlp-([1-9]\d?)", network):
        return PositionalEncodingConfig(int(found[1]))
    if found := re.fullmatch(r"fourier(?:-(\d+(?:\.\d+)?))?", network):
        scale = float(found[1]) if found[1] else FOURIER_SCALE
        if scale > 0:
            return GaussianEncodingConfig(scale=scale)
    raise UserError(
        f"the network {network!r} is unknown: choose mlp, pemlp-K (as pemlp-5), fourier, fourier-SCALE, siren"
    )


assert set(NORM_LABELS) == set(get_args(NormName))
