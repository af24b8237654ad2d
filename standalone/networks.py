"""The networks that are compared, by name: `pemlp-5+batch` is PEMLP-5 with batch norm."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, cast

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import (
    CoordinateMLPConfig,
    GaussianEncodingConfig,
    HashGridEncodingConfig,
    NormName,
    PositionalEncodingConfig,
)
from bn_field_plugin.nn.activations import ACTIVATIONS, Activation, Relu
from bn_field_plugin.nn.norms import NORMS

FOURIER_SCALE = 10.0
"""Standard deviation of the frequencies of `fourier`, in cycles per unit (Tancik et al. 2020, images)."""

Initialisation = Literal["pytorch", "he", "paper"]

Placement = Literal["before", "after"]
"""Where a norm stands: before or after the activation."""

NormLayers = Literal["all", "ends"]
"""Which hidden layers have the norm: all, or the first and the last one alone."""

NORMED_BEHIND_ENDS = ("siren", "finer")
"""Networks whose norm stands, unless asked otherwise, behind the activations of the first and of the last
hidden layer. In all layers, and before the sines, it costs time and quality (`benchmarks.bn_network_search`).
"""

T = TypeVar("T")


def by_norm(*chosen: T, others: T) -> dict[NormName, T]:
    """What figures draw each norm with.

    Args:
        chosen: that of none, batch, layer, global and cross norm.
        others: that of norms which have come since.
    """
    names = cast(tuple[NormName, ...], tuple(NORMS))
    return {name: chosen[index] if index < len(chosen) else others for index, name in enumerate(names)}


class Size(NamedTuple):
    """Size of a network."""

    width: int
    """Units of each hidden layer."""
    depth: int
    """Number of hidden layers."""


@dataclass(frozen=True)
class Family:
    """Networks that share a name, but for a number in it."""

    usage: str
    """How their names are spelt, in messages and --help."""
    pattern: str
    """What their names match; a group is the number."""
    parts: Callable[[str | None, int], dict[str, Any]]
    """From the number and the coordinates of a point to fields of `CoordinateMLPConfig`."""
    label: Callable[[str], str] = str.upper
    """From a name to the one in figures and tables."""
    size: Size | None = None
    """Their size unless asked otherwise; None is that of the command."""
    activation: type[Activation] = Relu
    """Their activation."""
    placement: Placement = "before"
    """Where their norm stands unless asked otherwise."""
    norm_layers: NormLayers = "all"
    """Which hidden layers have it unless asked otherwise."""


def _positional(octaves: str | None, in_dim: int) -> dict[str, Any]:
    return {"encoding": PositionalEncodingConfig(int(octaves or 0))}


def _fourier(scale: str | None, in_dim: int) -> dict[str, Any]:
    return {"encoding": GaussianEncodingConfig(scale=float(scale or FOURIER_SCALE))}


def _hash(log2_rows: str | None, in_dim: int) -> dict[str, Any]:
    grid = HASH_GRIDS.get(in_dim)
    if grid is None:
        raise UserError(f"the network 'hash' takes 2 or 3 coordinates, not {in_dim}: choose another one")
    if log2_rows:
        grid = dataclasses.replace(grid, log2_table_size=int(log2_rows))
    return {"encoding": grid, "norm_eps": HASH_NORM_EPS[in_dim]}


def _of_activation(name: str, kind: type[Activation]) -> Family:
    """The network that is known by an activation."""
    network = kind.network or name
    return Family(
        network,
        re.escape(network),
        lambda _number, _in_dim: {"activation": name, "init": "paper"},
        lambda _name: kind.title,
        activation=kind,
        placement="after" if network in NORMED_BEHIND_ENDS else "before",
        norm_layers="ends" if network in NORMED_BEHIND_ENDS else "all",
    )


HASH_GRIDS = {
    2: HashGridEncodingConfig(8, 2, base_resolution=16, finest_resolution=512, log2_table_size=16),
    3: HashGridEncodingConfig(8, 2, base_resolution=8, finest_resolution=128, log2_table_size=15),
}
"""The grids of `hash` by the number of coordinates: 380,000 numbers for pictures, 320,000 for shapes."""

HASH_NORM_EPS = {2: 1e-1, 3: 1e-1}
"""What norms behind these grids add to the variance: features start with a variance of 1e-9, and a smaller
number lets the norm blow up what is noise until the tables have learned."""

FAMILIES = (
    Family("mlp", "mlp", lambda _number, _in_dim: {}),
    Family("pemlp-K (K octaves of positional encoding)", r"pemlp-([1-9]\d?)", _positional),
    Family(
        "fourier or fourier-SCALE",
        r"fourier(?:-(?=.*[1-9])(\d+(?:\.\d+)?))?",
        _fourier,
        str.capitalize,
    ),
    Family(
        "hash or hash-T (T: log2 of a table's rows)",
        r"hash(?:-([4-9]|1\d|2[0-4]))?",
        _hash,
        str.capitalize,
        Size(32, 2),
    ),
    *(_of_activation(name, kind) for name, kind in ACTIVATIONS.items() if kind.network is not None),
)
"""All networks."""

USAGE = ", ".join(family.usage for family in FAMILIES)
"""The names of all networks."""


@dataclass(frozen=True)
class Variant:
    """A network of the comparisons: an encoding with an activation, and a norm."""

    network: str
    """A name of one of `FAMILIES`."""
    norm: NormName = "none"
    """Norm of the hidden layers."""

    def __post_init__(self) -> None:
        _family(self.network)
        if self.norm not in NORMS:
            raise UserError(f"the norm {self.norm!r} is unknown: choose one of {', '.join(NORMS)}")

    def _check_option(self, name: str) -> None:
        if name not in self.family.activation.options:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} is an option of {', '.join(takers(name))}: {self.network} has none, leave it out"
            )

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
    def family(self) -> Family:
        """The networks that share its name."""
        return _family(self.network)[0]

    @property
    def own_init(self) -> Initialisation | None:
        """The initialisation that belongs to the network; None where any does."""
        return "paper" if self.family.activation.network is not None else None

    @property
    def label(self) -> str:
        """Name in figures and tables, e.g. `PEMLP-5 + BN`."""
        norm = NORMS[self.norm]
        return self.family.label(self.network) + (f" + {norm.title}" if norm is not None else "")

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
        placement: Placement | None = None,
        norm_layers: NormLayers | None = None,
        init: Initialisation | None = None,
        options: Mapping[str, float] | None = None,
    ) -> CoordinateMLPConfig:
        """The network of given sizes.

        Args:
            in_dim: number of coordinates.
            out_dim: number of outputs.
            width: units of each hidden layer.
            depth: number of hidden layers.
            placement: norm before or after the activation; None is that of the network.
            norm_layers: which hidden layers have the norm; None is what the network has.
            init: initialisation; None is that of the network.
            options: those of its activation, as fields of `CoordinateMLPConfig`.

        Raises:
            UserError: the network does not take so many coordinates, or an option.
        """
        family, number = _family(self.network)
        parts = family.parts(number, in_dim)
        if init is not None:
            parts["init"] = init
        for name, value in (options or {}).items():
            self._check_option(name)
            parts[name] = value
        return CoordinateMLPConfig(
            in_dim=in_dim,
            out_dim=out_dim,
            width=width,
            depth=depth,
            norm=self.norm,
            placement=family.placement if placement is None else placement,
            norm_layers=family.norm_layers if norm_layers is None else norm_layers,
            **parts,
        )


def takers(option: str) -> list[str]:
    """Names of the networks that take an option of activations."""
    return [kind.network for kind in ACTIVATIONS.values() if kind.network and option in kind.options]


def parse_variants(names: Sequence[str]) -> list[Variant]:
    """Networks by name, each once.

    Raises:
        UserError: an unknown name, or none at all.
    """
    variants = list(dict.fromkeys(Variant.parse(name) for name in names))
    if not variants:
        raise UserError("--variants names no network: give some, as mlp pemlp-5+batch")
    return variants


def _family(network: str) -> tuple[Family, str | None]:
    """The family of a name, and the number in it.

    Raises:
        UserError: an unknown name.
    """
    for family in FAMILIES:
        if found := re.fullmatch(family.pattern, network):
            return family, found[1] if found.re.groups else None
    raise UserError(f"the network {network!r} is unknown: choose {USAGE}")
