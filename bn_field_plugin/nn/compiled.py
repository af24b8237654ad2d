"""Modules of kernels that numba compiles: loaded when first needed; without numba, commands go on."""

from __future__ import annotations

import functools
import importlib
import threading
from types import ModuleType

from bn_field_plugin.errors import tell

WORTH_A_LINE = 0.7
"""Seconds of compiling after which a line says so."""


@functools.cache
def load_compiled(module: str, *kind: int) -> ModuleType | None:
    """A module of compiled kernels, ready to run; None, after one line on stderr, where numba does not work.

    The module's `warm_up(*kind)` calls each kernel once: numba compiles it there, or reads what it has
    compiled before from disk. A line on stderr says so where that takes longer.

    Args:
        module: its full name.
        kind: numbers that the kernels are compiled for, such as that of dimensions.
    """
    name = module.rpartition(".")[2]
    slow = threading.Timer(WORTH_A_LINE, tell, [f"compiling {name} for this processor (once) ..."])
    slow.daemon = True
    slow.start()
    try:
        kernels = importlib.import_module(module)
        kernels.warm_up(*kind)
    except Exception as error:  # if numba does not fit numpy or the processor, it may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tell(
            f"numba cannot be used here, slower code takes the place of {name}: {reason} (pip install numba)"
        )
        return None
    finally:
        slow.cancel()
    return kernels
