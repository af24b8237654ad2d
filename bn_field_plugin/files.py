"""The one writer of files: each is whole or not there, at any moment, also after a crash."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"
"""Part of the name of a file that is being written, just before its suffix."""


def write_whole(path: Path, content: str | bytes | memoryview, partial_folder: Path | None = None) -> None:
    """Write a file completely or not at all: what stood there before stays until the new content is whole.

    Args:
        path: the file; its folder is made if absent.
        content: text (written as UTF-8) or bytes.
        partial_folder: where the temporary file lies, on the same disk; beside `path` by default.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path, partial_folder) as partial, partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, partial_folder: Path | None = None) -> Iterator[Path]:
    """A temporary path with the same suffix, for libraries that write files by name.

    When the body ends, the temporary file is flushed to the disk and takes the place of `path`, whose folder
    is made if absent; if `path` is a link, the file that it points to is replaced. When the body raises, the
    temporary file is removed. Temporary files of `path` that killed processes left are removed as well.

    Args:
        path: the file.
        partial_folder: where the temporary file lies, on the same disk; beside `path` by default.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent if partial_folder is None else partial_folder
    remove_partial_files(folder, glob.escape(path.name))
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=PARTIAL + path.suffix, dir=folder)
    partial = Path(name)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)  # tells `remove_partial_files` that this process still writes
        yield partial
        partial.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        _to_disk(partial)
        if os.name == "nt":  # Windows cannot move an open file
            os.close(handle)
            handle = -1
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError):
            # The error of a failed write names no file, and other errors name the temporary one.
            error.filename = str(path)
        with suppress(OSError):
            partial.unlink()
        raise
    finally:
        if handle >= 0:
            os.close(handle)
    with suppress(OSError):  # some systems cannot sync a folder
        _to_disk(path.parent)


def remove_partial_files(folder: Path, pattern: str) -> list[Path]:
    """Remove the temporary files that killed processes left; those of running processes stay.

    Args:
        folder: where the temporary files lie.
        pattern: names of the files that were to be written, with a shell's wildcards: `step-*.ckpt`.

    Returns:
        The files that were removed.
    """
    wanted, removed = Path(pattern), []
    for partial in folder.glob(f".{wanted.stem}.*{PARTIAL}{wanted.suffix}"):
        with suppress(OSError):
            if not _is_being_written(partial):
                partial.unlink()
                removed.append(partial)
    return removed


def _is_being_written(partial: Path) -> bool:
    if fcntl is None:
        return True  # without locks nothing tells whether its writer still runs
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _to_disk(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk, so that it survives a power cut."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
