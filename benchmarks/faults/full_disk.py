"""Commands and writers on a full disk: one line, exit code 2, and what stood before stays readable."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import RESULTS
from benchmarks.faults.kills import FORK, half_files
from benchmarks.faults.writers import Writer, writers
from bn_field_plugin.errors import EXIT_CODE, UserError
from bn_field_plugin.geometry import write_mesh
from bn_field_plugin.progress import track
from standalone.image.cli import main as bn_image
from standalone.image.codec.bitstream import unpack
from standalone.image.images import Picture, read_picture, write_picture
from standalone.ntk.cli import main as bn_ntk
from standalone.report import Cell, machine_facts, write_table
from standalone.shape.cli import main as bn_shape
from standalone.shape.demo import knurled_torus
from standalone.shape.formats.reading import read_mesh_file
from standalone.sweep import engine, runs, sweep
from standalone.sweep.cli import main as bn_sweep
from standalone.sweep.nerfstudio_commands import Cost, TrainedRun

SIZE = 64 * 2**20
"""Bytes of the disk."""
SHARES = (0.0, 0.5)
"""Room that is left, as a share of what the command writes where there is enough."""
FULL = "No space left on device"
"""What the line must say."""
BALLAST = "ballast"
"""File that fills the disk."""


@dataclass(frozen=True)
class Command:
    """A command that is run on the disk, in a folder with `picture.png`, `shape.ply` and what others left."""

    main: Callable[[list[str]], None]
    """Its entry point."""
    args: Sequence[str]
    """Its options."""
    name: str
    """What it is called."""


SMALL = ("--width", "8", "--depth", "2", "--steps", "4", "--eval-every", "2")
FITTED = "outputs/shape/shape"
MEASURE = ("--resolution", "16", "--iou-points", "2000", "--iou-grid", "8", "--surface-points", "2000")
SMALL_SHAPE = (*SMALL, *MEASURE, "--points", "512")

COMMANDS = (
    Command(bn_image, ("fit", "picture.png", *SMALL), "bn-image fit"),
    Command(bn_image, ("compare", "picture.png", "--variants", "mlp", *SMALL), "bn-image compare"),
    Command(bn_image, ("encode", "picture.png", *SMALL, "--finetune-steps", "2"), "bn-image encode"),
    Command(bn_image, ("decode", "picture.bni", "decoded.png", "--overwrite"), "bn-image decode"),
    Command(
        bn_image, ("render", "picture.bni", "large.tif", "--scale", "3", "--overwrite"), "bn-image render"
    ),
    Command(bn_shape, ("fit", "shape.ply", *SMALL_SHAPE), "bn-shape fit"),
    Command(bn_shape, ("mesh", FITTED, "mesh.glb", "--resolution", "16", "--overwrite"), "bn-shape mesh"),
    Command(bn_ntk, ("spectrum", "--side", "6", "--network", "mlp+batch"), "bn-ntk spectrum"),
    Command(
        bn_sweep, ("run", "--scenes", "bn-demo-data", "--methods", "bn-nerf", "--steps", "1"), "bn-sweep run"
    ),
)
"""All of them; later ones read what earlier ones wrote. A sweep runs without Ray, which writes elsewhere, and
its training and evaluation take no time."""


@dataclass
class Outcome:
    """What a full disk made of one command or writer."""

    name: str
    room: str
    """What was left."""
    exit_code: int | str
    """Of the command; the error of a writer."""
    line: str
    """What it said."""
    faults: list[str]
    """What was wrong about it."""

    def row(self) -> dict[str, Cell]:
        """As a row of the table."""
        return {
            "writer": self.name,
            "room left": self.room,
            "exit code or error": self.exit_code,
            "said": self.line,
            "faults": "; ".join(self.faults) or "none",
        }


@contextmanager
def small_disk(size: int = SIZE) -> Iterator[Path]:
    """A disk in memory of so many bytes.

    Raises:
        UserError: this user may not mount one.
    """
    with tempfile.TemporaryDirectory() as name:
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", name]
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(
                f"no small disk can be mounted ({done.stderr.strip()}): run the part disk as root"
            )
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes free on a disk."""
    (disk / BALLAST).unlink(missing_ok=True)
    free = _free(disk) - room
    with (disk / BALLAST).open("wb") as file:
        while free > 0:
            free -= file.write(bytes(min(free, 2**20)))


def try_command(command: Command, disk: Path) -> list[Outcome]:
    """Run a command with room once, then with ever less than it needs.

    Args:
        command: the command.
        disk: a disk with what it reads.
    """
    (disk / BALLAST).unlink(missing_ok=True)
    before = _free(disk)
    code, said = run_apart(command, disk)
    if code != 0:
        return [Outcome(command.name, "enough", code, said[-1:][0] if said else "", ["it failed with room"])]
    needed = max(before - _free(disk), 4096)
    outcomes = []
    for share in SHARES:
        kept = _kept(disk)
        fill(disk, int(share * needed))
        code, said = run_apart(command, disk)
        faults = []
        succeeded = code == 0 and share > 0  # files replace older ones: half may suffice
        if code != EXIT_CODE and not succeeded:
            faults.append(f"exit code {code}")
        errors = [line for line in said if line.startswith("error:")]
        if len(errors) != 1 - succeeded or any("Traceback" in line for line in said):
            faults.append("not one line: " + " / ".join(said[-2:])[:200])
        if errors and FULL not in errors[0]:
            faults.append("it stopped for another reason")
        faults += [f"{path.relative_to(disk)} stays" for path in half_files(disk)]
        faults += _unreadable(disk)
        if share == 0:
            faults += [
                f"{path} is gone or changed" for path, content in kept.items() if _read(path) != content
            ]
        line = (errors or [""])[0].replace(str(disk), "DISK")
        outcomes.append(Outcome(command.name, f"{share:.0%}", code, line, faults))
    (disk / BALLAST).unlink()
    run_apart(command, disk)  # for those that read it
    return outcomes


def try_writer(writer: Writer, disk: Path) -> Outcome:
    """Write a version, then a second one without room: the first one must be there."""
    (disk / BALLAST).unlink(missing_ok=True)
    folder = disk / "writer"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    writer.write(folder, 1)
    fill(disk, 0)
    error, faults, line = "none", [], ""
    try:
        writer.write(folder, 2)
    except (UserError, OSError) as found:  # which the commands tell in one line
        error, line = type(found).__name__, " ".join(str(found).split()).replace(str(disk), "DISK")
    except Exception as found:  # anything else would be a traceback
        error = type(found).__name__
        faults.append("an error that no command tells")
    if error == "none":
        faults.append("it succeeded")
    try:
        if writer.read(folder) != 1:
            faults.append("another state than before")
    except Exception as found:  # whatever a reader says of a broken file
        faults.append(f"broken: {found}")
    faults += [f"{path.name} stays" for path in half_files(folder)]
    return Outcome(writer.name, "0%", error, line, faults)


def run_apart(command: Command, folder: Path) -> tuple[int, list[str]]:
    """Run a command in a process of its own; its exit code and what it says."""
    with tempfile.NamedTemporaryFile("r") as said:
        process = FORK.Process(target=_run, args=(command, folder, said.name))
        process.start()
        process.join()
        return int(process.exitcode or 0), [line.rstrip() for line in said if line.strip()]


def _run(command: Command, folder: Path, said: str) -> None:
    output = os.open(said, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(folder)
    trained = TrainedRun(folder / "config.yml", Cost(1.0, 2**30))
    with (
        patch.object(sweep, "started", contextlib.nullcontext),
        patch.object(sweep, "run_tasks", _in_turn),
        patch.object(runs, "train", lambda *_, **__: trained),
        patch.object(runs, "evaluate", lambda *_: {"psnr": 20.0}),
    ):
        command.main(list(command.args))


def _in_turn(
    _: Any, function: Callable[[Any], Any], items: Sequence[Any], __: engine.Resources
) -> Iterator[Any]:
    """What `run_tasks` gives, without Ray."""
    for item in items:
        try:
            yield engine.Outcome(item, function(item))
        except (UserError, OSError) as error:
            yield engine.Outcome(item, None, str(error))


def _kept(folder: Path) -> dict[Path, bytes]:
    """Contents of all files."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != BALLAST)
    return {path: path.read_bytes() for path in files}


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _unreadable(folder: Path) -> list[str]:
    """Files that cannot be read as what they are."""
    readers: dict[str, Callable[[Path], object]] = {
        **dict.fromkeys((".png", ".tif"), read_picture),
        **dict.fromkeys((".ply", ".glb"), read_mesh_file),
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".bni": lambda path: unpack(path.read_bytes()),
        ".npz": lambda path: dict(np.load(path)),
    }
    faults = []
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != BALLAST):
        try:
            if path.stat().st_size == 0:
                raise ValueError("empty")
            readers.get(path.suffix, Path.read_bytes)(path)
        except Exception as error:  # whatever a reader says of a broken file
            faults.append(f"{path.relative_to(folder)} is broken: {error}")
    return faults


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def run_full_disk(command: str) -> int:
    """Try all commands and writers, and write benchmarks/results/faults_disk.

    Args:
        command: the command line behind the table.

    Returns:
        How many came to a fault.
    """
    outcomes: list[Outcome] = []
    with small_disk() as disk:
        y, x = np.mgrid[0:48, 0:64]
        picture = Picture(np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1).astype(np.uint8), "png")
        write_picture(disk / "picture.png", picture)
        write_mesh(knurled_torus(24, 16), disk / "shape.ply")
        for one in track(COMMANDS, "commands on a full disk"):
            outcomes += try_command(one, disk)
            print(*outcomes[-len(SHARES) :], file=sys.stderr)
        outcomes += [try_writer(writer, disk) for writer in track(writers(), "writers on a full disk")]
    notes = [
        "Commands run on a small disk in memory: with room, with none, and with half of what they write. "
        "A fault: another exit code than 2 (or 0, where half suffices), not one line, a half-written or "
        "unreadable file, another reason than the disk, and without any room: a file that was there before "
        "and is changed.",
    ]
    rows = [outcome.row() for outcome in outcomes]
    facts: dict[str, Cell] = dict(machine_facts())
    write_table("faults_disk", "Writers on a full disk", command, rows, facts, notes, folder=RESULTS)
    return sum(bool(outcome.faults) for outcome in outcomes)
