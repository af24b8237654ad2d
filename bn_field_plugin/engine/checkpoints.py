"""Checkpoint files in nerfstudio's format, which are never left half-written."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bn_field_plugin import files
from bn_field_plugin.errors import UserError

NAME = re.compile(r"step-(\d{9,})\.ckpt")


def checkpoint_name(step: int) -> str:
    """Name that nerfstudio gives to the checkpoint of a step."""
    return f"step-{step:09d}.ckpt"


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        ValueError: the name is not `step-XXXXXXXXX.ckpt`.
    """
    match = NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is not named step-XXXXXXXXX.ckpt")
    return int(match[1])


def save_atomically(obj: Any, path: Path) -> None:
    """Write a checkpoint so that at any moment, also after a crash, the file is whole or not there.

    The temporary file lies beside the checkpoint's folder and not in it, since nerfstudio reads a step
    from the name of every file in that folder.

    Args:
        obj: what to save, for `torch.save`. numpy's scalars become plain numbers, since nerfstudio's
            `torch.load` refuses them.
        path: where to; its folder is made if needed.

    Raises:
        UserError: the file cannot be written, for instance because the disk is full. Older files stay.
    """
    content = io.BytesIO()  # written in memory first, so that an OSError below can only be the disk's
    torch.save(_with_plain_numbers(obj), content)
    try:
        files.write_whole(path, content.getbuffer(), partial_folder=_partial_folder(path.parent))
    except OSError as error:
        raise UserError(
            f"cannot write checkpoint {path} ({error.strerror or error}): free disk space or choose another "
            "--output-dir; checkpoints written before are whole"
        ) from error


def _with_plain_numbers(obj: Any) -> Any:
    """Replace numpy's scalars in nested containers by Python's."""
    if isinstance(obj, np.generic):
        return obj.item()
    if type(obj) in (dict, list, tuple):
        if isinstance(obj, dict):
            return {_with_plain_numbers(key): _with_plain_numbers(value) for key, value in obj.items()}
        return type(obj)(_with_plain_numbers(value) for value in obj)
    return obj


def remove_partial_files(checkpoint_dir: Path) -> list[Path]:
    """Remove the temporary files that killed runs left; those of running processes stay.

    Args:
        checkpoint_dir: a folder of checkpoints, which need not exist.

    Returns:
        The files that were removed.
    """
    return files.remove_partial_files(_partial_folder(checkpoint_dir), "step-*.ckpt")


def _partial_folder(checkpoint_dir: Path) -> Path:
    """The folder beside `checkpoint_dir` in which checkpoints are written before they are moved into it."""
    return checkpoint_dir.resolve().parent


def list_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints in a folder, whole or not, by step, the oldest first; none if the folder is missing."""
    if not directory.is_dir():
        return []
    return sorted((path for path in directory.iterdir() if NAME.fullmatch(path.name)), key=checkpoint_step)


def latest_checkpoint(directory: Path) -> Path | None:
    """Newest whole checkpoint in a folder, or None. Broken ones are skipped, with a line on stdout each."""
    for path in reversed(list_checkpoints(directory)):
        if is_whole(path):
            return path
        print(f"skipping {path}: the file is broken", flush=True)
    return None


def check_newest(directory: Path) -> None:
    """Make sure that the newest checkpoint in a folder, which nerfstudio's commands load, is whole.

    Raises:
        UserError: it is broken.
    """
    found = list_checkpoints(directory)
    if found and not is_whole(found[-1]):
        older = [path for path in found[:-1] if is_whole(path)]
        remedy = f"delete it, then {older[-1].name} is loaded" if older else "train anew"
        raise UserError(f"checkpoint {found[-1]} is broken: {remedy}")


def is_whole(path: Path) -> bool:
    """Tell whether a checkpoint is complete and all its checksums hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return False


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU.

    Args:
        path: the file.

    Returns:
        nerfstudio's entries: `step`, `pipeline`, `optimizers`, `schedulers`, `scalers`.

    Raises:
        UserError: the file is missing, broken, or no checkpoint of nerfstudio.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist: check the path")
    if not is_whole(path):
        raise UserError(f"checkpoint {path} is broken: load an older one (--load-step) or train anew")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"checkpoint {path} cannot be read ({reason}): give one that ns-train wrote"
        ) from error
    if not isinstance(state, dict) or not {"step", "pipeline", "optimizers", "scalers"} <= state.keys():
        raise UserError(f"{path} is not a checkpoint of nerfstudio: give one that ns-train wrote")
    return state
