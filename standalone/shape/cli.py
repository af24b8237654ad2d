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
"""All commands."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-shape`.

    Args:
        args: the command line; that of the process by default.
    """
    COMMAND_LINE.run(args)
