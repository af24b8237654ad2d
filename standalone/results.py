"""Folders of results that hold the files of one run only, never a mixture of two runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two commands that begin at once may choose the same folder
    fcntl = None  # type: ignore[assignment]

RECORD = "input.json"
"""Name of the file that records from which input a folder's results come."""


@dataclass(frozen=True)
class Source:
    """The input from which results come."""

    name: str
    """Name of the input, after which the folder is named."""
    path: str | None
    """Path of the input; None if it is built in."""
    checksum: str
    """SHA-256 of the file, or the name of a built-in input."""

    @staticmethod
    def of(path: Path | None, built_in: str) -> Source:
        """The input of a command.

        Args:
            path: the file; None for a built-in input.
            built_in: name of the built-in input.

        Raises:
            UserError: the file cannot be read.
        """
        if path is None:
            return Source(built_in, None, built_in)
        try:
            with path.open("rb") as file:
                digest = hashlib.sha256()
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
        return Source(path.stem, str(path.resolve()), digest.hexdigest())


@dataclass(frozen=True)
class Results:
    """The results of one command.

    Before a run, files that an earlier run of the same command and input left in the folder are removed.
    Results of another input stay: if they are in the default folder, a folder with a number is taken instead;
    if they are in a folder that the user named, it is refused.
    """

    command: str
    """Name of the command, such as `bn-image fit`."""
    files: Sequence[str]
    """Patterns of all files that the command may write, relative to the folder."""
    kept: Sequence[str] = ()
    """Patterns of the files with which a resumed run goes on."""

    def begin(self, folder: Path, source: Source, *, chosen: bool, resume: bool = False) -> Path:
        """Choose a folder for a run, record its input, and remove files of earlier runs.

        Args:
            folder: folder for the results.
            source: input of the run.
            chosen: whether the user named the folder.
            resume: whether to go on with the files that an earlier run has left in the folder.

        Returns:
            The folder, or one with a number if it is not `chosen` and holds results of another input.

        Raises:
            UserError: a chosen folder holds results of another input, or the input of a resumed run has
                changed.
            OSError: the folder cannot be written to.
        """
        with _one_at_a_time(folder.parent):
            found = self._chosen(folder, source, resume) if chosen else self._numbered(folder, source)
            record = {"command": self.command, "input": source.path or source.name, "sha256": source.checksum}
            write_whole(found / RECORD, json.dumps(record, indent=2) + "\n")
            self._clear(found, resume)  # last, so that nothing is lost if the record cannot be written
        return found

    def _numbered(self, folder: Path, source: Source) -> Path:
        """Of the numbered folders: the one with results of this input, else the first without results."""
        free, number = None, 1
        while True:
            candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            owner = self._owner(candidate)
            if owner == (self.command, source.checksum):
                return candidate
            if owner is None:
                free = free or candidate
                if not candidate.exists():
                    return free
            number += 1

    def _chosen(self, folder: Path, source: Source, resume: bool) -> Path:
        """The folder that the user named; it is refused if it holds results of another input."""
        record, owner = _record(folder), self._owner(folder)
        if owner is None or owner == (self.command, source.checksum) or (resume and not record):
            return folder
        if not record:
            raise UserError(f"{folder} holds results of an unknown input: give another folder, or delete it")
        if resume and owner[0] == self.command:
            raise UserError(
                f"--resume {folder}: {source.path or source.name} is not what was fitted there, or has "
                "changed since: give the same file, or fit into another folder"
            )
        raise UserError(
            f"{folder} holds results of {owner[0]} {record.get('input')}: give another folder, or delete it"
        )

    def _owner(self, folder: Path) -> tuple[str, str] | None:
        """Command and checksum of the results in a folder; None without results, empty words if unknown."""
        record = _record(folder)
        if record:
            return str(record.get("command")), str(record.get("sha256"))
        return ("", "") if any(self._files(folder)) else None

    def _files(self, folder: Path) -> Iterator[Path]:
        for pattern in self.files:
            yield from (path for path in folder.glob(pattern) if path.is_file() or path.is_symlink())

    def _clear(self, folder: Path, resume: bool) -> None:
        kept = {path for pattern in self.kept for path in folder.glob(pattern)} if resume else set()
        for path in list(self._files(folder)):
            if path not in kept:
                path.unlink()


def _record(folder: Path) -> dict[str, object]:
    """The record of a folder's input; an empty dict if there is none that can be read."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lock a folder, so that only one process at a time chooses among the folders in it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
