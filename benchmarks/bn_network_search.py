"""The best network with batch norm on pictures, and its rivals, by successive halving at equal parameters.

First each network with each of its learning rates on one picture, for few steps; then the best few, each at
its best rate, on all pictures with each seed. The search uses none of the pictures by which the networks are
judged afterwards: kodim15, kodim23, coffee, camera and chelsea. Fits that have finished are kept: a stopped
command goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import tyro

from benchmarks import RESULTS
from benchmarks.image_pictures import load
from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import UserError, exit_on_user_error
from bn_field_plugin.files import write_whole
from standalone.image.fit import ImageRunOptions, fit_image
from standalone.image.images import Picture
from standalone.interrupts import exit_on_interrupt
from standalone.matching import matched
from standalone.networks import NormLayers, Placement, Variant
from standalone.optimization import LearningRates, OptimizationConfig, count_parameters
from standalone.options import NetworkOptions
from standalone.provenance import command_behind
from standalone.report import Cell, machine_facts, write_table
from standalone.sweep.table import mean_and_sd


@dataclass(frozen=True)
class Candidate:
    """A network, and the learning rates that are tried."""

    variant: str
    """NETWORK or NETWORK+NORM."""
    rates: tuple[float, ...]
    """Peak learning rates of the matrices between hidden layers."""
    ratio: float = 1.0
    """Learning rate of all other numbers, as a share of that of the matrices."""
    placement: Placement | None = None
    """Norm before or after the activation; None takes the network's own place."""
    norm_layers: NormLayers = "all"
    """Which hidden layers have the norm."""
    depth: int | None = None
    """Hidden layers; None takes `depth` of the search."""

    @property
    def label(self) -> str:
        """Name in the tables."""
        where = f", {self.placement}" if self.placement else ""
        which = ", first and last" if self.norm_layers == "ends" else ""
        layers = f", {self.depth} layers" if self.depth else ""
        return Variant.parse(self.variant).label + where + which + layers


CANDIDATES = (
    Candidate("siren", (6e-3, 1e-2, 1.5e-2, 2.5e-2)),
    Candidate("siren+batch", (6e-3, 1e-2, 1.5e-2, 2.5e-2), placement="after", norm_layers="ends"),
    Candidate("siren+batch", (1e-2,), placement="after"),
    Candidate("siren+batch", (1e-2,), placement="before"),
    Candidate("finer", (5e-3, 8e-3, 1.2e-2)),
    Candidate("finer+batch", (8e-3, 1.2e-2), placement="after", norm_layers="ends"),
    Candidate("pemlp-5+batch", (4e-2,), 0.5, "before"),
)
"""The networks of the search: rivals without norm, and networks with batch norm."""


@dataclass(frozen=True)
class BNNetworkSearch:
    """Search networks on held-out pictures."""

    images: tuple[str, ...] = ("astronaut", "rocket", "immunohistochemistry")
    """Pictures of scikit-image by name, or paths; the first one is that of the first round."""
    side: int = 96
    """Pixels of a side: the centre square is shrunk to it."""
    width: int = 32
    """Units of SIREN's hidden layers; all others get the width of as many parameters within 5%."""
    depth: int = 4
    """Hidden layers."""
    first_steps: int = 150
    """Steps of the first round."""
    final_steps: int = 150
    """Steps of the second round."""
    finalists: int = 3
    """Networks of the second round."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the weights in the second round."""
    output_dir: Path = Path("outputs/bn_network_search")
    """Folder of the finished fits."""


@dataclass(frozen=True)
class Fitted:
    """What one fit gave."""

    psnr: float | None
    """PSNR in dB of the final network with exact statistics; None where the fit diverged."""
    cpu_seconds: float
    """CPU time of the fit, with one evaluation."""
    parameters: int
    """Number of learned parameters."""
    width: int
    """Units of each hidden layer."""


class Search:
    """The fits of a search, kept in a file.

    Args:
        config: the search.
    """

    def __init__(self, config: BNNetworkSearch) -> None:
        self.config = config
        self._path = config.output_dir / "fits.json"
        self._fits: dict[str, Fitted] = {}
        if self._path.is_file():
            saved = json.loads(self._path.read_text(encoding="utf-8"))
            self._fits = {identity: Fitted(**fields) for identity, fields in saved.items()}

    def fit(self, candidate: Candidate, rate: float, image: str, steps: int, seed: int) -> Fitted:
        """Fit a picture, or recall what an earlier fit of the same kind gave."""
        config = self.config
        who = dataclasses.asdict(dataclasses.replace(candidate, rates=(rate,)))
        where = (image, config.side, config.width, config.depth, steps, seed)
        identity = json.dumps([who, where])
        if identity not in self._fits:
            self._fits[identity] = found = self._fit_afresh(candidate, rate, image, steps, seed)
            print(f"{candidate.label}, {rate:g}, {image}, {steps} steps: {found}", flush=True)
            kept = {key: dataclasses.asdict(one) for key, one in self._fits.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(kept, indent=1) + "\n")
        return self._fits[identity]

    def _fit_afresh(self, candidate: Candidate, rate: float, image: str, steps: int, seed: int) -> Fitted:
        picture = _picture(image, self.config.side)
        network = self._network(candidate, picture.channels)
        run = ImageRunOptions(steps=steps, eval_every=steps, seed=seed, device="cpu", batch_size="full")
        rates = OptimizationConfig(hidden_lr=rate, lr=rate * candidate.ratio)
        parameters = count_parameters(network.build(2, picture.channels, seed))
        begun = time.process_time()
        psnr = None
        try:
            psnr = fit_image(picture, network, run, rates, show_progress=False).psnr
        except UserError as error:
            if not str(error).startswith("the loss is"):
                raise
        return Fitted(psnr, time.process_time() - begun, parameters, network.size.width)

    def _network(self, candidate: Candidate, channels: int) -> NetworkOptions:
        """A candidate's network, as wide as gives it the number of SIREN's parameters."""
        config, variant = self.config, Variant.parse(candidate.variant)
        like = NetworkOptions("siren", "none", config.width, config.depth)
        options = NetworkOptions(
            variant.network,
            variant.norm,
            None,
            candidate.depth or config.depth,
            candidate.placement,
            candidate.norm_layers,
        )
        return matched(options, count_parameters(like.build(2, channels, 0)), 2, channels)


def main(config: BNNetworkSearch) -> None:
    """Run both rounds, and write benchmarks/results/bn_network_search and bn_network_search_final."""
    keep_freed_memory()
    torch.set_num_threads(1)
    search = Search(config)
    command = command_behind("python -m benchmarks.bn_network_search", config, ("output_dir",))
    facts: dict[str, Cell] = {
        **machine_facts(),
        "pictures": f"{', '.join(config.images)} at {config.side}x{config.side}",
        "optimizer": "muon and adam",
        "pixels of a step": "all",
    }
    best = _first_round(search, command, facts)
    _second_round(search, best[: config.finalists], command, facts)


def _first_round(
    search: Search, command: str, facts: dict[str, Cell]
) -> list[tuple[Candidate, LearningRates]]:
    """Candidates at their best rates, the best candidate first."""
    config = search.config
    rows: list[dict[str, Cell]] = []
    scores: list[tuple[float, Candidate, LearningRates]] = []
    for candidate in CANDIDATES:
        fits = {
            rate: search.fit(candidate, rate, config.images[0], config.first_steps, 0)
            for rate in candidate.rates
        }
        found = {rate: fit.psnr for rate, fit in fits.items() if fit.psnr is not None}
        if not found:
            continue
        rate = max(found, key=lambda one: found[one])
        fit = fits[rate]
        scores.append((found[rate], candidate, LearningRates(rate, rate * candidate.ratio)))
        rows.append(
            {
                "network": candidate.label,
                "layers x width": f"{candidate.depth or config.depth}x{fit.width}",
                "parameters": fit.parameters,
                "best rates": f"{rate:g}, {rate * candidate.ratio:g}",
                "PSNR dB": round(found[rate], 2),
                "by rate": ", ".join(f"{one:g}: {value:.2f}" for one, value in found.items()),
                "CPU ms a step": round(1000 * fit.cpu_seconds / config.first_steps, 1),
            }
        )
    rows.sort(key=lambda row: -float(row["PSNR dB"] or 0))
    notes = [
        f"First round: {config.images[0]}, {config.first_steps} steps, seed 0. PSNR of the final network.",
        "Rates are those of the matrices between hidden layers, and of all else. before, after: where the "
        "norm stands from the activation.",
    ]
    write_table("bn_network_search", "Networks on pictures", command, rows, facts, notes, folder=RESULTS)
    return [one[1:] for one in sorted(scores, key=lambda one: -one[0])]


def _second_round(
    search: Search,
    finalists: Sequence[tuple[Candidate, LearningRates]],
    command: str,
    facts: dict[str, Cell],
) -> None:
    config = search.config
    found: dict[str, list[float]] = {}
    rows: list[dict[str, Cell]] = []
    for candidate, rates in finalists:
        fits = [
            search.fit(candidate, rates.hidden, image, config.final_steps, seed)
            for image in config.images
            for seed in config.seeds
        ]
        psnr = [fit.psnr for fit in fits if fit.psnr is not None]
        if len(psnr) < len(fits):
            continue
        found[candidate.label] = psnr
        rows.append(
            {
                "network": candidate.label,
                "rates": f"{rates.hidden:g}, {rates.rest:g}",
                "PSNR dB": mean_and_sd(psnr, 2)[0],
                **{
                    image: mean_and_sd(psnr[index * len(config.seeds) :][: len(config.seeds)], 2)[0]
                    for index, image in enumerate(config.images)
                },
                "parameters": fits[0].parameters,
                "CPU ms a step": round(
                    1000 * sum(fit.cpu_seconds for fit in fits) / len(fits) / config.final_steps, 1
                ),
            }
        )
    rows.sort(key=lambda row: -float(row["PSNR dB"] or 0))
    notes = [f"Second round: {config.final_steps} steps, means over pictures and seeds."]
    notes += _margin(found)
    facts |= {"seeds": ", ".join(map(str, config.seeds))}
    write_table(
        "bn_network_search_final",
        "The best networks on pictures",
        command,
        rows,
        facts,
        notes,
        folder=RESULTS,
    )


def _margin(found: dict[str, list[float]]) -> list[str]:
    """The gain of the best network with batch norm over the best without, over pictures and seeds."""

    def best(with_norm: bool) -> str | None:
        names = [label for label in found if ("+" in label) == with_norm]
        return max(names, key=lambda name: sum(found[name]), default=None)

    ours, rival = best(True), best(False)
    if ours is None or rival is None:
        return []
    gain, sd = mean_and_sd([a - b for a, b in zip(found[ours], found[rival], strict=True)], 2)
    spread = "" if sd is None else f", standard deviation {sd:.2f} over pictures and seeds"
    return [f"{ours} over {rival}: {gain:+.2f} dB{spread}."]


@cache
def _picture(name: str, side: int) -> Picture:
    return load(name, side)


if __name__ == "__main__":
    with exit_on_user_error(), exit_on_interrupt():
        main(tyro.cli(BNNetworkSearch, description=__doc__))
