"""`bn-ntk`: spectra of coordinate networks, and the claims about them."""

# No `from __future__ import annotations`: tyro reads the evaluated types of the options.
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from bn_field_plugin.ntk.progress import track
from standalone.command_line import user_errors_of_files
from standalone.interrupts import exit_on_interrupt
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
        spectra.write(self.config, spectra.run(self.config), self.output_dir, _command())


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
        figure.write(self.config, figure.run(self.config, track), self.output_dir, _command())


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
        scaling.write(self.config, scaling.run(self.config, track), self.output_dir, _command())


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
        dynamics.write(self.config, dynamics.run(self.config, track), self.output_dir, _command())


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
        frequency.write(self.config, frequency.run(self.config, track), self.output_dir, _command())


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
        checkpoint.write(self.config, checkpoint.run(self.config, track), self.output_dir, _command())


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


COMMANDS: dict[str, Callable[..., Any]] = {
    "spectrum": Spectrum,
    "figure": Figure,
    "scaling": Scaling,
    "dynamics": Dynamics,
    "frequency": Frequency,
    "checkpoint": Checkpoint,
    "claims": Claims,
}
"""The subcommands."""


def main(args: list[str] | None = None) -> None:
    """Entry point of `bn-ntk`.

    Args:
        args: the command line's arguments; those of the process by default.
    """
    with exit_on_user_error(), exit_on_interrupt():
        keep_freed_memory()
        command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="bn-ntk", args=args)
        with user_errors_of_files():
            command.main()


def _command() -> str:
    """The command line, for the tables that it makes."""
    return shlex.join(["bn-ntk", *sys.argv[1:]])
