"""Checkpoints of fits: written whole, and read without running code that a file might contain."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

FORMAT = "bn-fit"
"""Marks a file as a checkpoint of `standalone.fitting`."""
VERSION = 1
"""Version of the checkpoint's layout."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; an earlier file of that name stays until the new one is whole.

    Args:
        path: the file.
        state: tensors and plain values only.

    Raises:
        UserError: the file cannot be written.
    """
    content = io.BytesIO()  # in memory first: torch's writer to files hides the disk's reason
    torch.save({"format": FORMAT, "version": VERSION, **state}, content)
    try:
        write_whole(path, content.getbuffer())
    except OSError as error:
        raise UserError(
            f"the checkpoint {path} cannot be written ({error.strerror or error}): free space there"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        UserError: the file is missing, damaged, of another kind, or of a newer version.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: fit first, or give the folder of an earlier fit")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged archive raises almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the checkpoint {path} cannot be read ({reason}): fit anew") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of a fit: give one that was written here")
    if not isinstance(state.get("version"), int) or state["version"] > VERSION:
        raise UserError(f"the checkpoint {path} is of a newer version: update this package")
    return state
