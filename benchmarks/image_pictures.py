"""Pictures of the image benchmarks, by name or path."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bn_field_plugin.errors import UserError
from standalone.image.images import Picture, read_picture, shrunk


def load(name: str, side: int | None = None) -> Picture:
    """A picture of scikit-image, or one of a file.

    Args:
        name: name of a function in skimage.data, such as astronaut, camera or coffee, or a path.
        side: cut the centre square and shrink it to so many pixels a side; None keeps the picture.

    Raises:
        UserError: neither such a function nor such a file.
    """
    if Path(name).suffix:
        picture = read_picture(Path(name))
    else:
        import skimage.data

        function = getattr(skimage.data, name, None)
        if function is None:
            raise UserError(f"there is no picture {name!r} in scikit-image: give another name or a path")
        pixels = np.asarray(function())
        picture = Picture(pixels if pixels.ndim == 3 else pixels[..., None], "png")
    if side is None:
        return picture
    square = min(picture.height, picture.width)
    top, left = (picture.height - square) // 2, (picture.width - square) // 2
    cut = Picture(picture.pixels[top : top + square, left : left + square], picture.format)
    return shrunk(cut, side)
