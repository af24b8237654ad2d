"""Check a data set before training, and say in one line what is wrong and what to do.

nerfstudio would stop at the same faults, but with a traceback, often far from the cause, or not before the
evaluation. Of the formats of Blender and nerfstudio, the transforms files are checked in depth; of others,
only that the data exist. The pictures and masks are checked whatever the format (`image_checks`). A check
must never stop a data set that nerfstudio can use: unknown fields, extra files and odd names all pass.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import MAX_AUTO_RESOLUTION, NerfstudioDataParserConfig
from PIL import Image

from bn_field_plugin.data import image_checks
from bn_field_plugin.data.image_checks import (
    check_outputs,
    fail,
    fail_unreadable,
    header,
    in_threads,
    is_file,
    other_name,
)

INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
POSITIVE = ("fl_x", "fl_y", "w", "h")
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
LEAST_DISTORTION = {"OPENCV_FISHEYE": 4, "FISHEYE624": 12, "EQUIRECTANGULAR": 0}
"""Numbers that a camera model reads of a list of distortion parameters; models that are not here read 6."""


def check_dataset(
    dataparser_config: DataParserConfig, *, required_splits: Sequence[str] = ("train", "val")
) -> None:
    """Stop with one clear line if the data set of a dataparser cannot be trained on.

    Args:
        dataparser_config: nerfstudio's, with `data` already set to the path that will be used.
        required_splits: the Blender format's splits that must exist; others are checked if they do. Training
            reads train and val, ns-eval train and test.

    Raises:
        UserError: for missing or empty data, a broken transforms file, images that are missing, unreadable or
            of the wrong size, or too few images to split into training and evaluation.
    """
    data = getattr(dataparser_config, "data", None)
    if data is None:  # an embedded scene, whose cache checks its own files
        return
    path = Path(data)
    if not _exists(path):
        fail(f"the data path {path} does not exist: check --data")
    if isinstance(dataparser_config, BlenderDataParserConfig):
        _check_blender(path, required_splits)
    elif isinstance(dataparser_config, NerfstudioDataParserConfig):
        _check_nerfstudio(path, dataparser_config)
    check_outputs(dataparser_config, required_splits)


@dataclass(frozen=True)
class _ImageUse:
    """An image that a frame names: where to find it, who names it, and what size it must have (None: any)."""

    path: Path
    source: str
    size: tuple[int, int] | None = None
    tolerance: int = 0


# -------------------------------------------------------------------------------------------------- Blender


def _check_blender(folder: Path, required_splits: Sequence[str]) -> None:
    if not folder.is_dir():
        fail(f"{folder} is a file, but the Blender format needs the folder that holds transforms_train.json")
    _check_not_empty(folder, "transforms_train.json")
    for split in ("train", "val", "test"):
        file = folder / f"transforms_{split}.json"
        if not is_file(file):
            if split in required_splits:
                hint = "check --data"
                if is_file(folder / "transforms.json"):
                    hint = "it looks like the nerfstudio format: end the command with nerfstudio-data"
                elif split != "train":
                    hint = "copy another transforms file to that name if there are no such views"
                fail(f"{file} is missing ({hint})")
            continue
        meta = _read_transforms(file)
        angle = _number(meta.get("camera_angle_x"))
        if angle is None or not 0 < angle < math.pi:
            fail(f"{file}: camera_angle_x must be an angle in radians between 0 and pi")
        images, poses = [], []
        for number, frame in enumerate(_frames(meta, file)):
            source = f"{file}, frame {number}"
            name = _file_path(frame, source)
            poses.append(_check_pose(frame, source, rows=(3, 4)))
            path = folder / (name.replace("./", "") + ".png")  # as nerfstudio's Blender dataparser does
            if not is_file(path) and name.lower().endswith((".png", ".jpg", ".jpeg")):
                fail(f"{source}: write file_path {_quote(name)} without its suffix; the image must be a .png")
            images.append(_ImageUse(path, source))
        _check_poses_together(images, poses)
        sizes = _check_images(images)
        first = images[0].path
        for path, size in sizes.items():
            if size != sizes[first]:
                fail(
                    f"{path} is {size[0]}x{size[1]} but {first} is {sizes[first][0]}x{sizes[first][1]}:"
                    " the Blender format needs images of one size, resize them or use nerfstudio-data"
                )


# ----------------------------------------------------------------------------------------------- nerfstudio


def _check_nerfstudio(path: Path, config: NerfstudioDataParserConfig) -> None:
    if path.suffix == ".json":
        file, folder = path, path.parent
        if not is_file(file):
            fail(f"{file} is not a file: --data must be a folder or a .json file")
    else:
        file, folder = path / "transforms.json", path
        if not path.is_dir():
            fail(f"{path} is neither a folder nor a .json file: check --data")
        _check_not_empty(path, "transforms.json")
        if not is_file(file):
            hint = "check --data, or make it with ns-process-data"
            if is_file(path / "transforms_train.json"):
                hint = "it looks like the Blender format: end the command with blender-data"
            fail(f"{file} is missing ({hint})")
    meta = _read_transforms(file)
    frames = _frames(meta, file)
    model = meta.get("camera_model", "PERSPECTIVE")
    if "camera_model" in meta and (not isinstance(model, str) or model not in CAMERA_MODEL_TO_TYPE):
        fail(f"{file}: camera_model {_quote(model)} is unknown, use one of {', '.join(CAMERA_MODEL_TO_TYPE)}")
    for key in INTRINSICS:
        if key in meta:
            _check_intrinsic(meta, key, str(file))
    _check_models(frames, meta.get("camera_model"), file)
    _check_distortion(meta, meta, str(file))
    for number, frame in enumerate(frames):
        _check_distortion(frame, meta, f"{file}, frame {number}")
    if "camera_angle_x" in meta and "fl_x" not in meta and "fl_x" not in frames[0]:
        fail(
            f"{file} has camera_angle_x but no fl_x, as instant-ngp's files: end the command with "
            f"instant-ngp-data, or give fl_x and fl_y{_focal_length(meta)}, cx, cy, w and h"
        )

    names, intrinsics, poses = [], [], []
    for number, frame in enumerate(frames):
        source = f"{file}, frame {number}"
        names.append(_file_path(frame, source))
        poses.append(_check_pose(frame, source, rows=(4,)))
        for key in INTRINSICS:
            if key not in meta:
                _check_intrinsic(frame, key, source)
        intrinsics.append(meta if "w" in meta and "h" in meta else {**frame, **meta})

    positions = {tuple(pose[:3, 3].tolist()) for pose in poses}
    if len(positions) == 1 and config.auto_scale_poses and config.center_method == "poses":
        if len(frames) == 1:
            fail(
                f"{file} has a single image: add images taken from other places"
                " (--auto-scale-poses False --eval-mode all trains on that one)"
            )
        fail(
            f"{file}: all cameras stand at one point, so their distances cannot be scaled:"
            " mend the poses or use --auto-scale-poses False"
        )

    factor = _downscale_factor(folder, names, config)
    images = []
    for number, (name, camera) in enumerate(zip(names, intrinsics, strict=True)):
        width, height = (int(int(_number(camera[key]) or 0) / factor) for key in ("w", "h"))
        # Tools that make smaller copies round their sizes up or down, so one pixel of difference is allowed.
        place = _place(folder, name, factor)
        images.append(_ImageUse(place, f"{file}, frame {number}", (width, height), tolerance=int(factor > 1)))
    _check_poses_together(images, poses)
    _check_images(images, advice=f" (--downscale-factor {factor})" if factor > 1 else "")
    _check_extra_files(frames, file, folder, factor)
    _check_split(meta, file, [image.path for image in images], folder, factor, config)


def _check_models(frames: Sequence[Mapping[str, Any]], model: Any, file: Path) -> None:
    """Check that no frame names a camera model other than the file's, the only one that nerfstudio reads."""
    for number, frame in enumerate(frames):
        own = frame.get("camera_model", model)
        if own != model:
            fail(
                f"{file}, frame {number}: camera_model {_quote(own)} is ignored in a frame: give one for all "
                "beside the frames; frames of several models do not go into one file"
            )


def _check_distortion(holder: Mapping[str, Any], meta: Mapping[str, Any], source: str) -> None:
    """Check that distortion parameters are finite numbers, as many as the camera model reads."""
    for key in DISTORTION:
        if key in holder and _number(holder[key]) is None:
            fail(f"{source}: {key} must be a number, not {_quote(holder[key])}")
    model = str(meta.get("camera_model"))
    if "distortion_params" not in holder:
        if model == "FISHEYE624" and holder is not meta and "distortion_params" not in meta:
            fail(f"{source}: the camera model FISHEYE624 needs distortion_params, a list of 12 numbers")
        return
    values = holder["distortion_params"]
    sound = isinstance(values, list) and all(_number(value) is not None for value in values)
    least = LEAST_DISTORTION.get(model, 6)
    if not sound or len(values) < least:
        fail(f"{source}: distortion_params must be a list of {least} numbers for the camera model {model}")


def _focal_length(meta: Mapping[str, Any]) -> str:
    """The advice how to get fl_x from camera_angle_x; with the result, where the width is known."""
    angle, width = _number(meta.get("camera_angle_x")), _number(meta.get("w"))
    if angle is None or width is None or not 0 < angle < math.pi:
        return " = w / (2 tan(camera_angle_x / 2))"
    return f" (w / (2 tan(camera_angle_x / 2)) = {0.5 * width / math.tan(0.5 * angle):.6g})"


def _place(folder: Path, name: str, factor: int, kind: str = "images") -> Path:
    """The path where nerfstudio looks for a file: smaller copies have a folder for each factor."""
    return folder / name if factor == 1 else folder / f"{kind}_{factor}" / Path(name).name


def _downscale_factor(folder: Path, names: Sequence[str], config: NerfstudioDataParserConfig) -> int:
    """The factor that nerfstudio will choose: doubled while images are too large and smaller copies exist."""
    if config.downscale_factor is not None:
        if config.downscale_factor < 1:
            fail(f"--downscale-factor must be 1 or more, not {config.downscale_factor}")
        return int(config.downscale_factor)
    first = folder / names[0]
    _check_exists(_ImageUse(first, str(folder)))
    largest = max(header(first)[1])
    power = 0
    while largest / 2**power > MAX_AUTO_RESOLUTION and _exists(
        folder / f"images_{2 ** (power + 1)}" / first.name
    ):
        power += 1
    return 1 << power


def _check_extra_files(frames: Sequence[Mapping[str, Any]], file: Path, folder: Path, factor: int) -> None:
    """Check that all frames or none have masks, likewise depths, and that the masks' files exist."""
    for key in ("mask_path", "depth_file_path"):
        count = sum(key in frame for frame in frames)
        if 0 < count < len(frames):
            fail(f"{file}: {count} of {len(frames)} frames have {key}: give it to all of them or to none")
    for number, frame in enumerate(frames):
        if "mask_path" not in frame:
            return
        name = _file_path(frame, f"{file}, frame {number}", key="mask_path")
        path = _place(folder, name, factor, kind="masks")
        if not is_file(path):
            fail(f"{file}, frame {number}: the mask {path} does not exist")


def _check_split(
    meta: Mapping[str, Any],
    file: Path,
    images: Sequence[Path],
    folder: Path,
    factor: int,
    config: NerfstudioDataParserConfig,
) -> None:
    """Check that the split into training and evaluation leaves at least one image for each."""
    lists = {
        split: meta[f"{split}_filenames"]
        for split in ("train", "val", "test")
        if f"{split}_filenames" in meta
    }
    if lists:
        known = set(images)
        for split in ("train", "val"):
            if not lists.get(split):
                fail(
                    f"{file}: {split}_filenames must list at least one image, since the file lists its splits"
                )
        for split, names in lists.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                fail(f"{file}: {split}_filenames must be a list of file names")
            for name in names:
                if _place(folder, name, factor) not in known:
                    fail(
                        f"{file}: {split}_filenames names {_quote(name)}, which no frame has as its file_path"
                    )
        return
    count = len(images)
    if config.eval_mode == "fraction":
        train = math.ceil(count * config.train_split_fraction)
        evaluation, remedy = count - train, f"--train-split-fraction {config.train_split_fraction}"
    elif config.eval_mode == "interval":
        evaluation = math.ceil(count / max(1, config.eval_interval))
        train, remedy = count - evaluation, f"--eval-interval {config.eval_interval}"
    elif config.eval_mode == "filename":
        train = sum("train" in image.name for image in images)
        evaluation = sum("eval" in image.name and "train" not in image.name for image in images)
        remedy = "--eval-mode filename"
        if train + evaluation < count:
            other = next(image for image in images if "train" not in image.name and "eval" not in image.name)
            fail(
                f"{file}: {other.name} has neither train nor eval in its name, as --eval-mode filename needs"
            )
    else:  # "all" takes every image for both
        return
    if train < 1 or evaluation < 1:
        fail(
            f"{file}: {count} images are too few for {remedy} (training {train}, evaluation {evaluation}):"
            " add images, change that option or use --eval-mode all"
        )


# ----------------------------------------------------------------------------------------- transforms files


def _read_transforms(file: Path) -> Mapping[str, Any]:
    try:
        data = file.read_bytes()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror or error}")
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fail(f"{file} begins with a byte-order mark: save it as UTF-8 without one")
    try:
        meta = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        fail(f"{file} is not valid JSON ({error}): it may be cut off, write it again")
    if not isinstance(meta, dict):
        fail(f"{file} must hold a JSON object with a list of frames")
    return meta


def _frames(meta: Mapping[str, Any], file: Path) -> Sequence[Mapping[str, Any]]:
    frames = meta.get("frames")
    if not isinstance(frames, list) or not frames:
        fail(f"{file} has no frames: it needs a list of frames with file_path and transform_matrix")
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            fail(f"{file}, frame {number}: must be an object with file_path and transform_matrix")
    return frames


def _file_path(frame: Mapping[str, Any], source: str, key: str = "file_path") -> str:
    name = frame.get(key)
    if not isinstance(name, str) or not name.strip():
        fail(f"{source}: {key} is missing or no text: it should name the image")
    return name


def _check_pose(frame: Mapping[str, Any], source: str, rows: tuple[int, ...]) -> Float[np.ndarray, "r 4"]:
    if "transform_matrix" not in frame:
        fail(f"{source}: transform_matrix is missing: it should be the 4x4 camera-to-world matrix")
    try:
        matrix = np.asarray(frame["transform_matrix"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or matrix.shape[0] not in rows or matrix.shape[1] != 4:
        fail(f"{source}: transform_matrix must be a 4x4 matrix of numbers")
    if not (np.abs(matrix) < np.finfo(np.float32).max).all():  # false for NaN too
        fail(f"{source}: transform_matrix has a value that is not finite: remove this frame or mend its pose")
    axes = matrix[:3, :3]
    if abs(np.linalg.det(axes)) <= 1e-6 * np.prod(np.linalg.norm(axes, axis=0)):
        fail(
            f"{source}: the axes of transform_matrix do not span space, so that rays have no direction: "
            "remove this frame or mend its pose"
        )
    return matrix


def _check_poses_together(images: Sequence[_ImageUse], poses: Sequence[Float[np.ndarray, "r 4"]]) -> None:
    """Check that no pose mirrors where most do not, and that each image has one pose.

    Poses that all mirror are those of a mirrored scene, which trains as well as any other.
    """
    mirrors = [bool(np.linalg.det(pose[:3, :3]) < 0) for pose in poses]
    odd = 2 * sum(mirrors) <= len(poses)  # what fewer poses do
    if len(set(mirrors)) == 2:
        fail(
            f"{images[mirrors.index(odd)].source}: the axes of transform_matrix are "
            f"{'left' if odd else 'right'}-handed, those of most frames are not, so this camera's picture "
            "would be mirrored: mend its pose"
        )
    first: dict[Path, int] = {}
    for number, image in enumerate(images):
        before = first.setdefault(image.path, number)
        if not np.array_equal(poses[before][:3], poses[number][:3]):
            fail(
                f"{image.source}: its image {image.path} is that of frame {before} too, which has another "
                "pose: name the right image, or remove one of the two frames"
            )


def _check_intrinsic(holder: Mapping[str, Any], key: str, source: str) -> None:
    if key not in holder:
        fail(f"{source}: {key} is missing, give it there or once for all frames")
    value = _number(holder[key])
    positive = key in POSITIVE
    if value is None or (positive and value <= 0) or (key in ("w", "h") and value < 1):
        fail(f"{source}: {key} must be a {'positive ' * positive}number, not {_quote(holder[key])}")


def _number(value: Any) -> float | None:
    """A finite number, or text that is one; else None."""
    if isinstance(value, (int, float, str)):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


# --------------------------------------------------------------------------------------------------- images


def _check_images(images: Iterable[_ImageUse], advice: str = "") -> dict[Path, tuple[int, int]]:
    """Read every image once and compare its size with what its frames expect.

    Returns:
        Width and height of each image, in the order of first use.

    Raises:
        UserError: naming the first image, in the order given, that is at fault.
    """
    images = list(images)
    unique = list({image.path: image for image in images}.values())
    for image in unique:
        _check_exists(image, advice)
    headers = in_threads(lambda image: header(image.path)[1], unique)
    few = (
        len(unique) <= image_checks.DECODE_AT_MOST
        and sum(width * height for width, height in headers) <= image_checks.DECODE_PIXELS_AT_MOST
    )
    in_threads(_decode if few else _verify, unique)
    sizes = dict(zip((image.path for image in unique), headers, strict=True))
    for image in images:
        width, height = sizes[image.path]
        if image.size and max(abs(width - image.size[0]), abs(height - image.size[1])) > image.tolerance:
            expected = f"{image.size[0]}x{image.size[1]}{advice}"
            fail(
                f"{image.path} is {width}x{height}, but {image.source} expects {expected}:"
                " mend w and h (with fl_x, fl_y, cx, cy) or the image"
            )
    return sizes


def _check_exists(image: _ImageUse, advice: str = "") -> None:
    if not is_file(image.path):
        fail(f"{image.source}: the image {image.path} does not exist{other_name(image.path)}{advice}")


def _verify(image: _ImageUse) -> None:
    """Check an image's checksums, where its format has them, which is far quicker than decoding it."""
    try:
        with Image.open(image.path) as picture:
            picture.verify()
    except Exception as error:
        fail_unreadable(image.path, error)


def _decode(image: _ImageUse) -> None:
    _verify(image)
    try:
        with Image.open(image.path) as picture:
            picture.load()
    except Exception as error:
        fail_unreadable(image.path, error)


# -------------------------------------------------------------------------------------------------- helpers


def _quote(value: Any) -> str:
    """A value out of a JSON file, short enough for a message."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_not_empty(folder: Path, expected: str) -> None:
    try:
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        fail(f"cannot read the data folder {folder}: {error.strerror or error}")
    if empty:
        fail(f"the data folder {folder} is empty: it should hold {expected} and its images")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
