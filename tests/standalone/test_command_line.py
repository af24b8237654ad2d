"""What a program's --help costs: it says what each command does, and loads nothing of what they need."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("program", ["image", "ntk", "shape", "sweep"])
def test_help_of_a_program_loads_no_torch(program: str) -> None:
    code = (
        f"import json, sys; from standalone.{program}.cli import main\ntry: main(['--help'])\n"
        "finally: print(json.dumps([m for m in ('matplotlib', 'scipy', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("program", ["image", "ntk", "shape", "sweep"])
def test_what_stands_in_for_a_command_says_what_the_command_says(program: str) -> None:
    cli = importlib.import_module(f"standalone.{program}.cli")
    commands = cli.COMMANDS if program == "ntk" else cli.COMMAND_LINE.commands
    for name, kind in commands.items():
        stand_in = commands.stand_in(name)
        assert stand_in.__name__ == kind.__name__
        assert stand_in.__doc__.split() == kind.__doc__.split()
