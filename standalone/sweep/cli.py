"""`bn-sweep`: train and evaluate methods over scenes, options and seeds, on one machine or a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

from standalone.command_line import CommandLine, Commands

COMMAND_LINE = CommandLine(
    prog="bn-sweep",
    description=__doc__,
    commands=Commands(
        "standalone.sweep.commands",
        {"run": "Run", "table": "Table"},
    ),
    positional="folder",
)
"""All commands."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-sweep`.

    Args:
        args: the command line; that of the process by default.
    """
    COMMAND_LINE.run(args)
