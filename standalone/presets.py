"""Options in YAML files: presets of experiments, and the file in which a fit records its own options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bn_field_plugin.errors import UserError

Scalar = str | int | float | bool | None
"""A value of an option."""

Options = dict[str, Scalar | list[Scalar]]
"""Options by name, spelt as on the command line but without the dashes in front."""

PACKAGED = Path(__file__).with_name("configs")
"""Presets that come with this package, in a folder for each program."""


def preset_path(name: str, program: str) -> Path:
    """The file that `--config NAME` stands for.

    Args:
        name: a file, or the bare name of one of the presets that come with this package.
        program: `image`, `shape` or `sweep`.

    Raises:
        UserError: `name` is neither a file nor a preset.
    """
    path = Path(name)
    if path.name != name or path.suffix or path.is_file():
        return path
    packaged = {file.stem: file for file in sorted((PACKAGED / program).glob("*.yaml"))}
    if name not in packaged:
        raise UserError(f"the config {name} is neither a file nor one of {', '.join(packaged)}")
    return packaged[name]


def load_preset(path: Path, known: Sequence[str]) -> Options:
    """Read a file of options.

    Args:
        path: a YAML mapping from options to values.
        known: names of the options of the command.

    Raises:
        UserError: the file is missing, holds no such mapping, or an option that the command does not have.
    """
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the config {path} cannot be read ({error.strerror}): give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the config {path} is no YAML ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"the config {path} must be a mapping from options to values")
    options: Options = {}
    for key, value in content.items():
        name = str(key).replace("_", "-")
        if name not in known:
            raise UserError(
                f"the config {path} has an option {key!r} that is unknown: use {', '.join(known)}"
            )
        values = value if isinstance(value, list) else [value]
        if not all(one is None or isinstance(one, str | int | float | bool) for one in values):
            raise UserError(f"the config {path}: {key} must be a value or a list of values")
        options[name] = value
    return options


def as_arguments(options: Mapping[str, Scalar | Sequence[Scalar]], positional: str) -> list[str]:
    """Words of a command line that sets the options; an option that is None is left at its default.

    Args:
        options: values by the option's name.
        positional: name of the option that has no name on the command line.
    """
    first, arguments = [], []
    for name, value in options.items():
        if name == positional:
            first = [] if value is None else [str(value)]
        elif isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            arguments += [f"--{name}", *map(str, value)]
        elif value is not None:
            arguments += [f"--{name}", str(value)]
    return first + arguments


def dump_preset(options: Mapping[str, Any]) -> str:
    """Options as a YAML file that `load_preset` reads; options at None are left out."""
    import yaml

    plain = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    return str(yaml.safe_dump(plain, sort_keys=False))
