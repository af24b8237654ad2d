"""`bn-ntk`: spectra of coordinate networks, and the claims about them."""

from __future__ import annotations

import sys
from typing import Any

import tyro

from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import exit_on_user_error
from standalone.command_line import Commands, user_errors_of_files
from standalone.interrupts import exit_on_interrupt

COMMANDS = Commands(
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
)
"""The subcommands, by the classes of their options."""


def main(args: list[str] | None = None) -> None:
    """Entry point of `bn-ntk`.

    Args:
        args: the command line's arguments; those of the process by default.
    """
    words = sys.argv[1:] if args is None else args
    chosen = words[0] if words else ""
    with exit_on_user_error(), exit_on_interrupt():
        keep_freed_memory()
        kinds: dict[str, Any] = {
            name: COMMANDS[name] if name == chosen else COMMANDS.stand_in(name) for name in COMMANDS
        }
        command = tyro.extras.subcommand_cli_from_dict(kinds, prog="bn-ntk", args=words)
        with user_errors_of_files():
            command.main()
