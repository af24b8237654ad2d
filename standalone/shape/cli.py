"""`bn-shape`: fit, compare, mesh and view shapes."""

from __future__ import annotations

from collections.abc import Sequence

from standalone.command_line import CommandLine, Commands

COMMAND_LINE = CommandLine(
    prog="bn-shape",
    description=__doc__,
    commands=Commands(
        "standalone.shape.commands",
        {"fit": "Fit", "compare": "Compare", "mesh": "Mesh", "view": "View"},
    ),
    positional="shape",
)
"""The program with all its commands."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-shape`.

    Args:
        args: words of the command line; by default those of the process.
    """
    COMMAND_LINE.run(args)
