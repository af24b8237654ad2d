"""Writers that are killed by SIGKILL at random moments: what stood before, or the new state, must load."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks import RESULTS
from benchmarks.faults.writers import Writer, writers
from bn_field_plugin.files import PARTIAL
from bn_field_plugin.progress import track
from standalone.checkpoints import load_checkpoint
from standalone.image import fit
from standalone.image.cli import COMMAND_LINE
from standalone.image.codec.bitstream import unpack
from standalone.image.images import Picture, read_picture, write_picture
from standalone.report import Cell, machine_facts, write_table

FORK = multiprocessing.get_context("fork")
"""Forked processes need no time for imports."""

FITS_SHARE = 4
"""Number of kills of a writer for each kill of a whole fit, which takes longer."""


@dataclass
class Kills:
    """Outcomes of killing one writer."""

    name: str
    old: int = 0
    """Kills within a write that left the state before it."""
    new: int = 0
    """Kills within a write that left the state of this write."""
    between: int = 0
    """Kills between two writes."""
    half_files: int = 0
    """Temporary files that kills left behind."""
    broken: list[str] = field(default_factory=list)
    """Descriptions of the states that were broken."""

    def row(self) -> dict[str, Cell]:
        """As a row of the table."""
        return {
            "writer": self.name,
            "killed": self.old + self.new + self.between + len(self.broken),
            "within a write: old state": self.old,
            "within a write: new state": self.new,
            "between writes": self.between,
            "half files beside it, cleared": self.half_files,
            "broken": len(self.broken),
        }


def kill_writer(writer: Writer, kills: int, seed: int, folder: Path) -> Kills:
    """Kill a process that does nothing but write, again and again, and look at what each kill left.

    Args:
        writer: what it writes.
        kills: how often.
        seed: of the moments.
        folder: an empty one.
    """
    random, found = Random(f"{seed} {writer.name}"), Kills(writer.name)
    writer.write(folder, 1)
    start = time.perf_counter()
    writer.write(folder, 2)
    duration = time.perf_counter() - start
    state = 2
    for _ in range(kills):
        begun, done = FORK.RawValue("q", state), FORK.RawValue("q", state)
        process = FORK.Process(target=_write_on, args=(writer, folder, begun, done))
        process.start()
        while begun.value == state and process.is_alive():
            time.sleep(1e-3)
        time.sleep(random.uniform(0, 3 * duration))
        end(process)
        found.half_files += len(half_files(folder))
        try:
            if process.exitcode != -signal.SIGKILL:
                raise ValueError("the writer failed")
            state = writer.read(folder)
            if state not in (begun.value, done.value):
                raise ValueError(f"version {state} instead of {done.value} or {begun.value}")
        except Exception as error:  # whatever a reader says of a broken file
            found.broken.append(f"{writer.name}: {error}")
            state = begun.value + 1
            writer.write(folder, state)
            continue
        if begun.value == done.value:
            found.between += 1
        elif state == done.value:
            found.old += 1
        else:
            found.new += 1
    writer.write(folder, state + 1)
    left = half_files(folder)
    if left:
        found.broken.append(f"{writer.name}: {len(left)} half files stay")
    return found


def kill_fits(kills: int, seed: int, folder: Path) -> Kills:
    """Kill whole `bn-image fit` commands, which save after each step, and go on from what is left.

    Each fit that ends must have the result of a fit that was never killed.
    """
    random, found = Random(f"{seed} fits"), Kills("bn-image fit, resumed to the same result")
    y, x = np.mgrid[0:24, 0:32]
    picture = Picture(np.stack([8 * x, 10 * y, 4 * (x + y)], axis=-1).astype(np.uint8), "png")
    write_picture(folder / "picture.png", picture)
    start = time.perf_counter()
    _finish(_started(folder, "whole", resume=False))
    duration = time.perf_counter() - start
    wanted, number = _content(folder / "whole"), 0
    while found.old + found.new + len(found.broken) < kills:
        name = f"killed-{number}"
        output = folder / name
        resume = (output / "checkpoint.pt").exists()
        process = _started(folder, name, resume)
        process.join(random.uniform(0, duration))
        killed = process.is_alive()
        end(process)
        found.half_files += len(half_files(output))
        try:
            if not killed and process.exitcode != 0:
                raise ValueError(f"exit code {process.exitcode}")
            saved = _look_at(output)
            if not killed and _content(output) != wanted:
                raise ValueError("another result than that of the unbroken fit")
        except Exception as error:  # whatever a reader says of a broken file
            found.broken.append(f"{name}: {error}")
            number += 1
            continue
        if killed:
            found.new += saved
            found.old += not saved
        else:
            number += 1
    return found


def end(process: BaseProcess) -> None:
    """Kill a process without warning, and wait for its end."""
    process.kill()
    process.join()


def half_files(folder: Path) -> list[Path]:
    """Temporary files in a folder and those below."""
    return list(folder.rglob(f"*{PARTIAL}*"))


def _write_on(writer: Writer, folder: Path, begun: Any, done: Any) -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # ends if the campaign itself is stopped
        begun.value += 1
        writer.write(folder, begun.value)
        done.value = begun.value


def _started(folder: Path, name: str, resume: bool) -> BaseProcess:
    process = FORK.Process(target=_fit, args=(folder, name, resume))
    process.start()
    return process


def _finish(process: BaseProcess) -> None:
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the unbroken fit ended with {process.exitcode}")


def _fit(folder: Path, name: str, resume: bool) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    fit.CheckpointOptions = functools.partial(fit.CheckpointOptions, every_seconds=0.0)  # type: ignore[misc,assignment]
    place = ["--resume"] if resume else ["--output-dir"]
    size = ["--width", "8", "--depth", "2", "--steps", "12", "--eval-every", "4"]
    COMMAND_LINE.run(["fit", str(folder / "picture.png"), *place, str(folder / name), *size])


def _look_at(folder: Path) -> bool:
    """Load all files of a fit, and return whether there is a checkpoint."""
    for path in folder.glob("reconstruction.*"):
        read_picture(path)
    if (folder / "image.bni").exists():
        unpack((folder / "image.bni").read_bytes())
    if (folder / "checkpoint.pt").exists():
        load_checkpoint(folder / "checkpoint.pt")
        return True
    return False


def _content(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "image.bni").read_bytes(), (folder / "reconstruction.png").read_bytes()


def run_kills(kills: int, seed: int, folder: Path, command: str) -> int:
    """Kill all writers, and write benchmarks/results/faults_kills.

    Args:
        kills: number of kills of each writer.
        seed: of the moments.
        folder: folder for the writers' files.
        command: the command line behind the table.

    Returns:
        How many kills left something broken.
    """
    found: list[Kills] = []
    for number, writer in enumerate(track(writers(), "kills of each writer")):
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        found.append(kill_writer(writer, kills, seed, place))
        print(found[-1])
    found.append(kill_fits(max(1, kills // FITS_SHARE), seed, folder / "fits"))
    broken = [line for one in found for line in one.broken]
    notes = [
        "Each process is ended by SIGKILL after a random time of up to three writes (of a whole fit: of up "
        "to its length), and what it left is read by the package's own readers.",
        "Of a fit, old and new mean without and with a checkpoint to go on from; each goes on until it has "
        "come to the bytes of an unbroken one.",
        *broken,
    ]
    facts: dict[str, Cell] = {**machine_facts(), "seed": seed}
    rows = [one.row() for one in found]
    write_table(
        "faults_kills", "Writers killed at random moments", command, rows, facts, notes, folder=RESULTS
    )
    return len(broken)
