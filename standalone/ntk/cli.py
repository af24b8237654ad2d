"""`bn-ntk`: spectra of coordinate networks, and the claims about them."""

from __future__ import annotations

from collections.abc import Sequence

from standalone.command_line import CommandLine, Commands

COMMAND_LINE = CommandLine(
    prog="bn-ntk",
    description=__doc__,
    commands=Commands(
        "standalone.ntk.commands",
        {
            "spectrum": "Spectrum",
            "figure": "Figure",
            "scaling": "Scaling",
            "dynamics": "Dynamics",
            "frequency": "Frequency",
            "checkpoint": "Checkpoint",
            "claims": "Claims",
        },
    ),
    markers=(),  # `claims` has groups with options of the same names, which the groups' names tell apart
)
"""The program with all its commands."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-ntk`.

    Args:
        args: words of the command line; by default those of the process.
    """
    COMMAND_LINE.run(args)
