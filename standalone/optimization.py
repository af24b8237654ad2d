"""How coordinate networks are optimised: optimizers, learning rates for each norm, and the schedule."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig, HashGridEncodingConfig
from bn_field_plugin.nn.activations import ACTIVATIONS
from bn_field_plugin.nn.muon import hidden_matrices
from bn_field_plugin.nn.schedule import cosine_decay, warmup
from standalone.optimizers import FusedAdam, Lean, LeanMuon

OptimizerName = Literal["muon", "adam"]


class LearningRates(NamedTuple):
    """Peak learning rates of a network."""

    hidden: float
    """Rate of the matrices between hidden layers."""
    rest: float
    """Rate of all other parameters."""


LEARNING_RATES: dict[OptimizerName, dict[str, LearningRates]] = {
    "muon": {
        "norm": LearningRates(4e-2, 2e-2),
        "none": LearningRates(5e-2, 1e-2),
        "siren": LearningRates(2.5e-3, 2.5e-3),
        "siren and norm": LearningRates(2.5e-3, 2.5e-3),
        "finer": LearningRates(2.5e-3, 2.5e-3),
        "finer and norm": LearningRates(2.5e-3, 2.5e-3),
        "wire": LearningRates(1e-2, 1e-2),
        "wire-real": LearningRates(1e-2, 1e-2),
        "wire-real and norm": LearningRates(2e-2, 2e-2),
        "gauss": LearningRates(1e-2, 1e-2),
        "gauss and norm": LearningRates(2e-2, 2e-2),
        "hash": LearningRates(3e-2, 8e-2),
        "hash and norm": LearningRates(3e-2, 3e-2),
    },
    "adam": {
        "norm": LearningRates(2e-2, 2e-2),
        "none": LearningRates(1e-2, 1e-2),
        "siren": LearningRates(2e-3, 2e-3),
        "siren and norm": LearningRates(1e-2, 1e-2),
        "finer": LearningRates(3e-3, 3e-3),
        "finer and norm": LearningRates(1e-2, 1e-2),
        "wire": LearningRates(1e-2, 1e-2),
        "wire-real": LearningRates(1e-2, 1e-2),
        "wire-real and norm": LearningRates(2e-2, 2e-2),
        "gauss": LearningRates(2e-2, 2e-2),
        "gauss and norm": LearningRates(2e-2, 2e-2),
        "hash": LearningRates(3e-2, 8e-2),
        "hash and norm": LearningRates(3e-2, 3e-2),
    },
}
"""Learning rates by optimizer and kind of network. Those of the kinds norm and none, and of siren with Adam,
are from `benchmarks.image_learning_rates`. Muon's rates of siren and finer, for 1,000 steps of 5 layers, are
from fits of scikit-image's astronaut, one seed (`bn-image fit --max-side 256 --steps 1000 --batch-size 16384`
with `--lr` and `--hidden-lr`). SIREN with and without norm was 0.3 to 0.4 dB better at 4e-3 there, but such
rates lie near an edge: `bn-image encode kodim15.png --network siren --bpp 0.3 --steps 2000` (8 x 54 units)
ended as noise at 3.5e-3. After 300 steps 3e-3 to 4.5e-3 was best, after 100 (of the rocket) 4e-3 to 6e-3;
networks of three layers and a few thousand numbers want 1e-2 and more for some hundred steps, as
`benchmarks.bn_network_search` has them. On the astronaut, the rocket, the coins and immunohistochemistry,
SIREN with norm came to 35.1, 42.6, 38.8 and 32.7 dB at these rates, to 35.4, 43.4, 40.1 and 33.1 at 1.4 times
the rates, and on the last two to 33.0 and 32.2 at 1.7 times; SIREN to 34.8, 42.0, 38.5 and 32.6, to 35.1,
42.8, 39.6 and 33.0, and to 35.1, 31.7, 27.2 and 27.2; FINER lost 14 dB on the rocket at 1.4 times, and with
norm 3 on the coins (`python -m benchmarks.image_rivals --budget steps --pictures astronaut rocket coins
immunohistochemistry --seeds 0 --write-here --factors` with one number). FINER and Gauss had 300 steps of
8,192 pixels, Gauss three layers.

The other rates are from short searches with Muon on pictures that no table reports: scikit-image's left
motorcycle at 64x64, 3 x 64 units (WIRE 3 x 45), 200 full-batch steps, one rate for all numbers out of 1e-3,
3e-3, 1e-2, 2e-2, 4e-2 (SIREN with norm: 5e-4, 2e-3, 5e-3, 1.2e-2, 3e-2), one seed; hash grids on its rocket
at 256x256, 100 steps of 8,192 pixels, factors of 2 and 3. With Adam, two rates around Muon's were tried in
the same way; not tried were FINER above 3e-3, real WIRE and hash grids.
WIRE came to 19.7 dB at 5e-3 and 22.1 dB at 1e-2 in 600 steps, and in 200 to 17.0 at 1e-2, 17.3 at 2e-2 and
11.8 at 4e-2 (`bn-image fit --network wire --norm none --width 45 --depth 3 --max-side 256 --batch-size
16384` with `--steps`, `--lr` and `--hidden-lr`, one seed).
"""


SINES = ("sine", "finer")
"""Activations whose best rates fall with the number of steps: what all steps together add to the phases
counts."""

RATES_AT, DEPTH_AT, WIDTH_AT = 1000, 5, 64
"""Steps, hidden layers and units of each at which the rates of sines hold (see `LEARNING_RATES`)."""

FALL, FEWEST = 0.4, 20
"""Power with which they fall with the steps, and the number of steps below which they rise no more."""

MUON_TO_THE_END = SINES
"""Activations for which Muon also trains the output matrix. At the rate that suits the biases of sines,
Adam's steps are too long for that matrix, and Muon's are a fifth as long. It gains 0.6 dB on pictures after
200 steps, with and without norm."""

ADAM_ALONE = ("hash", "wire")
"""Kinds of networks that Adam trains alone. The matrices behind a hash grid are few. Complex WIRE learned
less with Muon, at the four pairs of rates that were tried."""

BETAS, EPS = (0.9, 0.99), 1e-15
"""Betas and eps of Adam."""

WARMUP_SHARE = 0.1
"""Largest share of the budget over which the learning rates rise."""


@dataclass(frozen=True)
class OptimizationConfig:
    """Optimizers of a fit and their schedule: a linear warmup, then a cosine decay over the budget."""

    optimizer: OptimizerName = "muon"
    """Optimizer of the matrices between hidden layers; all other parameters take Adam, and WIRE and networks
    on hash grids take Adam alone."""
    lr: float | None = None
    """Peak learning rate of Adam; by default the network's own."""
    hidden_lr: float | None = None
    """Peak learning rate of the matrices between hidden layers; by default what suits the norm."""
    warmup_steps: int = 50
    """Steps over which the learning rates rise, at most a tenth of the budget."""
    final_fraction: float = 0.01
    """Share of the peak learning rates that is left at the end."""

    def check(self) -> None:
        """Check the ranges of the numbers, which a command line does not check.

        Raises:
            UserError: a number is out of its range.
        """
        for name in ("lr", "hidden_lr"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise UserError(f"--{name.replace('_', '-')} is {rate}: it must be above 0")
        if self.warmup_steps < 0:
            raise UserError(f"--warmup-steps is {self.warmup_steps}: it must be at least 0")
        if not 0 <= self.final_fraction <= 1:
            raise UserError(f"--final-fraction is {self.final_fraction}: it must lie in [0, 1]")

    def learning_rates(self, network: CoordinateMLPConfig, steps: float = RATES_AT) -> LearningRates:
        """Peak learning rates for a network: the given ones, or those of `LEARNING_RATES`.

        Args:
            network: the network.
            steps: of the whole fit, perhaps estimated.
        """
        kind = _kind(network)
        default = LEARNING_RATES[self.optimizer][kind]
        has_sines = network.activation in SINES and kind != "hash"
        share = 1.0
        if has_sines:
            share = (RATES_AT / max(steps, FEWEST)) ** FALL * _share_of_larger(network)
        return LearningRates(
            share * default.hidden if self.hidden_lr is None else self.hidden_lr,
            share * default.rest if self.lr is None else self.lr,
        )

    def factor(self, step: int, progress: float, steps: int | None = None) -> float:
        """Factor of the peak learning rates.

        Args:
            step: steps taken so far.
            progress: share of the budget that is spent, in [0, 1].
            steps: the budget in steps; None if the budget is a time.
        """
        rise = warmup(step, self.warmup_steps if steps is None else min(self.warmup_steps, steps // 10))
        if steps is None:
            rise = min(1.0, max(rise, progress / WARMUP_SHARE))
        return rise * cosine_decay(progress, self.final_fraction)


def _share_of_larger(network: CoordinateMLPConfig) -> float:
    """Share of the rates of sines that suits networks that are deeper, or larger, than those they are for.

    Muon changes all entries of a matrix alike at any width, while SIREN draws them the smaller, the wider the
    layer is, and each further layer adds to the phases. SIREN + BN of 5 x 128 units came to 32.7 dB at 0.7
    times the rates, and to 25.5 dB at the rates themselves (8,192 pixels a step); 4 x 128 units with 16,384
    pixels came to 32.3, 32.1 and 32.0 dB at 0.5, 0.7 and 1 times (the astronaut at 512x512, 53 s of steps on
    two cores of an AMD EPYC, one seed: `bn-image fit --time-limit 60 --width 128` with `--depth`,
    `--batch-size`, `--lr` and `--hidden-lr`).
    """
    units = DEPTH_AT * WIDTH_AT / (network.depth * network.width)
    return math.sqrt(min(1.0, DEPTH_AT / network.depth, units))


def _kind(network: CoordinateMLPConfig) -> str:
    """Kind of a network in `LEARNING_RATES`: its name, or whether it has a norm, or both of them."""
    name = ACTIVATIONS[network.activation].network
    if isinstance(network.encoding, HashGridEncodingConfig):
        name = "hash"
    if name not in LEARNING_RATES["adam"]:
        return "none" if network.norm == "none" else "norm"
    normed = f"{name} and norm"
    return normed if network.norm != "none" and normed in LEARNING_RATES["adam"] else name


class ScheduledOptimizers:
    """The optimizers of a network, stepped and scheduled together.

    Args:
        network: the network whose parameters are optimised.
        config: optimizers and schedule.

    Raises:
        UserError: a number out of its range.
    """

    def __init__(self, network: CoordinateMLP, config: OptimizationConfig) -> None:
        config.check()
        self.config = config
        self._network = network.config
        rates = config.learning_rates(network.config)
        hidden = hidden_matrices(network, with_output=network.config.activation in MUON_TO_THE_END)
        taken = {id(p) for p in hidden}
        rest: list[Tensor] = [p for p in network.parameters() if id(p) not in taken]
        self.optimizers: list[torch.optim.Optimizer | Lean] = [_adam(rest, rates.rest)]
        if hidden:
            kind = _kind(network.config).removesuffix(" and norm")
            takes_muon = config.optimizer == "muon" and kind not in ADAM_ALONE
            self.optimizers.append((LeanMuon if takes_muon else _adam)(hidden, rates.hidden))

    def step(self, factor: float, steps: float = RATES_AT) -> None:
        """Step every optimizer at `factor` times its peak learning rate, and clear the gradients.

        Args:
            factor: share of the peak, from the schedule.
            steps: of the whole fit, perhaps estimated.
        """
        rates = self.config.learning_rates(self._network, steps)
        for optimizer, peak in zip(self.optimizers, (rates.rest, rates.hidden), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """States of the optimizers in order, for a checkpoint."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take the states of a checkpoint.

        Raises:
            ValueError: they belong to other optimizers.
        """
        if len(states) != len(self.optimizers):
            raise ValueError(f"{len(states)} optimizers in the checkpoint, {len(self.optimizers)} here")
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _adam(parameters: list[Tensor], lr: float) -> torch.optim.Adam | FusedAdam:
    # The fused kernel passes over each parameter once instead of ten times, which takes a quarter of the time
    # for the tables of a hash grid. It has never run on a GPU here, and takes no complex parameters.
    if all(p.device.type == "cpu" and p.is_floating_point() for p in parameters):
        return FusedAdam(parameters, lr, BETAS, EPS)
    return torch.optim.Adam(parameters, lr=lr, betas=BETAS, eps=EPS)


def count_parameters(network: nn.Module) -> int:
    """Number of parameters that a network learns."""
    return sum(p.numel() for p in network.parameters())
