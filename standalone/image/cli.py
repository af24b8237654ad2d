"""`bn-image`: fit, compare, encode, decode and render images."""

from __future__ import annotations

from collections.abc import Sequence

from standalone.command_line import CommandLine, Commands

COMMAND_LINE = CommandLine(
    prog="bn-image",
    description=__doc__,
    commands=Commands(
        "standalone.image.commands",
        {"fit": "Fit", "compare": "Compare", "encode": "Encode", "decode": "Decode", "render": "Render"},
    ),
    positional="image",
)
"""The program with all its commands."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-image`.

    Args:
        args: words of the command line; by default those of the process.
    """
    COMMAND_LINE.run(args)
