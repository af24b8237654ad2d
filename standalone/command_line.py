"""Command lines of several commands, each a dataclass of options with a `main`, and presets behind them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import errno
import gc
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, Union, cast

import tyro

from bn_field_plugin.allocator import keep_freed_memory
from bn_field_plugin.errors import UserError, exit_on_user_error
from standalone.interrupts import exit_on_interrupt
from standalone.presets import Options, as_arguments, load_preset, preset_path
from standalone.time_limit import command_begins

CONFIG = "config.yaml"
"""Name of the file in a fit's folder that keeps its options, for --resume."""

MARKERS = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.PositionalMetavarFromFieldName,
)
"""Usual settings of tyro: options of nested groups have no prefix, and positional options are shown by their
names."""

NOT_IN_PRESETS = ("config", "resume")
"""Options that choose a preset, and so cannot be in one."""


class Command(Protocol):
    """A command with its options."""

    def main(self) -> None:
        """Do what the options say."""
        ...


class Commands(Mapping[str, type[Command]]):
    """Commands by name. Their module is loaded only when one of them is asked for.

    Otherwise a program's --help would load torch and more, only to show one sentence about each command. The
    --help of one command does load them: its options take their types and defaults from what they configure,
    such as the names of norms from the table of their classes, so that each is written in one place.

    Args:
        module: full name of the module that defines all of them.
        classes: name of each command's class in that module, by the command's name.
    """

    def __init__(self, module: str, classes: Mapping[str, str]) -> None:
        self.module, self.classes = module, classes

    def __getitem__(self, name: str) -> type[Command]:
        return cast(type[Command], getattr(importlib.import_module(self.module), self.classes[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def stand_in(self, name: str) -> type:
        """A class without options that has a command's docstring, read from the source without loading it."""
        found = importlib.util.find_spec(self.module)
        assert found is not None and found.origin is not None
        source = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
        (node,) = (n for n in source.body if isinstance(n, ast.ClassDef) and n.name == self.classes[name])
        return dataclasses.make_dataclass(node.name, [], namespace={"__doc__": ast.get_docstring(node)})


@dataclass(frozen=True)
class CommandLine:
    """A program of several commands.

    If a command has an option `config`, that is a YAML file of options; those on the command line override
    it. If its option `resume` is a folder, it takes the options that an earlier call left there (`CONFIG`).
    """

    prog: str
    """Name of the program."""
    description: str
    """Purpose of the program, for its --help."""
    commands: Commands
    """Commands by name."""
    positional: str = ""
    """Name, in presets, of the option that has no name on the command line."""
    markers: tuple[Any, ...] = MARKERS
    """Settings of tyro."""

    def run(self, args: Sequence[str] | None = None) -> None:
        """Entry point of the program. Mistakes of the user and Ctrl-C end it with one line.

        Args:
            args: words of the command line; by default those of the process.
        """
        is_process = args is None
        command_begins(with_process=is_process)
        with exit_on_user_error(), exit_on_interrupt():
            with modules_are_no_garbage() if is_process else contextlib.nullcontext():
                command = self.parse(sys.argv[1:] if args is None else args)
            keep_freed_memory()
            with user_errors_of_files():
                command.main()
            if is_process:
                gc.freeze()  # Python would look through all objects twice before the process ends

    def parse(self, args: Sequence[str]) -> Command:
        """The command that a command line asks for, with its options.

        Raises:
            UserError: a preset cannot be used.
            SystemExit: after a message, for other mistakes; also for --help.
        """
        name = args[0] if args else ""
        choices: list[Any] = []
        for other in self.commands:
            kind = self.commands[other] if other == name else self.commands.stand_in(other)
            preset = self._preset(name, args[1:]) if other == name else None
            default: dict[str, Any] = {} if preset is None else {"default": preset}
            choices.append(Annotated[kind, tyro.conf.subcommand(other, **default)])
        union: Any = Union[tuple(choices)]  # noqa: UP007  # made at run time
        chosen: Command = tyro.cli(
            union, args=args, prog=self.prog, description=self.description, config=self.markers
        )
        return chosen

    def option_names(self, kind: type) -> list[str]:
        """Names of a command's options as a preset spells them, those of nested groups too."""
        names: list[str] = []
        for field in dataclasses.fields(kind):
            if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
                names += self.option_names(field.type)
            elif field.name not in NOT_IN_PRESETS:
                names.append(field.name.replace("_", "-"))
        return sorted(names, key=lambda name: name != self.positional)

    def _preset(self, name: str, args: Sequence[str]) -> Command | None:
        """The command with the options that --config or --resume gives, or None without both."""
        fields = {field.name: field for field in dataclasses.fields(self.commands[name])}  # type: ignore[arg-type]
        config = _value(args, "--config") if "config" in fields else None
        resumes = "resume" in fields and fields["resume"].type is not bool
        resume = _value(args, "--resume") if resumes else None
        if config is not None and resume is not None:
            raise UserError("--resume goes on with the options of the folder: give no --config beside it")
        if resume is not None:
            path = Path(resume) / CONFIG
            if not path.is_file():
                raise UserError(f"--resume {resume}: there is no {CONFIG}; give the folder of a fit")
            return self._command(name, path)
        if config is None:
            return None
        return self._command(name, preset_path(config, self.prog.removeprefix("bn-")))

    def _command(self, name: str, path: Path) -> Command:
        """A command with the options of a preset file."""
        options = load_preset(path, self.option_names(self.commands[name]))
        command = self._quietly(name, options)
        if command is not None:
            return command
        for option, value in options.items():
            if self._quietly(name, {option: value}) is None:
                raise UserError(
                    f"the config {path}: {option} cannot be {value!r}; see {self.prog} {name} --help"
                )
        raise UserError(f"the config {path}: its options do not go together; see {self.prog} {name} --help")

    def _quietly(self, name: str, options: Options) -> Command | None:
        """The command with given options, or None if they are wrong; prints nothing."""
        arguments = as_arguments(options, self.positional)
        silence = io.StringIO()
        with contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
            try:
                command: Command = tyro.cli(self.commands[name], args=arguments, config=self.markers)
            except SystemExit:
                return None
        return command


@contextlib.contextmanager
def modules_are_no_garbage() -> Iterator[None]:
    """Let the garbage collector leave alone what is loaded here: nothing of a module ever becomes garbage.

    Python looks through the objects of torch's modules again and again while they are loaded, and twice at
    the end of the process, which slows a short command noticeably.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextlib.contextmanager
def user_errors_of_files() -> Iterator[None]:
    """Turn the system's errors about files, such as a full disk, into a `UserError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        remedy = ": free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise UserError(
            f"{error.filename or 'a file'} cannot be written or read ({reason}){remedy}"
        ) from error


def _value(args: Sequence[str], flag: str) -> str | None:
    """The value of a flag on a command line; None without the flag."""
    for index, argument in enumerate(args):
        if argument == flag and index + 1 < len(args):
            return args[index + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
