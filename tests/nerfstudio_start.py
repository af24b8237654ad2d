"""Loads nerfstudio's methods in half the time.

nerfstudio makes a configuration for each method of others that can be installed. Each looks up who makes it,
with `inspect.stack`, which finds out the module of every caller. For those inside Python's own import system
it searches all modules that are loaded: eight seconds where pytest has loaded thousands. nerfstudio reads
only the names of the callers' functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import FrameType, SimpleNamespace
from typing import NamedTuple


class Caller(NamedTuple):
    """One of the functions that are running, as `inspect.stack` describes it, in part."""

    function: str
    """Its name."""


def stack() -> list[Caller]:
    """The functions that are running, the innermost first, as `inspect.stack` lists them."""
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found.append(Caller(frame.f_code.co_name))
        frame = frame.f_back
    return found


def shorten() -> None:
    """Let nerfstudio, where it is installed and not loaded yet, look only at the names of the callers."""
    if importlib.util.find_spec("nerfstudio") is not None:
        methods = importlib.import_module("nerfstudio.configs.external_methods")
        vars(methods)["inspect"] = SimpleNamespace(stack=stack)
