"""Scenes of a sweep, as a user types them, and copies of them with fewer views."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bn_field_plugin.errors import UserError
from bn_field_plugin.files import write_whole

BLENDER_SPLITS = ("train", "val", "test")
"""Names in Blender-format scenes' transforms files."""

TestOn = Literal["test", "rest", "all"]
"""Views to test on: a scene's test views, those that training leaves, or both."""

LABEL = re.compile(r"([\w.+-]+)=(\S.*)")
"""A name that the user gives to what follows it."""


@dataclass(frozen=True)
class Scene:
    """A data set."""

    name: str
    """Its name in tables."""
    words: tuple[str, ...]
    """Dataparser and its options, as on nerfstudio's command line."""

    @staticmethod
    def parse(text: str) -> Scene:
        """A scene as a user gives it: a folder, or a dataparser with its options; NAME=... names it.

        Args:
            text: as `data/lego`, `bn-demo-data` or `lego=blender-data --data data/lego --scale-factor 0.5`.

        Raises:
            UserError: no such folder, or one of another format.
        """
        name, text = labelled(text)
        words = split_words(text, "--scenes")
        if len(words) > 1 or not _is_path(words[0]):
            folder = words[words.index("--data") + 1] if "--data" in words[:-1] else words[0]
            return Scene(name or Path(folder).name, tuple(words))
        folder_path = Path(words[0])
        if not folder_path.is_dir():
            raise UserError(f"--scenes {text}: there is no such folder; give a scene, or a dataparser's name")
        name = name or folder_path.resolve().name
        return Scene(name, (_dataparser(folder_path), "--data", str(folder_path.resolve())))

    def fewer_views(
        self, folder: Path, *, train: int | None = None, test: int | None = None, test_on: TestOn = "test"
    ) -> Scene:
        """The same scene with fewer views (see `fewer_views`).

        Args:
            folder: where to put it.
            train: training views to keep; None keeps all.
            test: test views to keep; None keeps all.
            test_on: which views to test on.

        Raises:
            UserError: it is no Blender-format scene.
        """
        if self.words[0] != "blender-data" or "--data" not in self.words:
            raise UserError(f"the scene {self.name} keeps all its views: only Blender-format ones can be cut")
        words = list(self.words)
        place = words.index("--data") + 1
        smaller = fewer_views(Path(words[place]), folder, train=train, test=test, test_on=test_on)
        words[place] = str(smaller)
        return Scene(self.name, tuple(words))


def fewer_views(
    scene: Path,
    folder: Path,
    *,
    train: int | None = None,
    test: int | None = None,
    test_on: TestOn = "test",
) -> Path:
    """A Blender-format scene with some of the views of another, evenly chosen.

    Args:
        scene: the whole scene.
        folder: where to put the smaller one, which refers to the images of `scene`.
        train: training views to keep, at least 1; None keeps all.
        test: test views to keep, at least 1; None keeps all.
        test_on: the scene's test views, the training views that are not kept (rest), or all of them, of which
            `test` are then chosen.

    Returns:
        `folder`.

    Raises:
        UserError: the scene cannot be read, or has fewer views than asked for.
    """
    metas = {split: _read_transforms(scene / f"transforms_{split}.json") for split in BLENDER_SPLITS}
    frames = {split: list(metas[split]["frames"]) for split in BLENDER_SPLITS}
    kept = evenly(frames["train"], train, f"training views of {scene}")
    rest = [frame for frame in frames["train"] if frame not in kept]
    if test_on != "test":
        frames["test"] = rest if test_on == "rest" else frames["test"] + rest
    frames["train"] = kept
    frames["test"] = evenly(frames["test"], test, f"test views of {scene}")
    for split in BLENDER_SPLITS:
        for frame in frames[split]:
            link = folder / f"{frame['file_path']}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.unlink(missing_ok=True)  # a link to where the scene was before it moved is broken
                link.symlink_to((scene / f"{frame['file_path']}.png").resolve())
        content = {**metas[split], "frames": frames[split]}
        write_whole(folder / f"transforms_{split}.json", json.dumps(content))
    return folder


def evenly(items: Sequence[Any], count: int | None, what: str) -> list[Any]:
    """Choose a number of items evenly from a sequence, in order; None chooses all.

    Raises:
        UserError: fewer than 1, or more than there are.
    """
    if count is None:
        return list(items)
    if not 1 <= count <= len(items):
        raise UserError(f"{count} {what} were asked for: choose 1 to {len(items)}")
    return [items[index * len(items) // count] for index in range(count)]


def labelled(text: str) -> tuple[str | None, str]:
    """What stands before and after the = in `NAME=WORDS`; None without a name."""
    found = LABEL.fullmatch(text.strip())
    return (found[1], found[2]) if found else (None, text.strip())


def split_words(text: str, option: str) -> list[str]:
    """Words as a shell would split them.

    Raises:
        UserError: none at all, or quotes that do not close.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r} cannot be split into words ({error})") from error
    if not words:
        raise UserError(f"{option} has an empty entry")
    return words


def _is_path(word: str) -> bool:
    return "/" in word or Path(word).is_dir()


def _dataparser(folder: Path) -> str:
    """nerfstudio's name for a folder's format."""
    if (folder / "transforms_train.json").is_file():
        return "blender-data"
    if (folder / "transforms.json").is_file():
        return "nerfstudio-data"
    raise UserError(
        f"--scenes {folder}: it holds neither transforms_train.json nor transforms.json; give the dataparser "
        f"too, as 'colmap --data {folder}'"
    )


def _read_transforms(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        frames = content["frames"]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a Blender-format scene") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no list of frames: give a Blender-format scene") from error
    if not isinstance(frames, list) or not all("file_path" in frame for frame in frames):
        raise UserError(f"{path} is no list of frames: give a Blender-format scene")
    return content
