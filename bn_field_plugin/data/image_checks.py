"""What nerfstudio will read of a data set, whatever its format: pictures and masks that go together."""

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
"""Number of images up to which all are decoded; of more, only headers and checksums are read."""
DECODE_PIXELS_AT_MOST = 400_000_000
"""Number of pixels, of all images together, up to which they are decoded: a few seconds of work."""
READABLE_MODES = ("L", "RGB", "RGBA")
"""PIL's names of the pixel formats that nerfstudio reads rightly: 8 bits, 1, 3 or 4 channels."""
MASK_MODES = ("1", "L", "I", "F")
"""PIL's names of the pixel formats of masks, in which all values but 0 count; other kinds of I serve too."""
TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and turned to the left",
    6: "turned to the right",
    7: "mirrored and turned to the right",
    8: "turned to the left",
}
"""What an orientation tag asks viewers to show."""

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
        except (Exception, SystemExit) as error:  # training would end with it
            parser = type(config).__name__.removesuffix("Config")
            fail(
                f"the {split} images of {getattr(config, 'data', 'the data set')} cannot be read by "
                f"nerfstudio's {parser} ({type(error).__name__}: {str(error)[:200]}): mend the data, or end "
                "the command with the dataparser that they are for"
            )
        _check_pictures(outputs, split)


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
    """Masks of one channel and of their images' sizes, that leave something."""
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
    if empty and len(set(sizes)) > 1:  # nerfstudio draws from each image then
        fail(f"the mask {empty[0]} is black: remove its frame, since images of several sizes all need pixels")


def header(path: Path) -> tuple[str, tuple[int, int]]:
    """PIL's name of a picture's pixel format, and its width and height, once nerfstudio reads it rightly.

    Raises:
        UserError: it is missing or unreadable, of another format, or turned by a tag.
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
    """The tag that PIL, and so nerfstudio, leaves to its caller; that of TIFF it obeys itself."""
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
    """What a file that is missing may be called instead, as the end of a sentence; empty if nobody knows."""
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
    """A function of each item, several at a time; raises what the first one in their order raises."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def is_file(path: Path) -> bool:
    """Like Path.is_file, and False for a name that no file can have."""
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
