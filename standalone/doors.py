"""The doors of the commands: each loads its program when it is called, and names the extra it is without.

The core installs with torch alone, and every extra brings what some commands need (pyproject.toml). A command
whose packages are absent ends with one line that says how to install them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import NamedTuple

from bn_field_plugin.errors import UserError, exit_on_user_error


class Door(NamedTuple):
    """Where a command's program is, and what it needs."""

    module: str
    """The module with its `main`."""
    extra: str
    """The extra of this package that brings what it imports."""


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
"""Packages that a command needs for some of its work only, with the extra that brings them."""


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
                raise  # a module is missing inside a package that is there: an error to look into
            raise UserError(missing(command, package)) from error


def missing(command: str, package: str) -> str:
    """What to tell about a package that a command cannot import.

    Args:
        command: its name, one of `DOORS`.
        package: the package's name in an import.
    """
    extra = BROUGHT_BY_ANOTHER.get(command, {}).get(package, DOORS[command].extra)
    return f"{command} needs {package}, which is not installed: pip install 'bn-field-plugin[{extra}]'"


def export() -> None:
    """`bn-export`."""
    enter("bn-export")


def image() -> None:
    """`bn-image`."""
    enter("bn-image")


def ntk() -> None:
    """`bn-ntk`."""
    enter("bn-ntk")


def shape() -> None:
    """`bn-shape`."""
    enter("bn-shape")


def sweep() -> None:
    """`bn-sweep`."""
    enter("bn-sweep")


def view() -> None:
    """`bn-view`."""
    enter("bn-view")
