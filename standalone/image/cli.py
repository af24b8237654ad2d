"""`bn-image`: fit, compare, encode, decode and render images."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from bn_field_plugin.nn import UserError, exit_on_user_error
from bn_field_plugin.nn.memory import keep_freed_memory
from standalone.image.commands import Compare, Decode, Encode, Fit, Render
from standalone.image.outputs import CONFIG
from standalone.image.presets import POSITIONAL, Options, as_arguments, load_preset
from standalone.interrupts import exit_on_interrupt

Command = Fit | Compare | Encode | Decode | Render
"""A command with its options."""

COMMANDS: dict[str, type[Command]] = {
    "fit": Fit,
    "compare": Compare,
    "encode": Encode,
    "decode": Decode,
    "render": Render,
}
"""Commands by name."""

WITH_PRESETS = ("fit", "compare", "encode")
"""Commands that take --config."""

MARKERS = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.PositionalMetavarFromFieldName,
)
"""Options of nested groups have no prefix; positional ones are called by their names."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `bn-image`.

    Args:
        args: the command line; that of the process by default.
    """
    with exit_on_user_error(), exit_on_interrupt():
        command = parse(sys.argv[1:] if args is None else args)
        keep_freed_memory()
        try:
            command.main()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{error.filename or 'a file'} cannot be written or read: {reason}") from error


def parse(args: Sequence[str]) -> Command:
    """The command that a command line asks for; presets stand behind the options that are given.

    Raises:
        UserError: a preset that cannot be used.
        SystemExit: after a message, for other mistakes and for --help.
    """
    name = args[0] if args else ""
    choices: list[Any] = []
    for other, kind in COMMANDS.items():
        preset = _preset(name, args[1:]) if other == name and name in WITH_PRESETS else None
        named: Any = (
            tyro.conf.subcommand(other) if preset is None else tyro.conf.subcommand(other, default=preset)
        )
        choices.append(Annotated[kind, named])
    union: Any = Union[tuple(choices)]  # noqa: UP007  # made at run time
    return tyro.cli(union, args=args, prog="bn-image", description=__doc__, config=MARKERS)


def _preset(name: str, args: Sequence[str]) -> Command | None:
    """The command as --config or --resume has it, or None without either."""
    config, resume = _value(args, "--config"), _value(args, "--resume") if name == "fit" else None
    if config is not None and resume is not None:
        raise UserError("--resume goes on with the options of the folder: give no --config beside it")
    if resume is not None:
        path = Path(resume) / CONFIG
        if not path.is_file():
            raise UserError(f"--resume {resume}: there is no {CONFIG}; give the folder of a fit")
        return _command(name, path)
    return None if config is None else _command(name, Path(config))


def _command(name: str, path: Path) -> Command:
    """A command whose options are those of a file."""
    options = load_preset(path, option_names(COMMANDS[name]))
    command = _quietly(name, options)
    if command is not None:
        return command
    for option, value in options.items():
        if _quietly(name, {option: value}) is None:
            raise UserError(f"the config {path}: {option} cannot be {value!r}; see bn-image {name} --help")
    raise UserError(f"the config {path}: its options do not go together; see bn-image {name} --help")


def _quietly(name: str, options: Options) -> Command | None:
    """The command with the options, None where they are wrong."""
    silence = io.StringIO()
    with contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
        try:
            return tyro.cli(COMMANDS[name], args=as_arguments(options), config=MARKERS)
        except SystemExit:
            return None


def option_names(kind: type) -> list[str]:
    """Names of a command's options as a preset spells them, those of nested groups too."""
    names: list[str] = []
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            names += option_names(field.type)
        elif field.name not in ("config", "resume"):
            names.append(field.name.replace("_", "-"))
    return sorted(names, key=lambda name: name != POSITIONAL)


def _value(args: Sequence[str], flag: str) -> str | None:
    """What follows a flag on a command line."""
    for index, argument in enumerate(args):
        if argument == flag and index + 1 < len(args):
            return args[index + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


if __name__ == "__main__":
    main()
