"""The command that is noted with a result gives the same options again."""

from __future__ import annotations

import shlex

import pytest

from standalone.image.cli import COMMAND_LINE as IMAGE
from standalone.provenance import command_behind
from standalone.shape.cli import COMMAND_LINE as SHAPE

SAID = [
    ["--optimizer", "adam", "--steps", "7", "--seed", "3"],
    ["--time-limit", "1.5", "--hidden-lr", "0.02", "--lr", "1e-05"],
    ["--variants", "mlp", "siren", "--depth", "4"],
]


@pytest.mark.parametrize("said", [[], *SAID, ["--siren", "--zoom", "1", "2", "3", "--batch-size", "64"]])
def test_an_image_comparisons_command_gives_its_options_again(said: list[str]) -> None:
    options = IMAGE.parse(["compare", "photo.png", *said])
    command = command_behind("bn-image compare photo.png", options, leave_out=("image",))
    assert IMAGE.parse(shlex.split(command)[1:]) == options
    assert all(word in command for word in said if word.startswith("--"))


@pytest.mark.parametrize("said", [[], *SAID, ["--points", "512", "--norm", "none", "--repair"]])
def test_a_shape_comparisons_command_gives_its_options_again(said: list[str]) -> None:
    options = SHAPE.parse(["compare", "spot.obj", *said])
    command = command_behind("bn-shape compare spot.obj", options, leave_out=("shape",))
    assert SHAPE.parse(shlex.split(command)[1:]) == options


def test_what_is_usual_and_where_it_went_are_left_out() -> None:
    options = IMAGE.parse(
        ["compare", "photo.png", "--output-dir", "somewhere", "--resume", "--max-side", "256"]
    )
    assert command_behind("bn-image compare photo.png", options, leave_out=("image",)) == (
        "bn-image compare photo.png"
    )
