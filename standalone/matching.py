"""Options of networks to compare, all of one size or with equal numbers of parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import HashGridEncodingConfig
from bn_field_plugin.nn.hash_grid import levels_of
from standalone.networks import Size, Variant
from standalone.optimization import count_parameters
from standalone.options import NetworkOptions

STANDARD = (
    *("mlp", "pemlp-5", "fourier", "siren", "finer", "wire", "gauss", "hash"),
    *("pemlp-5+batch", "siren+batch", "hash+batch"),
)
"""The standard set: the networks that papers on coordinate networks compare, and three of them with batch
norm."""

STANDARD_SIZE = Size(64, 3)
"""Default units and layers of the standard set: the size at which the learning rates of SIREN, FINER, WIRE
and Gauss were searched. With the ten layers of Fig 2 of Cai et al., these networks would do worse."""

TOLERANCE = 0.05
"""Largest relative difference of two numbers of parameters that count as equal."""

TABLE_SHARE = 0.7
"""Largest share of the parameters for the tables of a hash grid, where their size is chosen to match."""

WIDEST = 4096
"""Largest width that is tried."""


def contenders(
    variants: Sequence[Variant], size: NetworkOptions, in_dim: int, out_dim: int, *, equal: bool
) -> list[NetworkOptions]:
    """Options of the networks of a comparison, after a check that each can be built.

    Args:
        variants: the networks.
        size: options of all networks; those with a size of their own, such as `hash`, keep that.
        in_dim: number of coordinates.
        out_dim: number of outputs.
        equal: give each network the width with about as many parameters as `mlp` has at this size.

    Raises:
        UserError: a network cannot be built, or has no width with that number of parameters.
    """
    found = []
    target = 0
    if equal:
        plain = NetworkOptions("mlp", "none", *size.size)
        target = count_parameters(plain.build(in_dim, out_dim, 0))
    for variant in variants:
        options = dataclasses.replace(size, network=variant.network, norm=variant.norm)
        if variant.family.size is not None:
            options = dataclasses.replace(options, width=None, depth=None)
        found.append(matched(options, target, in_dim, out_dim) if equal else options)
        found[-1].build(in_dim, out_dim, 0)
    return found


def matched(options: NetworkOptions, parameters: int, in_dim: int, out_dim: int) -> NetworkOptions:
    """Options of a network with the width at which its number of parameters is nearest to a given one.

    Args:
        options: options of the network. The width is replaced, and so is the size of a hash grid's tables,
            unless the network's name gives it.
        parameters: number of parameters to come near to.
        in_dim: number of coordinates.
        out_dim: number of outputs.

    Raises:
        UserError: no width comes within `TOLERANCE`.
    """
    options = _with_tables(options, parameters, in_dim, out_dim)

    def count(width: int) -> int:
        return count_parameters(dataclasses.replace(options, width=width).build(in_dim, out_dim, 0))

    low, high = 1, 2
    while count(high) < parameters and high < WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    width = min((low, high), key=lambda one: abs(count(one) - parameters))
    got = count(width)
    if abs(got - parameters) > TOLERANCE * parameters:
        raise UserError(
            f"{options.variant.slug} has {got:,} parameters at its nearest width, not {parameters:,}: choose "
            "another --width or --depth, or leave it out"
        )
    return dataclasses.replace(options, width=width)


def _with_tables(options: NetworkOptions, parameters: int, in_dim: int, out_dim: int) -> NetworkOptions:
    """Options with the largest tables of a hash grid that take at most `TABLE_SHARE` of the parameters."""
    encoding = options.config(in_dim, out_dim).encoding
    if not isinstance(encoding, HashGridEncodingConfig) or options.network != "hash":
        return options
    for log2_rows in range(encoding.log2_table_size, 3, -1):
        last = levels_of(dataclasses.replace(encoding, log2_table_size=log2_rows), in_dim)[-1]
        if (last.row + last.rows) * encoding.features_per_level <= TABLE_SHARE * parameters:
            return dataclasses.replace(options, network=f"hash-{log2_rows}")
    raise UserError(f"no hash grid is as small as {parameters:,} parameters: raise --width or --depth")
