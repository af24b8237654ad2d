"""The commands of `bn-ntk`: each has the options of one study, and the place for its results."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from bn_field_plugin.progress import track
from standalone.ntk import checkpoint, spectra
from standalone.ntk.studies import dynamics, figure, frequency, scaling
from standalone.ntk.studies.claims import ClaimsConfig, make_claims

OUTPUTS = Path("outputs/ntk")

T = TypeVar("T")
Unnamed = Annotated[T, tyro.conf.arg(name="")]
"""Options whose names have no prefix."""


@dataclass
class Spectrum:
    """The spectrum of one network, coupled through batch statistics and frozen, side by side.

    Example: bn-ntk spectrum --network pemlp-5+batch --side 32
    """

    config: Unnamed[spectra.SpectrumConfig] = field(default_factory=spectra.SpectrumConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "spectrum"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = spectra.run(self.config, track)
        spectra.write(self.config, found, self.output_dir, _command())


@dataclass
class Figure:
    """Figure 1 of Cai et al.: six spectra, MLP and PEMLP-1, -5, without and with batch norm.

    Example: bn-ntk figure --output-dir outputs/ntk/figure
    """

    config: Unnamed[figure.FigureConfig] = field(default_factory=figure.FigureConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "figure"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = figure.run(self.config, track)
        figure.write(self.config, found, self.output_dir, _command())


@dataclass
class Scaling:
    """Mean, variance and maximum of the spectrum against width and samples, with fitted exponents.

    Example: bn-ntk scaling --norms none batch
    """

    config: Unnamed[scaling.ScalingConfig] = field(default_factory=scaling.ScalingConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "scaling"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = scaling.run(self.config, track)
        scaling.write(self.config, found, self.output_dir, _command())


@dataclass
class Dynamics:
    """Gradient descent against exp(-eta lambda t), and the spectrum while training.

    Example: bn-ntk dynamics --networks mlp mlp+batch
    """

    config: Unnamed[dynamics.DynamicsConfig] = field(default_factory=dynamics.DynamicsConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "dynamics"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = dynamics.run(self.config, track)
        dynamics.write(self.config, found, self.output_dir, _command())


@dataclass
class Frequency:
    """Which frequencies of a target are learned when, with and without norm.

    Example: bn-ntk frequency --networks mlp mlp+batch --steps 2000
    """

    config: Unnamed[frequency.FrequencyConfig] = field(default_factory=frequency.FrequencyConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "frequency"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = frequency.run(self.config, track)
        frequency.write(self.config, found, self.output_dir, _command())


@dataclass
class Checkpoint:
    """The spectrum of a trained nerfstudio field, at samples of its training rays.

    Example: bn-ntk checkpoint --load-config outputs/.../config.yml
    """

    config: Unnamed[checkpoint.CheckpointConfig]
    """What to compute."""
    output_dir: Path = OUTPUTS / "checkpoint"
    """Folder for the results."""

    def main(self) -> None:
        """Compute and write."""
        found = checkpoint.run(self.config, track)
        checkpoint.write(self.config, found, self.output_dir, _command())


@dataclass
class Claims:
    """Every claim of Cai et al. about kernels and frequencies, with its verdict, as one document.

    Example: bn-ntk claims --document docs/claims.md
    """

    config: Unnamed[ClaimsConfig] = field(default_factory=ClaimsConfig)
    """What to compute."""

    def main(self) -> None:
        """Compute and write."""
        make_claims(self.config, _command(), track)


def _command() -> str:
    """The command line, for the tables that it makes."""
    return shlex.join(["bn-ntk", *sys.argv[1:]])
