"""Folders of files that are made once and kept in the user's cache; a folder there is never incomplete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

MANIFEST = "manifest.json"
"""Name of the list of a folder's files and their sizes. It is written last: a folder with it is whole."""
ABANDONED_AFTER = 3600.0
"""Seconds after which an unfinished folder of another process is cleared away."""


def default_cache_dir() -> Path:
    """$BN_FIELD_CACHE, else bn_field_plugin in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("BN_FIELD_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "bn_field_plugin"


def cache_key(content: Mapping[str, Any]) -> str:
    """A short name for what a folder holds: its configuration and version, as JSON can write them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def ensure_cached(
    name: str, make: Callable[[Path], None], cache_dir: Path | None = None, *, what: str = "files"
) -> Path:
    """A folder of the cache; it is made now if the cache does not hold it whole.

    The files are made in a temporary folder beside the final one, and one rename gives it its final name. So
    a killed run leaves nothing that could pass for a whole folder, and if two processes make the folder at
    once, that of the first to finish is kept.

    Args:
        name: the folder's name.
        make: fills an empty folder.
        cache_dir: where to keep it; `default_cache_dir()` if None.
        what: the content, in a word or two, for the message of an error.

    Raises:
        UserError: when the cache cannot be written.
    """
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir)
    target = cache / name
    if is_whole(target):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(cache, name)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".partial", dir=cache))
        try:
            partial.chmod(0o755)  # mkdtemp's folders are private, but others may share the cache
            make(partial)
            write_manifest(partial)
            _put_in_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write the {what} to {cache} ({error.strerror or error}):"
            " free space there or set BN_FIELD_CACHE to another folder"
        ) from error
    return target


def write_manifest(folder: Path) -> None:
    """List the files of a folder, which is whole from now on.

    Raises:
        OSError: when the list cannot be written.
    """
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.*"))}
    write_whole(folder / MANIFEST, json.dumps(sizes, indent=2))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds every file of its manifest in full size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _put_in_place(partial: Path, target: Path) -> None:
    """Rename a finished folder to its final name, replacing a damaged one but not a whole one.

    Raises:
        OSError: when neither this folder nor a whole one of another process ends up at the target.
    """
    for _ in range(10):
        try:
            partial.rename(target)
            return
        except OSError:
            if is_whole(target):
                return
            if not target.exists():
                raise
            # The target is damaged: move it aside in one step, so that its final name never shows a part of
            # it.
            damaged = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent))
            try:
                target.rename(damaged / "damaged")
            except FileNotFoundError:  # another process has moved it aside
                pass
            finally:
                shutil.rmtree(damaged, ignore_errors=True)
    raise OSError(f"{target} keeps being replaced")


def _clear_abandoned(cache: Path, name: str) -> None:
    """Remove unfinished folders, of any version of the content, whose process must have been killed."""
    for folder in cache.glob(f".{name.rpartition('-')[0]}-*.partial"):
        try:
            newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        except OSError:  # the process that made the folder has just renamed it, or another has removed it
            continue
        if time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
