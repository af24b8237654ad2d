"""The one exception for mistakes that a user can mend, and how commands report it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType

EXIT_CODE = 2
"""Exit status of a command that stops because of a user's mistake."""


class UserError(ValueError):
    """A mistake that the user can mend.

    The message is one line: it names the file or the option, and what to do.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a `UserError` into one line on standard error and exit code 2, without a traceback.

    Raises:
        SystemExit: with status `EXIT_CODE`, when the body raised a `UserError`.
    """
    try:
        yield
    except UserError as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_CODE) from None


def tell_uncaught_user_errors() -> None:
    """Let a `UserError` that nobody catches end the process as `exit_on_user_error` does.

    For processes of commands that are not ours, such as ns-train. Errors of all other kinds go to the hook
    for uncaught errors that was set before.
    """
    before = sys.excepthook
    if getattr(before, "tells_user_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, UserError):
            before(kind, error, traceback)
            return
        with exit_on_user_error():  # an exit inside the hook gives its status to the process
            raise error

    hook.tells_user_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def tell(line: str) -> None:
    """Print one line on standard error, without breaking it to the width of the console."""
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def not_installed(user: str, package: str, extra: str) -> str:
    """The message for a package that is absent, with its remedy.

    Args:
        user: the command, or the module, that needs the package.
        package: name of the package in an import.
        extra: the extra of this package that brings it.
    """
    return f"{user} needs {package}, which is not installed: pip install 'bn-field-plugin[{extra}]'"


def require(user: str, packages: Iterable[str], extra: str) -> None:
    """Make sure, without loading them, that packages are there which a module needs later.

    Args:
        user: the module.
        packages: names of the packages in an import.
        extra: the extra of this package that brings them.

    Raises:
        ModuleNotFoundError: one is absent; the message says what to install.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(not_installed(user, package, extra), name=package)
