"""The commands of `bn-ntk`: each has the options of one study, and the place for its results."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, TypeVar

import tyro

from bn_field_plugin.progress import track
from standalone.ntk import checkpoint, spectra
from standalone.ntk.studies import dynamics, figure, frequency, scaling
from standalone.ntk.studies.claims import ClaimsConfig, make_claims

OUTPUTS = Path("outputs/ntk")

T = TypeVar("T")
Unnamed = Annotated[T, tyro.conf.arg(name="")]
"""Options whose names have no prefix."""


class Study:
    """A command that runs one study and writes what it found."""

    study: ClassVar[ModuleType]
    """Module of the study, with its `run` and `write`."""
    options: Any
    output_dir: Path

    def main(self) -> None:
        """Compute and write."""
        found = self.study.run(self.options, track)
        self.study.write(self.options, found, self.output_dir, _command())


@dataclass
class Spectrum(Study):
    """The spectrum of one network, coupled through batch statistics and frozen, side by side.

    Example: bn-ntk spectrum --network pemlp-5+batch --side 32
    """

    study: ClassVar[ModuleType] = spectra
    options: Unnamed[spectra.SpectrumConfig] = field(default_factory=spectra.SpectrumConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "spectrum"
    """Folder for the results."""


@dataclass
class Figure(Study):
    """Figure 1 of Cai et al.: six spectra, MLP and PEMLP-1, -5, without and with batch norm.

    Example: bn-ntk figure --output-dir outputs/ntk/figure
    """

    study: ClassVar[ModuleType] = figure
    options: Unnamed[figure.FigureConfig] = field(default_factory=figure.FigureConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "figure"
    """Folder for the results."""


@dataclass
class Scaling(Study):
    """Mean, variance and maximum of the spectrum against width and samples, with fitted exponents.

    Example: bn-ntk scaling --norms none batch
    """

    study: ClassVar[ModuleType] = scaling
    options: Unnamed[scaling.ScalingConfig] = field(default_factory=scaling.ScalingConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "scaling"
    """Folder for the results."""


@dataclass
class Dynamics(Study):
    """Gradient descent against exp(-eta lambda t), and the spectrum while training.

    Example: bn-ntk dynamics --networks mlp mlp+batch
    """

    study: ClassVar[ModuleType] = dynamics
    options: Unnamed[dynamics.DynamicsConfig] = field(default_factory=dynamics.DynamicsConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "dynamics"
    """Folder for the results."""


@dataclass
class Frequency(Study):
    """Which frequencies of a target are learned when, with and without norm.

    Example: bn-ntk frequency --networks mlp mlp+batch --steps 2000
    """

    study: ClassVar[ModuleType] = frequency
    options: Unnamed[frequency.FrequencyConfig] = field(default_factory=frequency.FrequencyConfig)
    """What to compute."""
    output_dir: Path = OUTPUTS / "frequency"
    """Folder for the results."""


@dataclass
class Checkpoint(Study):
    """The spectrum of a trained nerfstudio field, at samples of its training rays.

    Example: bn-ntk checkpoint --load-config outputs/.../config.yml
    """

    study: ClassVar[ModuleType] = checkpoint
    options: Unnamed[checkpoint.CheckpointConfig]
    """What to compute."""
    output_dir: Path = OUTPUTS / "checkpoint"
    """Folder for the results."""


@dataclass
class Claims:
    """Every claim of Cai et al. about kernels and frequencies, with its verdict, as one document.

    Example: bn-ntk claims --document docs/claims.md
    """

    options: Unnamed[ClaimsConfig] = field(default_factory=ClaimsConfig)
    """What to compute."""

    def main(self) -> None:
        """Compute and write."""
        make_claims(self.options, _command(), track)


def _command() -> str:
    """The command line, for the tables that it makes."""
    return shlex.join(["bn-ntk", *sys.argv[1:]])
