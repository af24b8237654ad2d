"""Folders of results that hold those of one run: no files of another beside the numbers of this one."""

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
except ImportError:  # Windows: two commands that begin at once may choose one folder
    fcntl = None  # type: ignore[assignment]

RECORD = "input.json"
"""File that says what a folder's results are of."""


@dataclass(frozen=True)
class Source:
    """What results are of."""

    name: str
    """Its name, which the folder gets."""
    path: str | None
    """Where it lay; None for what is built in."""
    checksum: str
    """SHA-256 of the file, or the name of what is built in."""

    @staticmethod
    def of(path: Path | None, built_in: str) -> Source:
        """The input of a command.

        Args:
            path: the file; None for what is built in.
            built_in: name of that.

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

    Before a run, its folder is cleared of what an earlier one of the same command and input has left. Those
    of another input stay: a default folder gets a number then, one that was asked for is refused.
    """

    command: str
    """As `bn-image fit`."""
    files: Sequence[str]
    """Patterns of all files that the command may write, relative to the folder."""
    kept: Sequence[str] = ()
    """Those that a resumed run goes on from."""

    def begin(self, folder: Path, source: Source, *, chosen: bool, resume: bool = False) -> Path:
        """Take a folder for a run, and clear it.

        Args:
            folder: where the results belong.
            source: what they are of.
            chosen: whether the user named the folder.
            resume: go on with what an earlier run has left there.

        Returns:
            The folder; where it is not `chosen` and holds results of another input, one with a number.

        Raises:
            UserError: a chosen folder holds other results, or the input has changed since.
            OSError: the folder cannot be written to.
        """
        with _one_at_a_time(folder.parent):
            found = self._chosen(folder, source, resume) if chosen else self._numbered(folder, source)
            record = {"command": self.command, "input": source.path or source.name, "sha256": source.checksum}
            write_whole(found / RECORD, json.dumps(record, indent=2) + "\n")
            self._clear(found, resume)  # last: where nothing can be written, nothing is lost
        return found

    def _numbered(self, folder: Path, source: Source) -> Path:
        """The folder with results of this input, else the first one that is free."""
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
        """The folder, if no other results are in it."""
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
        """Command and checksum of the results in a folder; None without results, empty words for unknown."""
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
    """What a folder says that it is of; empty where it says nothing."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time choose among the folders in another one."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
