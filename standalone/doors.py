"""Entry points of all commands, which load a program when it is called, or name the extra that it lacks.

The core of this package needs only torch. Each extra in pyproject.toml brings packages that some commands
need. A command whose packages are absent ends with one line that says how to install them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import NamedTuple

from bn_field_plugin.errors import UserError, exit_on_user_error, not_installed


class Door(NamedTuple):
    """The module of a command, and the extra that it needs."""

    module: str
    """Name of the module that has the command's `main`."""
    extra: str
    """The extra of this package that brings the packages which the module imports."""


DOORS = {
    "bn-export": Door("bn_field_plugin.export.cli", "nerf"),
    "bn-image": Door("standalone.image.cli", "image"),
    "bn-ntk": Door("standalone.ntk.cli", "ntk"),
    "bn-shape": Door("standalone.shape.cli", "shape"),
    "bn-sweep": Door("standalone.sweep.cli", "sweep"),
    "bn-view": Door("bn_field_plugin.viewer.cli", "nerf"),
}
"""All commands by name."""

BROUGHT_BY_ANOTHER = {"bn-ntk": {"nerfstudio": "nerf", "torchmetrics": "nerf"}}
"""By command, packages that it needs for a part of its work only, each with the extra that brings it."""


def enter(command: str) -> None:
    """Run a command on the process's command line.

    Args:
        command: its name, one of `DOORS`.

    Raises:
        SystemExit: after one line on standard error, where a package is not installed.
    """
    door = DOORS[command]
    with exit_on_user_error():
        try:
            importlib.import_module(door.module).main()
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if not package or importlib.util.find_spec(package) is not None:
                raise  # the package is installed but lacks a module, which is no mistake of the user
            raise UserError(missing(command, package)) from error


def missing(command: str, package: str) -> str:
    """The message for a package that a command cannot import.

    Args:
        command: name of the command, one of `DOORS`.
        package: name of the package in an import.
    """
    extra = BROUGHT_BY_ANOTHER.get(command, {}).get(package, DOORS[command].extra)
    return not_installed(command, package, extra)


def export() -> None:
    """Entry point of `bn-export`."""
    enter("bn-export")


def image() -> None:
    """Entry point of `bn-image`."""
    enter("bn-image")


def ntk() -> None:
    """Entry point of `bn-ntk`."""
    enter("bn-ntk")


def shape() -> None:
    """Entry point of `bn-shape`."""
    enter("bn-shape")


def sweep() -> None:
    """Entry point of `bn-sweep`."""
    enter("bn-sweep")


def view() -> None:
    """Entry point of `bn-view`."""
    enter("bn-view")
