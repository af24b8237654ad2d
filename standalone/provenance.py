"""The command line that reproduces a result, made from the options of the run."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterator
from typing import Any

PLACES = frozenset({"output_dir", "resume", "config", "view"})
"""Options that say where and how a command ran, without an effect on its numbers."""


def command_behind(words: str, options: Any, leave_out: Collection[str] = ()) -> str:
    """A command that gives the same numbers: its words, and each option that is not the default.

    Args:
        words: the command with its positional options, such as `bn-image compare astronaut`.
        options: the dataclass of the command's options.
        leave_out: further fields to leave out, such as the positional ones in `words`.
    """
    return " ".join([words, *(shlex.quote(word) for word in _given(options, PLACES | set(leave_out)))])


def _given(options: Any, leave_out: Collection[str], default: Any = None) -> Iterator[str]:
    """Words of a command line for the fields that differ from those of `default`, or of their class."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        usual = _default(field) if default is None else getattr(default, field.name)
        name = field.name.replace("_", "-")
        if field.name in leave_out or value == usual:
            continue
        if dataclasses.is_dataclass(value):
            yield from _given(value, leave_out, usual)
        elif isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name}"
            yield from map(str, value if isinstance(value, (tuple, list)) else (value,))


def _default(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default
