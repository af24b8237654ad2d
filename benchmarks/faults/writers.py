"""The writers of files that faults are tried on: each writes versions of its files, and reads which is there.

A version is spread over the whole content, so that a mixture of two would be noticed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import trimesh

from benchmarks.faults.forgeries import sound_files
from bn_field_plugin.engine.checkpoints import (
    check_newest,
    checkpoint_name,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_atomically,
)
from bn_field_plugin.files import write_whole
from bn_field_plugin.geometry import write_mesh
from standalone import checkpoints
from standalone.image.codec.bitstream import pack, unpack
from standalone.image.images import SUFFIXES, Picture, read_picture, write_picture
from standalone.image.readers.formats import FormatName
from standalone.shape.formats.reading import read_mesh_file
from standalone.sweep import runs
from standalone.sweep.nerfstudio_commands import Cost, TrainedRun
from standalone.sweep.scenes import Scene
from standalone.sweep.table import NAME, write_summary

SIDE = 400
"""Rows and columns of pictures."""
WEIGHTS = 300_000
"""Numbers in a checkpoint."""
KEPT = 3
"""Number of latest checkpoints of ns-train that are kept."""


@dataclass(frozen=True)
class Writer:
    """A writer of files, and the reader that tells which version is there."""

    name: str
    """Name of what it writes."""
    write: Callable[[Path, int], None]
    """Writes a version, at least 1, into a folder."""
    read: Callable[[Path], int]
    """The version that a folder holds, whole and unmixed; raises otherwise."""


def _the_one(values: np.ndarray) -> int:
    """The number that all values of an array are equal to."""
    low, high = int(values.min()), int(values.max())
    if low != high:
        raise ValueError(f"versions from {low} to {high} in one file")
    return low


def _save_fit(folder: Path, version: int) -> None:
    state = {"step": version, "network": {"weight": torch.full((WEIGHTS,), float(version))}}
    checkpoints.save_checkpoint(folder / "checkpoint.pt", state)


def _load_fit(folder: Path) -> int:
    state = checkpoints.load_checkpoint(folder / "checkpoint.pt")
    return _the_one(np.append(state["network"]["weight"].numpy(), state["step"]))


def _save_training(folder: Path, version: int) -> None:
    weight = torch.full((WEIGHTS,), float(version))
    state = {"step": version, "pipeline": {"weight": weight}, "optimizers": {}, "schedulers": {}}
    save_atomically({**state, "scalers": {}}, folder / "nerfstudio_models" / checkpoint_name(version))
    for path in list_checkpoints(folder / "nerfstudio_models")[:-KEPT]:
        path.unlink()


def _load_training(folder: Path) -> int:
    check_newest(folder / "nerfstudio_models")
    newest = latest_checkpoint(folder / "nerfstudio_models")
    if newest is None:
        raise ValueError("no checkpoint is left")
    state = load_checkpoint(newest)
    return _the_one(np.append(state["pipeline"]["weight"].numpy(), state["step"]))


def _picture(kind: FormatName) -> Writer:
    path = Path(f"picture{SUFFIXES[kind][0]}")

    def write(folder: Path, version: int) -> None:
        pixels = np.full((SIDE, SIDE, 3), version)
        write_picture(folder / path, Picture(pixels.astype("float32" if kind == "exr" else "uint16"), kind))

    return Writer(
        f"picture, {kind.upper()}", write, lambda folder: _the_one(read_picture(folder / path).pixels)
    )


def _mesh(suffix: str) -> Writer:
    ball = trimesh.creation.icosphere(5)
    path = Path(f"mesh{suffix}")

    def write(folder: Path, version: int) -> None:
        write_mesh(trimesh.Trimesh(ball.vertices * version, ball.faces, process=False), folder / path)

    def read(folder: Path) -> int:
        found = read_mesh_file(folder / path)
        if len(found.faces) != len(ball.faces):
            raise ValueError(f"{len(found.faces)} faces of {len(ball.faces)}")
        return _the_one(np.rint(np.linalg.norm(found.vertices, axis=1)))

    return Writer(f"mesh, {suffix[1:].upper()}", write, read)


def _bitstream() -> Writer:
    image = unpack(sound_files()[0])

    def write(folder: Path, version: int) -> None:
        write_whole(folder / "image.bni", pack(dataclasses.replace(image, width=version)))

    return Writer("encoded image", write, lambda folder: unpack((folder / "image.bni").read_bytes()).width)


def _run(seed: int) -> runs.Run:
    return runs.Run(Scene("demo", ("bn-demo-data",)), runs.Method("bn-nerf", "bn-nerf"), seed, steps=1)


def _save_sweep(folder: Path, version: int) -> None:
    """Run a sweep whose commands take no time, and write the table of its last runs."""
    trained = TrainedRun(folder / "config.yml", Cost(1.0, 2**30))
    with (
        patch.object(runs, "train", lambda *_, **__: trained),
        patch.object(runs, "evaluate", lambda *_: {"psnr": float(version)}),
        patch("builtins.print"),
    ):
        runs.execute(_run(version), folder)
        found = runs.finished_runs(folder)
        write_summary({run: found[run] for run in list(found)[-20:]}, folder, "bn-sweep run")


def _load_sweep(folder: Path) -> int:
    """The number of the last run, which has all records before it, and a table up to one of them."""
    seeds = sorted(run.seed for run in runs.finished_runs(folder))
    if seeds != list(range(1, len(seeds) + 1)):
        raise ValueError(f"records of the runs {seeds}")
    table = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    last = int(table["facts"]["seeds"].split(", ")[-1])
    if last not in seeds:
        raise ValueError(f"a table up to run {last} beside records up to {seeds[-1]}")
    return seeds[-1]


def writers() -> list[Writer]:
    """All writers of the campaigns."""
    return [
        Writer("checkpoint of a fit", _save_fit, _load_fit),
        Writer("checkpoint of ns-train", _save_training, _load_training),
        *(_picture(kind) for kind in ("png", "tiff", "exr")),
        *(_mesh(suffix) for suffix in (".ply", ".stl", ".glb")),
        _bitstream(),
        Writer("sweep", _save_sweep, _load_sweep),
    ]
