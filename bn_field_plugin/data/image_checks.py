"""Checks of the pictures and masks that nerfstudio will read, whatever the format of the data set."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image

from bn_field_plugin.errors import UserError
from bn_field_plugin.exif import orientation_of

DECODE_AT_MOST = 300
"""Number of images up to which all are decoded. Of larger data sets, only headers and checksums are read."""
DECODE_PIXELS_AT_MOST = 400_000_000
"""Number of pixels, of all images together, up to which all are decoded; that takes a few seconds."""
READABLE_MODES = ("L", "RGB", "RGBA")
"""PIL's names of the pixel formats that nerfstudio reads correctly: 8 bits, and 1, 3 or 4 channels."""
MASK_MODES = ("1", "L", "I", "F")
"""PIL's names of the pixel formats of masks. `I` stands for its 16-bit kinds too, such as I;16B. In a mask,
every value but 0 marks a pixel that counts."""
TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and turned to the left",
    6: "turned to the right",
    7: "mirrored and turned to the right",
    8: "turned to the left",
}
"""How a viewer should show a picture with each value of the orientation tag but 1, in words for messages."""

One = TypeVar("One")
Other = TypeVar("Other")


def check_outputs(config: DataParserConfig, splits: Sequence[str]) -> None:
    """Stop with one line where nerfstudio would read pictures wrongly, or end in a traceback.

    Args:
        config: any of nerfstudio's dataparsers.
        splits: the splits that will be read.

    Raises:
        UserError: naming the file, or what the dataparser raises.
    """
    for split in splits:
        try:
            with CONSOLE.capture():
                outputs = copy.deepcopy(config).setup().get_dataparser_outputs(split)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # training would end with the dataparser's error
            parser = type(config).__name__.removesuffix("Config")
            fail(
                f"the {split} images of {getattr(config, 'data', 'the data set')} cannot be read by "
                f"nerfstudio's {parser} ({type(error).__name__}: {str(error)[:200]}): mend the data, or end "
                "the command with the dataparser that they are for"
            )
        _check_count(config, outputs, split)
        _check_pictures(outputs, split)


def _check_count(config: DataParserConfig, outputs: Any, split: str) -> None:
    """A camera for each picture.

    nerfstudio's parser of instant-ngp's format looks poses up by a tensor of numbers; of one number alone,
    numpy gives a matrix instead of a list of them, and its first three columns become the pose.
    """
    count, shape = len(outputs.image_filenames), tuple(outputs.cameras.shape)
    if shape == (count,):
        return
    parser, data = type(config).__name__.removesuffix("Config"), getattr(config, "data", "the data set")
    options = "--train-split-fraction, --eval-mode or --eval-interval"
    fail(
        f"nerfstudio's {parser} reads the {split} images of {data} wrongly "
        f"(cameras of shape {list(shape)} for {count}): it needs two or more of them, change {options}"
    )


def _check_pictures(outputs: Any, split: str) -> None:
    images = [Path(name) for name in outputs.image_filenames]
    if not images:
        return
    headers = in_threads(header, images)
    with_alpha = [path for path, (mode, _) in zip(images, headers, strict=True) if mode == "RGBA"]
    if outputs.alpha_color is None and 0 < len(with_alpha) < len(images):
        fail(
            f"{len(with_alpha)} of {len(images)} {split} images have an alpha channel ({with_alpha[0]}), the "
            "others have none: give it to all of them or to none"
        )
    if outputs.mask_filenames:
        masks = [Path(name) for name in outputs.mask_filenames]
        _check_masks(images, [size for _, size in headers], masks, split)


def _check_masks(
    images: Sequence[Path], sizes: Sequence[tuple[int, int]], masks: Sequence[Path], split: str
) -> None:
    """Check that masks have one channel and the size of their images, and leave some pixels."""
    for image, size, mask, (mode, mask_size) in zip(
        images, sizes, masks, in_threads(_mask_header, masks), strict=True
    ):
        if mode not in MASK_MODES and not mode.startswith("I;16"):
            fail(f"the mask {mask} has pixels of the kind {mode}: convert it to 8-bit grey")
        if mask_size != size:
            fail(
                f"the mask {mask} is {mask_size[0]}x{mask_size[1]}, but its image {image} is "
                f"{size[0]}x{size[1]}: give it the same size"
            )
    if len(masks) > DECODE_AT_MOST or sum(w * h for w, h in sizes) > DECODE_PIXELS_AT_MOST:
        return
    empty = [mask for mask, some in zip(masks, in_threads(_leaves_some, masks), strict=True) if not some]
    if len(empty) == len(masks):
        fail(
            f"the masks of all {split} images are black ({empty[0]}): white marks what counts; invert or "
            "remove them"
        )
    if empty and len(set(sizes)) > 1:  # from images of several sizes, nerfstudio draws pixels of each one
        fail(f"the mask {empty[0]} is black: remove its frame, since images of several sizes all need pixels")


def header(path: Path) -> tuple[str, tuple[int, int]]:
    """Check that nerfstudio can read a picture correctly, and tell what its header says.

    Returns:
        PIL's name of the pixel format; width and height.

    Raises:
        UserError: the picture is missing, unreadable, of a pixel format that nerfstudio misreads, or turned
            by an orientation tag.
    """
    mode, size = _opened(path, "image")
    if mode not in READABLE_MODES:
        fail(f"{path} has pixels of the kind {mode}: convert it to 8-bit RGB or RGBA")
    return mode, size


def _mask_header(path: Path) -> tuple[str, tuple[int, int]]:
    return _opened(path, "mask")


def _opened(path: Path, what: str) -> tuple[str, tuple[int, int]]:
    if not is_file(path):
        fail(f"the {what} {path} does not exist{other_name(path)}")
    try:
        with Image.open(path) as picture:
            mode, size, orientation = picture.mode, picture.size, _orientation(picture)
    except Exception as error:  # PIL's decoders raise almost anything on a damaged file
        fail_unreadable(path, error)
    if orientation != 1:
        fail(
            f"{path} has the EXIF orientation {orientation} (to be shown {TURNS[orientation]}), which "
            "nerfstudio ignores: bake it in (mogrify -auto-orient FILE) and give w, h and intrinsics of the "
            "upright picture; or, if the poses are those of the picture as it is stored, remove the tag "
            "(exiftool -Orientation= FILE)"
        )
    return mode, size


def _orientation(picture: Image.Image) -> int:
    """The orientation tag where PIL ignores it, and so nerfstudio. PIL obeys that of TIFF: it counts as 1."""
    if picture.format == "TIFF":
        return 1
    exif, xmp = picture.info.get("exif"), picture.info.get("xmp", picture.info.get("XML:com.adobe.xmp"))
    return orientation_of(exif, xmp.encode() if isinstance(xmp, str) else xmp)


def _leaves_some(path: Path) -> bool:
    try:
        with Image.open(path) as mask:
            return bool(np.asarray(mask).any())
    except Exception as error:
        fail_unreadable(path, error)


def other_name(path: Path) -> str:
    """The name that a missing file probably has instead, as the end of a sentence; else empty."""
    try:
        if "\\" in path.name:
            return ": write / for each \\ in its path"
        beside = sorted(path.parent.iterdir())
    except (OSError, ValueError):
        return ""
    same_stem = [one.name for one in beside if path.suffix == "" and one.stem == path.name]
    same_letters = [one.name for one in beside if one.name.lower() == path.name.lower()]
    if same_stem:
        return f": write its ending too, as {same_stem[0]} lies there"
    return f": write its name as it is, {same_letters[0]}" if same_letters else ""


def in_threads(function: Callable[[One], Other], items: Sequence[One]) -> list[Other]:
    """Apply a function to each item in several threads, and return the results in order.

    If the function raises, the error of the first such item in their order is raised.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def is_file(path: Path) -> bool:
    """`Path.is_file`, but False instead of an error for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def fail_unreadable(path: Path, error: Exception) -> NoReturn:
    """Raise the user's error about a picture that cannot be read."""
    fail(
        f"cannot read the image {path} ({str(error) or type(error).__name__}): replace it or remove its frame"
    )


def fail(message: str) -> NoReturn:
    """Raise the user's error as one printable line."""
    line = " ".join(message.split())
    raise UserError("".join(letter if letter.isprintable() else "?" for letter in line)) from None
