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
"""Networks whose norm by default stands behind the activation, and only in the first and the last hidden
layer. In all layers, and before the sines, it costs time and quality (`benchmarks.bn_network_search`)."""

T = TypeVar("T")


def by_norm(*chosen: T, others: T) -> dict[NormName, T]:
    """Something for each norm, such as the line with which figures draw it.

    Args:
        chosen: values of none, batch, layer, global and cross norm, in this order.
        others: value of all further norms.
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
    """A group of networks whose names differ in a number only."""

    usage: str
    """The names, as messages and --help spell them."""
    pattern: str
    """Regular expression that the names match; a group is the number."""
    parts: Callable[[str | None, int], dict[str, Any]]
    """Function that gives fields of `CoordinateMLPConfig`, from the number in the name, or None, and the
    number of coordinates."""
    label: Callable[[str], str] = str.upper
    """Function that gives the name in figures and tables, from the name of a network."""
    size: Size | None = None
    """Default size of the networks; None for that of the command."""
    activation: type[Activation] = Relu
    """Activation of the networks."""
    placement: Placement = "before"
    """Default place of the norm."""
    norm_layers: NormLayers = "all"
    """Hidden layers that have the norm by default."""


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
    """The family of the network that is named after an activation."""
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
"""Hash grids of `hash` by the number of coordinates: 380,000 parameters for pictures, 320,000 for shapes."""

HASH_NORM_EPS = {2: 1e-1, 3: 1e-1}
"""Numbers, by the number of coordinates, that norms behind these grids add to the variance. Features start
with a variance of 1e-9; with a smaller number, the norm would amplify their noise until the tables have
learned."""

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
"""The families of all networks."""

USAGE = ", ".join(family.usage for family in FAMILIES)
"""The names of all networks, as messages and --help spell them."""


@dataclass(frozen=True)
class Variant:
    """A network of the comparisons: an encoding with an activation, and a norm."""

    network: str
    """Name of a network of one of `FAMILIES`."""
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
            UserError: the network or the norm is unknown.
        """
        network, plus, norm = text.strip().lower().partition("+")
        if not plus:
            return cls(network)
        return cls(network, cast(NormName, {"bn": "batch"}.get(norm, norm)))

    @property
    def family(self) -> Family:
        """The family to which the network belongs."""
        return _family(self.network)[0]

    @property
    def own_init(self) -> Initialisation | None:
        """The initialisation that belongs to the network; None if it has none of its own."""
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
        """The network's config at a given size.

        Args:
            in_dim: number of coordinates.
            out_dim: number of outputs.
            width: units of each hidden layer.
            depth: number of hidden layers.
            placement: norm before or after the activation; None for the network's default.
            norm_layers: hidden layers that have the norm; None for the network's default.
            init: initialisation; None for the network's default.
            options: options of the activation, as fields of `CoordinateMLPConfig`.

        Raises:
            UserError: the network does not take this number of coordinates, or one of the options.
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
        UserError: a name is unknown, or there is none.
    """
    variants = list(dict.fromkeys(Variant.parse(name) for name in names))
    if not variants:
        raise UserError("--variants names no network: give some, as mlp pemlp-5+batch")
    return variants


def _family(network: str) -> tuple[Family, str | None]:
    """The family of a network's name, and the number in the name, or None.

    Raises:
        UserError: the name is unknown.
    """
    for family in FAMILIES:
        if found := re.fullmatch(family.pattern, network):
            return family, found[1] if found.re.groups else None
    raise UserError(f"the network {network!r} is unknown: choose {USAGE}")
