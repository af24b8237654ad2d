"""Scenes: the words that a user may give, and the views that a smaller scene keeps."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_field_plugin import UserError
from standalone.sweep.scenes import Scene, evenly, fewer_views
from tests.captures import write_blender_capture, write_nerfstudio_capture


def names(scene: Path, split: str) -> list[str]:
    return [
        frame["file_path"] for frame in json.loads((scene / f"transforms_{split}.json").read_text())["frames"]
    ]


def test_a_folder_finds_its_dataparser(tmp_path: Path) -> None:
    write_blender_capture(tmp_path / "lego")
    write_nerfstudio_capture(tmp_path / "office")
    lego, office = Scene.parse(str(tmp_path / "lego")), Scene.parse(f"mine={tmp_path / 'office'}")
    assert lego == Scene("lego", ("blender-data", "--data", str(tmp_path / "lego")))
    assert office == Scene("mine", ("nerfstudio-data", "--data", str(tmp_path / "office")))


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("bn-demo-data", Scene("bn-demo-data", ("bn-demo-data",))),
        ("colmap --data a/b", Scene("b", ("colmap", "--data", "a/b"))),
        ("x=blender-data --data 'a b' --c=1", Scene("x", ("blender-data", "--data", "a b", "--c=1"))),
    ],
)
def test_words_of_a_command_line_are_kept(text: str, scene: Scene) -> None:
    assert Scene.parse(text) == scene


def test_mistakes_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for text, message in (
        (str(tmp_path / "absent"), "no such folder"),
        (str(tmp_path / "empty"), "neither transforms_train.json nor transforms.json"),
        ("a 'b", "cannot be split"),
        ("", "empty entry"),
    ):
        with pytest.raises(UserError, match=message):
            Scene.parse(text)
    with pytest.raises(UserError, match="keeps all its views"):
        Scene.parse("bn-demo-data").fewer_views(tmp_path, test=1)
    with pytest.raises(UserError, match="cannot be read"):
        fewer_views(tmp_path / "empty", tmp_path / "out", test=1)


@given(st.integers(1, 60), st.data())
def test_chosen_items_are_even(count: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, count))
    chosen = evenly(list(range(count)), kept, "items")
    gaps = [b - a for a, b in itertools.pairwise(chosen)]
    assert len(chosen) == kept
    assert chosen[0] == 0
    assert not gaps or (min(gaps) >= count // kept and max(gaps) <= count // kept + 1)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_more_items_than_there_are_cannot_be_chosen(count: int) -> None:
    with pytest.raises(UserError, match="choose 1 to 3"):
        evenly([1, 2, 3], count, "items")


def test_a_smaller_scene_refers_to_the_images_of_the_whole_one(tmp_path: Path) -> None:
    whole = write_blender_capture(tmp_path / "whole")
    small = fewer_views(whole, tmp_path / "small", train=3, test=1)
    assert [len(names(small, split)) for split in ("train", "test")] == [3, 1]
    assert names(small, "val") == names(whole, "val")
    assert set(names(small, "train")) < set(names(whole, "train"))
    for split in ("train", "val", "test"):
        for name in names(small, split):
            assert (small / f"{name}.png").read_bytes() == (whole / f"{name}.png").read_bytes()


def test_views_that_training_leaves_are_tested_on(tmp_path: Path) -> None:
    whole = write_blender_capture(tmp_path / "whole")
    small = fewer_views(whole, tmp_path / "small", train=2, test_on="all")
    train, test = set(names(small, "train")), set(names(small, "test"))
    assert not train & test
    assert train | test == {*names(whole, "train"), *names(whole, "test")}
    rest = set(names(fewer_views(whole, tmp_path / "rest", train=2, test_on="rest"), "test"))
    assert rest == set(names(whole, "train")) - train


def test_a_smaller_scene_follows_one_that_has_moved(tmp_path: Path) -> None:
    whole = write_blender_capture(tmp_path / "whole")
    fewer_views(whole, tmp_path / "small", test=1)
    moved = whole.rename(tmp_path / "moved")
    small = fewer_views(moved, tmp_path / "small", test=1)
    assert all((small / f"{name}.png").is_file() for name in names(small, "train"))
