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

from bn_field_plugin.files import replacing
from bn_field_plugin.progress import track

DrawView = Callable[[Float[ndarray, "4 4"]], Float[ndarray, "h w c"]]
"""Function that draws a picture, with values in [0, 1], for a camera-to-world matrix."""


def write_views(
    views: Mapping[Path, Float[ndarray, "4 4"]], draw: DrawView, *, title: str, show_progress: bool
) -> None:
    """Draw the view of each pose into its file.

    Args:
        views: camera-to-world matrix for each file to write; the files' folders exist.
        draw: called from several threads.
        title: words for the work, shown with its progress.
        show_progress: show how far it is on standard error.

    Raises:
        OSError: when a file cannot be written.
    """

    def write(view: tuple[Path, Float[ndarray, "4 4"]]) -> None:
        path, pose = view
        with replacing(path) as partial:
            Image.fromarray(np.rint(255 * draw(pose)).astype(np.uint8)).save(partial)

    # Threads suffice: NumPy and Open3D release Python's global lock while they compute.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        written = pool.map(write, views.items())
        for _ in track(written, title, len(views)) if show_progress else written:
            pass
