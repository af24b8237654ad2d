"""Networks with batch norm against networks without, at equal parameters: fits that are kept, and a verdict.

The fits of one seed come before those of the next, so that a table can be read after the first seed. Those
that have finished are not repeated: a command can be stopped and given again, also for more seeds, networks
or things to fit.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole
from bn_field_plugin.nn import CoordinateMLPConfig
from standalone.matching import matched
from standalone.networks import Variant
from standalone.optimization import (
    RATES_AT,
    LearningRates,
    OptimizationConfig,
    OptimizerName,
    count_parameters,
)
from standalone.options import NetworkOptions
from standalone.report import Cell
from standalone.sweep.table import mean_and_sd


@dataclass(frozen=True)
class ScaledRates(OptimizationConfig):
    """The learning rates of the commands, which may follow the number of steps, times a factor."""

    rate_factor: float = 1.0
    """The factor."""

    def learning_rates(self, network: CoordinateMLPConfig, steps: float = RATES_AT) -> LearningRates:
        """Peak learning rates for a network and a number of steps."""
        rates = super().learning_rates(network, steps)
        return LearningRates(self.rate_factor * rates.hidden, self.rate_factor * rates.rest)


@dataclass(frozen=True)
class Racer:
    """A network as it takes part."""

    variant: str
    """NETWORK or NETWORK+NORM."""
    depth: int
    """Hidden layers; the width is that of as many parameters as the others have, within 5%."""
    optimizer: OptimizerName = "muon"
    """Optimizer of the hidden matrices."""

    @property
    def is_ours(self) -> bool:
        """Whether it has batch norm."""
        return Variant.parse(self.variant).norm == "batch"

    @property
    def label(self) -> str:
        """Name in the table."""
        return Variant.parse(self.variant).label

    def network(self, like: NetworkOptions, in_dim: int, out_dim: int) -> NetworkOptions:
        """The network with as many parameters as `like`."""
        variant = Variant.parse(self.variant)
        own = dataclasses.replace(
            like, network=variant.network, norm=variant.norm, width=None, depth=self.depth
        )
        return matched(own, count_parameters(like.build(in_dim, out_dim, 0)), in_dim, out_dim)

    def optimization(self, factor: float) -> ScaledRates:
        """Its optimizers, with the learning rates of the commands times a factor."""
        return ScaledRates(self.optimizer, rate_factor=factor)

    def summary(self, network: NetworkOptions, factors: Mapping[str, float]) -> str:
        """What a table's note tells of it: size, optimizer, and peak rates for 1,000 steps by budget."""
        words = []
        for budget, factor in factors.items():
            rates = self.optimization(factor).learning_rates(network.config(2, 1))
            words.append(f"{budget} {rates.hidden:.2g}/{rates.rest:.2g}")
        return f"{self.label} {self.depth}x{network.width}, {self.optimizer}: {', '.join(words)}"


@dataclass(frozen=True)
class Heat:
    """What all networks fit under one budget."""

    budget: str
    """The budget's name in the table."""
    thing: str
    """Picture or shape."""


@dataclass(frozen=True)
class Fitted:
    """What one fit gave."""

    score: float | None
    """PSNR or IoU of the final network; None where the fit diverged."""
    steps: int
    """Steps taken."""


Fit = Callable[[Racer, Heat, int, float], Fitted]
"""Function that fits: network, what and how long, seed, factor of the learning rates."""


class KeptFits:
    """Fits that are not repeated, kept in a file.

    Args:
        path: the file, JSON.
        fit: makes a fit that is not there; it may raise what says that the loss is not finite.
        settings: everything else that a fit depends on, by budget.
    """

    def __init__(self, path: Path, fit: Fit, settings: Mapping[str, Mapping[str, object]]) -> None:
        self._path, self._fit, self._settings = path, fit, dict(settings)
        self._fits: dict[str, Fitted] = {}
        if path.is_file():
            saved = json.loads(path.read_text(encoding="utf-8"))
            self._fits = {identity: Fitted(**fields) for identity, fields in saved.items()}

    def _identity(self, racer: Racer, heat: Heat, seed: int, factor: float) -> str:
        parts = dataclasses.asdict(racer), dataclasses.asdict(heat), seed, factor, self._settings[heat.budget]
        return json.dumps(parts, sort_keys=True, default=str)

    def has(self, racer: Racer, heat: Heat, seed: int, factor: float) -> bool:
        """Whether the fit has finished before."""
        return self._identity(racer, heat, seed, factor) in self._fits

    def get(self, racer: Racer, heat: Heat, seed: int, factor: float) -> Fitted:
        """Recall a fit, or make it."""
        identity = self._identity(racer, heat, seed, factor)
        if identity not in self._fits:
            try:
                found = self._fit(racer, heat, seed, factor)
            except UserError as error:
                if not str(error).startswith("the loss is"):
                    raise
                found = Fitted(None, 0)
            self._fits[identity] = found
            kept = {key: dataclasses.asdict(one) for key, one in self._fits.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(kept, indent=1) + "\n")
            print(
                f"{heat.budget}: {heat.thing}, {racer.label}, x{factor:g}, seed {seed}: {found}", flush=True
            )
        return self._fits[identity]

    def best_factor(self, racer: Racer, heat: Heat, factors: Sequence[float]) -> float:
        """The factor of a network's learning rates that serves it best in a trial.

        Raises:
            UserError: its fits diverge with all of them.
        """
        if len(factors) == 1:
            return factors[0]
        scores = {factor: self.get(racer, heat, 0, factor).score for factor in factors}
        found = {factor: score for factor, score in scores.items() if score is not None}
        if not found:
            raise UserError(f"{racer.label} diverges at every rate that is tried: give smaller --factors")
        return max(found, key=lambda factor: found[factor])


def chosen(racers: Sequence[Racer], names: Sequence[str]) -> list[Racer]:
    """The racers of the given names, in the order of the names.

    Raises:
        UserError: a name of none of them, or no network with batch norm or none without.
    """
    by_name = {racer.variant: racer for racer in racers}
    for name in names:
        if name not in by_name:
            raise UserError(f"--networks {name}: it takes no part; choose from {' '.join(by_name)}")
    found = [by_name[name] for name in dict.fromkeys(names)]
    if len({racer.is_ours for racer in found}) < 2:
        raise UserError("--networks needs one with batch norm and one without: add some")
    return found


Scores = dict[Heat, dict[Racer, list[Fitted]]]
"""Fits of each network, one for each seed."""


def rows_of(scores: Scores, digits: int) -> list[dict[str, Cell]]:
    """A row for each thing and budget: mean and deviation over seeds of each network, and the gain."""
    rows: list[dict[str, Cell]] = []
    for heat, by_racer in scores.items():
        row: dict[str, Cell] = {"budget": heat.budget, "fitted": heat.thing}
        for racer, fits in by_racer.items():
            values = [fit.score for fit in fits if fit.score is not None]
            if len(values) < len(fits):
                row[racer.label] = "diverged"
                continue
            mean, sd = mean_and_sd(values, digits)
            spread = "" if sd is None else f" +- {sd:.{digits}f}"
            row[racer.label] = f"{mean:.{digits}f}{spread} ({round(sum(f.steps for f in fits) / len(fits))})"
        ours, rival = _best_ours(scores, heat.budget), _best_rival(by_racer)
        if ours is not None and rival is not None:
            gain, sd = mean_and_sd(_gains(by_racer, ours, rival), digits)
            row |= {"best rival": rival.label, f"gain of {ours.label}": gain, "sd of gain": sd}
        rows.append(row)
    return rows


def verdicts(scores: Scores, targets: Mapping[str, float], digits: int, unit: str) -> list[str]:
    """A line for each budget: the mean gain of the best network with batch norm, beside the target.

    Args:
        scores: all fits.
        targets: least gain wanted, by budget.
        digits: decimals.
        unit: words behind a number, such as " dB".
    """
    lines = []
    for budget, target in targets.items():
        heats = [heat for heat in scores if heat.budget == budget]
        ours = _best_ours(scores, budget)
        rivals = {heat: _best_rival(scores[heat]) for heat in heats}
        if ours is None or not heats:
            continue
        by_thing = [_gains(scores[h], ours, rival) for h, rival in rivals.items() if rival is not None]
        over_seeds = [sum(gains) / len(gains) for gains in zip(*by_thing, strict=True)]
        gain, sd = mean_and_sd(over_seeds, digits)
        least = min(sum(gains) / len(gains) for gains in by_thing)
        spread = "" if sd is None else f", standard deviation {sd:.{digits}f} over seeds"
        # Without a number as the target, a gain counts only beyond what seeds change.
        is_met = gain >= target if target > 0 else gain > (sd or 0.0)
        wanted = f"at least {target:+g}{unit}" if target > 0 else "above 0 by more than the deviation"
        lines.append(
            f"{budget}: {ours.label} over the best rival of each, mean of {len(by_thing)}: "
            f"{gain:+.{digits}f}{unit}{spread}, least {least:+.{digits}f}{unit}; target {wanted} "
            f"({'met' if is_met else 'missed'})."
        )
    return lines


def _mean(fits: Sequence[Fitted]) -> float | None:
    values = [fit.score for fit in fits if fit.score is not None]
    return sum(values) / len(values) if values and len(values) == len(fits) else None


def _best_rival(by_racer: Mapping[Racer, Sequence[Fitted]]) -> Racer | None:
    """The network without batch norm that has the best mean over seeds."""
    means = {racer: _mean(fits) for racer, fits in by_racer.items() if not racer.is_ours}
    found = {racer: mean for racer, mean in means.items() if mean is not None}
    return max(found, key=lambda racer: found[racer], default=None)


def _best_ours(scores: Scores, budget: str) -> Racer | None:
    """The one network with batch norm that has the best mean over all things that are fitted."""
    heats = [by_racer for heat, by_racer in scores.items() if heat.budget == budget]
    racers = [racer for racer in heats[0] if racer.is_ours] if heats else []
    totals = {racer: [_mean(by_racer[racer]) for by_racer in heats] for racer in racers}
    found = {racer: [m for m in means if m is not None] for racer, means in totals.items()}
    whole = {racer: sum(means) for racer, means in found.items() if len(means) == len(heats)}
    return max(whole, key=lambda racer: whole[racer], default=None)


def _gains(by_racer: Mapping[Racer, Sequence[Fitted]], ours: Racer, rival: Racer) -> list[float]:
    """Gains seed by seed; both have no fit that diverged."""
    pairs = zip(by_racer[ours], by_racer[rival], strict=True)
    return [a.score - b.score for a, b in pairs if a.score is not None and b.score is not None]


def race(
    kept: KeptFits,
    racers: Sequence[Racer],
    heats: Sequence[Heat],
    seeds: Sequence[int],
    trials: Mapping[str, Heat],
    factors: Sequence[float],
    minutes: Callable[[Racer, Heat], float],
    write: Callable[[Scores, Sequence[int], Mapping[tuple[str, Racer], float]], None],
) -> None:
    """Fit everything that has not been fitted, seed by seed, with a table after each seed.

    Args:
        kept: the fits.
        racers: the networks.
        heats: what they fit, and how long.
        seeds: seeds of weights and points.
        trials: by budget, what is fitted to choose learning rates: nothing that the table reports.
        factors: factors of the learning rates that are tried there.
        minutes: estimates a fit, and lets whatever is loaded first be loaded.
        write: writes the table, from the fits, the seeds so far, and the factors by budget and network.
    """
    tried = trials.values() if len(factors) > 1 else ()
    todo = [(r, h) for h, r, f in itertools.product(tried, racers, factors) if not kept.has(r, h, 0, f)]
    todo += [
        (racer, heat)
        for seed, heat, racer in itertools.product(seeds, heats, racers)
        if not any(kept.has(racer, heat, seed, factor) for factor in factors)
    ]
    estimates = {job: minutes(*job) for job in dict.fromkeys(todo)}
    total = sum(estimates[job] for job in todo)
    print(f"{len(todo)} fits, about {total:.0f} minutes, evaluations apart", flush=True)
    best = {
        (budget, racer): kept.best_factor(racer, heat, factors)
        for (budget, heat), racer in itertools.product(trials.items(), racers)
    }
    scores: Scores = {heat: {racer: [] for racer in racers} for heat in heats}
    for number, seed in enumerate(seeds, start=1):
        for heat, racer in itertools.product(heats, racers):
            scores[heat][racer].append(kept.get(racer, heat, seed, best[heat.budget, racer]))
        write(scores, seeds[:number], best)
