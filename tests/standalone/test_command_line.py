"""A program's --help says what each command does, and loads none of the commands' modules."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys

import pytest

from standalone.command_line import modules_are_no_garbage

HEAVY = {
    "cv2",
    "matplotlib",
    "nerfstudio",
    "numba",
    "open3d",
    "plotly",
    "ray",
    "scipy",
    "skimage",
    "tensorboard",
}
HEAVY |= {"torch", "torch._dynamo", "torchmetrics", "torchvision", "trimesh", "viser", "nerfstudio.pipelines"}

HELP = """
import contextlib, io, json, sys
from standalone import doors
sys.argv = {words}
try:
    with contextlib.redirect_stdout(io.StringIO()) as told:
        doors.enter(sys.argv[0])
except SystemExit as end:
    assert end.code == 0
assert "usage: " + sys.argv[0] in told.getvalue()
print(json.dumps([name for name in {heavy} if name in sys.modules]))
"""


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        ("bn-export", set()),
        ("bn-export marching-cubes", set()),
        ("bn-image", set()),
        pytest.param("bn-image fit", {"torch"}, marks=pytest.mark.slow),
        ("bn-ntk", set()),
        ("bn-shape", set()),
        pytest.param("bn-shape fit", {"scipy", "skimage", "torch", "trimesh"}, marks=pytest.mark.slow),
        ("bn-sweep", set()),
        ("bn-sweep run", set()),
        ("bn-sweep table", set()),
        # Its options include those of nerfstudio's viewer, whose module loads these.
        pytest.param("bn-view", {"nerfstudio", "tensorboard", "torch"}, marks=pytest.mark.slow),
    ],
)
def test_help_loads_little(words: str, loaded: set[str]) -> None:
    """Importing torch takes most of a command's start, and a help text needs no network."""
    code = HELP.format(words=[*words.split(), "--help"], heavy=sorted(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) <= loaded


@pytest.mark.parametrize("program", ["image", "ntk", "shape", "sweep"])
def test_what_stands_in_for_a_command_says_what_the_command_says(program: str) -> None:
    cli = importlib.import_module(f"standalone.{program}.cli")
    commands = cli.COMMAND_LINE.commands
    for name, kind in commands.items():
        stand_in = commands.stand_in(name)
        assert stand_in.__name__ == kind.__name__
        assert stand_in.__doc__.split() == kind.__doc__.split()


def test_modules_are_loaded_without_looking_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with modules_are_no_garbage():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
