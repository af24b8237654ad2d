"""A user's module by the name that is typed: `PACKAGE.MODULE:NAME` or `FILE.py:NAME`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bn_field_plugin.errors import UserError
from bn_field_plugin.ntk.module_copy import first_line

USAGE = "give PACKAGE.MODULE:NAME or FILE.py:NAME of a torch module, or of what returns one without arguments"


def imported_module(reference: str) -> nn.Module:
    """Import a torch module; the current folder is searched first, as `python -m` does.

    Args:
        reference: where it is: a ready module, a class or a function that returns one.

    Raises:
        UserError: it is not there, or cannot be made; the message says why.
    """
    name, _, attribute = reference.rpartition(":")
    if not name or not attribute:
        raise UserError(f"--module {reference}: {USAGE}")
    source = _source(reference, name)
    try:
        found = operator.attrgetter(attribute)(source)
    except AttributeError as error:
        raise UserError(f"--module {reference}: {name} has no {attribute}; {USAGE}") from error
    made = found
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(f"--module {reference} is of type {type(found).__name__}: {USAGE}")
        _check_takes_nothing(reference, found)
        try:
            made = found()
        except Exception as error:  # a user's function may raise anything
            raise UserError(f"--module {reference} cannot be made ({first_line(error)}): mend it") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"--module {reference} returns {type(made).__name__}: it must return a torch module")
    return made


def _source(reference: str, name: str) -> ModuleType:
    """The Python module that a name or a file's path stands for."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        folder = str(path.parent.resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)  # the file may import what lies beside it
        source = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = source
        spec.loader.exec_module(source)
        return source
    except ModuleNotFoundError as error:
        if error.name and name.split(".")[0] == error.name:
            raise UserError(
                f"--module {reference}: there is no {name} in {here} or among the installed packages; {USAGE}"
            ) from error
        raise UserError(f"--module {reference} needs {error.name}, which is not installed") from error
    except SystemExit as error:
        raise UserError(f"--module {reference}: {name} ends the process when it is imported") from error
    except Exception as error:  # a user's file may raise anything
        raise UserError(f"--module {reference} cannot be imported ({first_line(error)}): mend it") from error


def _check_takes_nothing(reference: str, found: Any) -> None:
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise UserError(f"--module {reference} wants arguments ({error}): {USAGE}") from error
    except ValueError:  # functions written in C may have no signature to check
        return
