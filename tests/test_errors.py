"""A user's mistake ends a command with one line and exit status 2; other errors keep their traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bn_field_plugin.errors import UserError, exit_on_user_error
from bn_field_plugin.nn import CoordinateMLP, CoordinateMLPConfig

ROOT = Path(__file__).parents[1]


def run(body: str) -> subprocess.CompletedProcess[str]:
    """Run `body` as a command would, in an interpreter of its own."""
    names = "from bn_field_plugin.errors import *\nfrom bn_field_plugin.nn import *\n"
    script = f"{names}with exit_on_user_error():\n    {body}\nprint('after')\n"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "CoordinateMLP(CoordinateMLPConfig(norm='bach'))",
            "error: norm is 'bach': choose one of none, batch,",
        ),
        ("raise UserError('first line\\n  second line')", "error: first line second line"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(body, message):
    result = run(body)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_another_error_keeps_its_traceback():
    result = run("raise RuntimeError('a fault of ours')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_without_an_error_the_command_goes_on():
    with exit_on_user_error():
        reached = True
    assert reached


def test_a_user_error_is_a_value_error_and_exits_in_process(capsys):
    assert issubclass(UserError, ValueError)
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        CoordinateMLP(CoordinateMLPConfig(width=0))
    assert stop.value.code == 2
    assert stop.value.__suppress_context__, "the traceback would show the error again"
    assert capsys.readouterr().err == "error: width is 0: it must be at least 1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [("UserError('first\\n second')", 2, "error: first second\n"), ("KeyError('k')", 1, "KeyError: 'k'\n")],
)
def test_in_commands_of_others_a_mistake_that_nobody_catches_is_one_line(
    raised: str, status: int, told: str
) -> None:
    script = (
        "from bn_field_plugin.errors import *\nfrom bn_field_plugin.nn import *\nimport sys\n"
        "tell_uncaught_user_errors(); hook = sys.excepthook\n"
        "tell_uncaught_user_errors(); assert sys.excepthook is hook\n"
        "try:\n    raise UserError('caught')\nexcept UserError:\n    pass\n"
        f"raise {raised}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status
    assert done.stderr.endswith(told)
    assert ("Traceback" in done.stderr) is (status == 1)
