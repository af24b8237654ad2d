"""What batch norm does to the largest eigenvalue, and to its share of the trace, which is another matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bn_field_plugin.ntk.points import grid
from bn_field_plugin.ntk.spectrum_statistics import SpectrumStatistics, statistics_of
from bn_field_plugin.progress import Tracker, silent
from standalone.networks import Initialisation, Variant
from standalone.ntk.studies.common import Interval, NetworkSize, geometric_interval, interval, spectrum_of
from standalone.report import Cell

CASES = (("none", "batch"), ("batch", "batch"), ("batch", "frozen"), ("layer", "batch"))
"""Norm and statistics of each row; the first is what the others are compared with."""


class WarningRow(NamedTuple):
    """Numbers of spectra of one network, over seeds."""

    network: str
    init: str
    norm: str
    mean: Interval
    maximum: Interval
    top_share: Interval
    maximum_ratio: Interval | None
    """Largest eigenvalue over that without norm; None without norm."""
    share_ratio: Interval | None
    """Its share of the trace over that without norm."""


def warning_facts(
    side: int, seeds: int, networks: Sequence[str] = ("mlp", "pemlp-5"), tracker: Tracker = silent
) -> list[WarningRow]:
    """The largest eigenvalue, and its share of the trace, for each initialisation and norm.

    The networks have 3 hidden layers of 64 units.

    Args:
        side: points along each axis of the grid.
        seeds: networks of each kind.
        networks: without their norm.
        tracker: shows progress.
    """
    points = grid(side)
    inits: tuple[Initialisation, ...] = ("pytorch", "he")
    rows: list[WarningRow] = []
    jobs = [(network, init) for network in networks for init in inits]
    for network, init in tracker(jobs, "the warning's table"):
        base: list[SpectrumStatistics] = []
        for norm, statistics in CASES:
            variant, size = Variant(network, norm), NetworkSize(init=init)  # type: ignore[arg-type]
            found = [
                statistics_of(spectrum_of(variant, size, points, seed, statistics))  # type: ignore[arg-type]
                for seed in range(seeds)
            ]
            base = base or found
            label = f"{norm}, frozen" if statistics == "frozen" else norm
            mean, maximum, share = (
                interval([getattr(one, name) for one in found]) for name in ("mean", "maximum", "top_share")
            )
            ratios = (
                [None, None] if norm == "none" else [_ratio(found, base, n) for n in ("maximum", "top_share")]
            )
            rows.append(WarningRow(network, init, label, mean, maximum, share, *ratios))
    return rows


def warning_verdict(rows: Sequence[WarningRow]) -> str:
    """In how many cases the eigenvalue rises, and its share falls, with batch norm."""
    normed = [one for one in rows if one.norm.startswith("batch")]
    rises = sum(one.maximum_ratio is not None and one.maximum_ratio.low > 1 for one in normed)
    falls = sum(one.share_ratio is not None and one.share_ratio.high < 1 for one in normed)
    return (
        f"with batch norm the largest eigenvalue itself rises in {rises} of {len(normed)} cases; "
        f"its share of the trace falls in {falls} of {len(normed)}"
    )


def warning_table(rows: Sequence[WarningRow]) -> list[dict[str, Cell]]:
    """The rows as a table."""
    return [
        {
            "network": one.network,
            "init": one.init,
            "norm": one.norm,
            "mean": str(one.mean),
            "largest": str(one.maximum),
            "largest / trace": str(one.top_share),
            "largest, over none": str(one.maximum_ratio or ""),
            "largest / trace, over none": str(one.share_ratio or ""),
        }
        for one in rows
    ]


def _ratio(found: Sequence[SpectrumStatistics], base: Sequence[SpectrumStatistics], name: str) -> Interval:
    return geometric_interval([getattr(a, name) / getattr(b, name) for a, b in zip(found, base, strict=True)])
