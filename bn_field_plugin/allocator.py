"""Keeping freed memory in the process, so that a training step need not ask the kernel for it again."""

from __future__ import annotations

import ctypes
import platform

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4

_TOP_PAD_BYTES = 64 * 2**20
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next allocation instead of returning it to the kernel.

    By default glibc maps each large tensor afresh and unmaps it when freed, and the kernel clears every page
    of it at first touch: on a CPU that costs a training step up to half its time. Afterwards freed memory
    stays with the process: its resident size stays at its peak (plus what fragmentation adds, and up to
    64 MiB of padding) until it ends, where it would shrink after each step otherwise. Meant for commands
    that train, not for libraries: it acts on the whole process. A second call changes nothing.

    Returns:
        Whether it took effect: True with glibc on Linux, else False and nothing happens. Where another
        allocator has been preloaded, glibc accepts the setting but is not asked for memory.
    """
    libc = _glibc()
    if libc is None:
        return False
    # Old versions of glibc refuse a threshold above 32 MiB; there, forbidding mapped blocks has this effect.
    never_maps = libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT) or libc.mallopt(_M_MMAP_MAX, 0)
    never_trims = libc.mallopt(_M_TRIM_THRESHOLD, -1)
    grows_in_steps = libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
    return bool(never_maps and never_trims and grows_in_steps)


def release_freed_memory() -> bool:
    """Return to the kernel what `keep_freed_memory` has kept so far, for instance after training.

    Returns:
        Whether any was returned; False without glibc on Linux.
    """
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


def _glibc() -> ctypes.CDLL | None:
    """The process's C library where it is glibc on Linux, else None."""
    if platform.system() != "Linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
