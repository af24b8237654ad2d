"""Rendered views as picture files, several at a time and with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bn_field_plugin.files import replacing

DrawView = Callable[[Float[ndarray, "4 4"]], Float[ndarray, "h w c"]]
"""Function that draws a picture, with values in [0, 1], for a camera-to-world matrix."""


def write_views(
    views: Mapping[Path, Float[ndarray, "4 4"]], draw: DrawView, *, title: str, show_progress: bool
) -> None:
    """Draw the view of each pose into its file.

    Args:
        views: camera-to-world matrix for each file to write; the files' folders exist.
        draw: called from several threads.
        title: stands before the progress bar.
        show_progress: draw a progress bar on standard error.

    Raises:
        OSError: when a file cannot be written.
    """

    def write(view: tuple[Path, Float[ndarray, "4 4"]]) -> None:
        path, pose = view
        with replacing(path) as partial:
            Image.fromarray(np.rint(255 * draw(pose)).astype(np.uint8)).save(partial)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("views"),
        TimeRemainingColumn(),
    )
    # Threads suffice: NumPy and Open3D release Python's global lock while they compute.
    with (
        Progress(*columns, console=Console(stderr=True), disable=not show_progress) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        task = bar.add_task(title, total=len(views))
        for _ in pool.map(write, views.items()):
            bar.advance(task)
